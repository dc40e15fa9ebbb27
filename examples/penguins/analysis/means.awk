# output/penguins.csv -> output/means.csv
#
# Bill length and body mass by species and sex. No means of a whole species: the
# redacted groups could be had from them. Use with disclosure.awk.

BEGIN { FS = "," }

NR > 1 {
	group = $2 "," $8
	if (!(group in n)) order[++groups] = group
	n[group]++
	bill[group] += $4
	mass[group] += $7
}

END {
	if (system("mkdir -p output") != 0) exit 1
	file = "output/means.csv"
	print "species,sex,penguins,bill_length_mm,body_mass_g" > file
	close(file)
	for (i = 1; i <= groups; i++) {
		g = order[i]
		if (small(n[g])) {
			print g ",[REDACTED],[REDACTED],[REDACTED]" | ("sort >>" file)
			redacted++
			continue
		}
		printf "%s,%d,%.1f,%.0f\n", g, rounded(n[g]), bill[g] / n[g], mass[g] / n[g] | ("sort >>" file)
	}
	if (close("sort >>" file) != 0) exit 1
	printf "wrote %s: %d groups, %d of them redacted\n", file, groups, redacted
}
