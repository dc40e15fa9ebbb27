# output/penguins.csv -> output/counts.csv
#
# Penguins by species, island and sex. Use with disclosure.awk.

BEGIN { FS = "," }

NR > 1 {
	group = $2 "," $3 "," $8
	if (!(group in n)) order[++groups] = group
	n[group]++
}

END {
	if (system("mkdir -p output") != 0) exit 1
	file = "output/counts.csv"
	print "species,island,sex,penguins" > file
	close(file)
	for (i = 1; i <= groups; i++) {
		print order[i] "," rounded(n[order[i]]) | ("sort >>" file)
		if (small(n[order[i]])) redacted++
	}
	if (close("sort >>" file) != 0) exit 1
	printf "wrote %s: %d groups, %d of them redacted\n", file, groups, redacted
}
