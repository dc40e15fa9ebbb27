# The tables and the chart -> output/report.md, output/report.html
set -eu

for file in output/counts.csv output/means.csv output/body_mass.svg; do
	[ -s "$file" ] || { echo "report: $file is missing" >&2; exit 1; }
done

# table FORMAT FILE: a csv file as a table of Markdown or HTML.
table() { awk -v format="$1" -f analysis/table.awk "$2"; }

species() { # of a histogram's file: its name, with a capital
	name=${1##*/}
	name=${name%.csv}
	echo "$(echo "$name" | cut -c1 | tr a-z A-Z)$(echo "$name" | cut -c2-)"
}

title='Penguins of the Palmer Archipelago'
note='Groups of fewer than 8 penguins are redacted; other counts are rounded to the nearest 5.'

{
	printf '# %s\n\n%s\n' "$title" "$note"
	printf '\n## Bill length and body mass\n\n'
	table markdown output/means.csv
	printf '\n![Mean body mass by species and sex](body_mass.svg)\n'
	printf '\n## Penguins by species, island and sex\n\n'
	table markdown output/counts.csv
	for file in output/histograms/*.csv; do
		printf '\n## Body mass of %s penguins\n\n' "$(species "$file")"
		table markdown "$file"
	done
} >output/report.md

{
	printf '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>%s</title>\n' "$title"
	cat <<'STYLE'
<style>
body { max-width: 44rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 sans-serif; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .2rem .8rem; border-bottom: 1px solid #ddd; text-align: left }
td.number, th.number { text-align: right }
svg { max-width: 100%; height: auto }
</style>
STYLE
	printf '<h1>%s</h1>\n<p>%s</p>\n' "$title" "$note"
	printf '<h2>Bill length and body mass</h2>\n'
	table html output/means.csv
	cat output/body_mass.svg
	printf '<h2>Penguins by species, island and sex</h2>\n'
	table html output/counts.csv
	for file in output/histograms/*.csv; do
		printf '<h2>Body mass of %s penguins</h2>\n' "$(species "$file")"
		table html "$file"
	done
	printf '</html>\n'
} >output/report.html

echo "wrote output/report.md: $(grep -c '^## ' output/report.md) sections"
echo "wrote output/report.html: $(wc -c <output/report.html) bytes"
