#!/bin/sh
# size.sh - fails on lines over 100 columns; files over 450 lines and functions over 70 are a report.
# "Files of about 150-450 lines, functions of 10-25: ask why at 600 and 70."
set -u
files=$(find storage index server client -name '*.[ch]' | sort)
[ -n "$files" ] || exit 0
echo "sizes ($(echo "$files" | wc -l) files, $(cat $files | wc -l) lines of C):"
wc -l $files | awk '$2 != "total" && $1 > 450 { printf "      %5d lines   %s\n", $1, $2 }' | sort -rn | head -12
# A function opens with { in column 1 and ends with } in column 1 (Linux style).
awk 'FNR == 1 { open = 0; head = "" }
     /^\{/ { open = FNR; name = head }
     /^\}/ && open { if (FNR - open > 70) printf "      %5d lines   %s:%d %s\n", FNR - open, FILENAME, open, name; open = 0 }
     /^[a-z].*\(/ && !open { head = $0; sub(/\(.*/, "", head); sub(/.*[ *]/, "", head) }' $files | sort -rn | head -12
# Characters, not bytes, in any locale: continuation bytes of UTF-8 do not count.
long=$(LC_ALL=C awk '{ n = gsub(/[\001-\177\300-\377]/, "&") } n > 100 { printf "%s:%d: %d columns\n", FILENAME, FNR, n }' $files)
[ -z "$long" ] || {
    echo "$long"
    exit 1
}
