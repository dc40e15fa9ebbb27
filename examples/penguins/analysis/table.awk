# A csv file -> a table of Markdown or HTML (-v format=…), on the standard
# output. The columns that hold numbers stand to the right.

BEGIN { FS = "," }

NR == 1 {
	for (i = 1; i <= NF; i++) {
		title[i] = $i
		gsub(/_/, " ", title[i])
		number[i] = $i ~ /^(penguins|from_g|to_g|bill_length_mm|body_mass_g)$/
	}
	columns = NF
	head()
	next
}

{ row() }

END { if (format == "html") print "</table>" }

function head(   i, line, rule) {
	if (format == "html") {
		printf "<table>\n<tr>"
		for (i = 1; i <= columns; i++) printf "<th%s>%s</th>", class(i), escape(title[i])
		print "</tr>"
		return
	}
	for (i = 1; i <= columns; i++) {
		line = line "| " title[i] " "
		rule = rule (number[i] ? "| ---: " : "| --- ")
	}
	print line "|"
	print rule "|"
}

function row(   i, line) {
	if (format == "html") {
		printf "<tr>"
		for (i = 1; i <= columns; i++) printf "<td%s>%s</td>", class(i), escape($i)
		print "</tr>"
		return
	}
	for (i = 1; i <= columns; i++) line = line "| " $i " "
	print line "|"
}

function class(i) { return number[i] ? " class=\"number\"" : "" }

function escape(s) {
	gsub(/&/, "\\&amp;", s)
	gsub(/</, "\\&lt;", s)
	return s
}
