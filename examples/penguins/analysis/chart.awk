# output/means.csv -> output/body_mass.svg
#
# A bar for each species and sex. A group that was redacted has no bar.

BEGIN {
	FS = ","
	colour["Adelie,female"] = "#ffb266"; colour["Adelie,male"] = "#e67300"
	colour["Chinstrap,female"] = "#c78ae8"; colour["Chinstrap,male"] = "#8b2fc9"
	colour["Gentoo,female"] = "#5fb3b3"; colour["Gentoo,male"] = "#057076"
	left = 70; top = 50; height = 260; bar = 54; gap = 36; highest = 6000
}

NR > 1 && ($2 == "female" || $2 == "male") && $5 != "[REDACTED]" {
	bars++
	species[bars] = $1; sex[bars] = $2; mass[bars] = $5
}

END {
	if (!bars) {
		print "chart: there is no group to draw" > "/dev/stderr"
		exit 1
	}
	if (system("mkdir -p output") != 0) exit 1
	file = "output/body_mass.svg"
	for (i = 1; i <= bars; i++) {
		if (i > 1) x += bar + (species[i] == species[i - 1] ? 4 : gap)
		at[i] = left + 20 + x
	}
	width = at[bars] + bar + 30
	bottom = top + height

	printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\" role=\"img\">\n", width, bottom + 60, width, bottom + 60 > file
	print "<title>Mean body mass of penguins, by species and sex</title>" > file
	printf "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", width, bottom + 60 > file
	printf "<text x=\"%d\" y=\"26\" font-size=\"16\" fill=\"#222\">Mean body mass (g)</text>\n", left > file
	for (g = 0; g <= highest; g += 1000) {
		y = bottom - height * g / highest
		printf "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n", left, width - 20, y, y, (g ? "#ddd" : "#555") > file
		printf "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\" fill=\"#555\">%d</text>\n", left - 8, y + 4, g > file
	}
	for (i = 1; i <= bars; i++) {
		h = height * mass[i] / highest
		fill = (species[i] "," sex[i]) in colour ? colour[species[i] "," sex[i]] : "#888"
		printf "<rect x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" fill=\"%s\"/>\n", at[i], bottom - h, bar, h, fill > file
		middle = at[i] + bar / 2
		printf "<text x=\"%d\" y=\"%.1f\" text-anchor=\"middle\" fill=\"#222\">%d</text>\n", middle, bottom - h - 6, mass[i] > file
		printf "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" fill=\"#555\">%s</text>\n", middle, bottom + 18, sex[i] > file
		if (i == bars || species[i + 1] != species[i]) {
			for (first = i; first > 1 && species[first - 1] == species[i]; first--);
			printf "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\" font-size=\"14\" fill=\"#222\">%s</text>\n", (at[first] + at[i] + bar) / 2, bottom + 42, species[i] > file
		}
	}
	print "</svg>" > file
	printf "wrote %s: %d bars\n", file, bars
}
