# output/penguins.csv -> output/species/<species>.csv

BEGIN {
	FS = ","
	if (system("mkdir -p output/species") != 0) exit 1
}

NR == 1 { header = $0; next }

{
	if ($2 !~ /^[A-Za-z]+$/) {
		print "split: line " NR ": \"" $2 "\" cannot name a file" > "/dev/stderr"
		failed = 1
		exit 1
	}
	file = "output/species/" tolower($2) ".csv"
	if (!(file in begun)) {
		begun[file] = 1
		print header > file
		print "wrote " file
		files++
	}
	print > file
}

END {
	if (failed) exit 1
	print files " species"
}
