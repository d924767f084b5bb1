#!/bin/sh
# size.sh - a report, never a failure: files over 450 lines, functions over 70, lines over 100 columns.
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
awk '{ n = length($0) } n > 100 { printf "      %5d columns %s:%d\n", n, FILENAME, FNR }' $files | head -12
exit 0
