# data/penguins.csv -> output/penguins.csv, output/dropped.csv
#
# Gives every penguin a number, checks what the others rely on, and sets aside
# those that were not measured.

BEGIN {
	FS = OFS = ","
	columns = "species,island,bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g,sex"
	if (system("mkdir -p output") != 0) fail("cannot make the folder output")
}

{ sub(/\r$/, "") }

NR == 1 {
	if ($0 != columns) fail("the columns are " $0 "; want " columns)
	print "penguin_id", $0 > "output/penguins.csv"
	print "penguin_id", $0 > "output/dropped.csv"
	next
}

NF != 7 { fail("line " NR " has " NF " fields; want 7") }

$3 == "NA" || $6 == "NA" {
	print NR - 1, $0 > "output/dropped.csv"
	next
}

{
	if ($3 + 0 < 20 || $3 + 0 > 80) fail("line " NR ": a bill of " $3 " mm")
	if ($6 + 0 < 2000 || $6 + 0 > 8000) fail("line " NR ": a body mass of " $6 " g")
	if ($7 == "NA") $7 = "unknown"
	print NR - 1, $0 > "output/penguins.csv"
	kept++
	if (!($1 in seen)) { seen[$1] = 1; species++ }
}

END {
	if (failed) exit 1
	if (!kept) fail("there are no penguins")
	# The log is moderately sensitive, too: it must not tell how few were dropped.
	printf "read %s: %d rows, %d species\n", FILENAME, NR - 1, species
	print "wrote output/penguins.csv, and those that were not measured to output/dropped.csv"
}

function fail(why) {
	print "extract: " why > "/dev/stderr"
	failed = 1
	exit 1
}
