# output/species/*.csv -> output/histograms/<species>.csv
#
# Body mass in steps of 500 g, one table for each species.
set -eu

mkdir -p output/histograms
tables=0
for file in output/species/*.csv; do
	[ -f "$file" ] || { echo "histograms: there is no output/species/*.csv" >&2; exit 1; }
	name=${file##*/}
	awk -f analysis/disclosure.awk -f analysis/histogram.awk "$file" >"output/histograms/$name"
	echo "wrote output/histograms/$name: $(($(wc -l <"output/histograms/$name") - 1)) steps"
	tables=$((tables + 1))
done
echo "made $tables tables"
