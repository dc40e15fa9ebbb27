# One species' penguins -> a histogram of their body mass, on the standard
# output. Use with disclosure.awk.

BEGIN { FS = ","; step = 500 }

NR > 1 {
	bin = int($7 / step)
	n[bin]++
	if (!first || bin < first) first = bin
	if (bin > last) last = bin
}

END {
	print "from_g,to_g,penguins"
	for (b = first; b <= last; b++) print b * step "," (b + 1) * step "," rounded(n[b] + 0)
}
