#!/bin/sh
# banned.sh - functions that have no place here, each with what to use instead. Comments do not count.
set -u
failed=0
# FUNCTION-PATTERN  what instead
banned='
strcpy|strcat|stpcpy            memcpy with a known length, or buf_add
strncpy|strncat                 memcpy with a known length (strncpy leaves strings open)
sprintf|vsprintf                snprintf, arena_format or buf_format
gets|scanf                      strtoull and friends with their end pointer, or our parsers
atoi|atol|atoll|atof            strtol and friends with their end pointer
strtok|strtok_r                 a loop over the bytes
alloca                          the arena
system|popen                    nothing: no shell is started from here
tmpnam|tempnam|mktemp           mkstemp in a directory of our own
rand|srand|random|drand48       philox (numbers) or libsodium (secrets)
assert                          require() for our mistakes, struct err for input
'
for f in $(find storage index server client -name '*.[ch]' | sort); do
    # The preprocessor takes the comments out and leaves lines where they were.
    code=$(gcc -fpreprocessed -dD -E -w "$f" 2>/dev/null | sed 's/"\(\\.\|[^"\\]\)*"/""/g')
    while read -r pattern instead; do
        [ -n "$pattern" ] || continue
        hits=$(echo "$code" | grep -naE "(^|[^a-zA-Z0-9_>.])($pattern)[[:space:]]*\(") || continue
        echo "$hits" | while read -r hit; do
            echo "$f: ${hit#*:}: use $instead"
        done
        failed=1
    done <<LIST
$banned
LIST
done
exit $failed
