#!/bin/sh
# page_files.sh OUT.c NAME=FILE... - writes the table of server/page.h: each file's bytes by .incbin (a C
# array of as many numbers would take the compiler seconds), its type by its ending, its tag by its hash.
set -eu
out=$1
shift

type_of() {
    case $1 in
    *.html) echo "text/html; charset=utf-8" ;;
    *.css) echo "text/css; charset=utf-8" ;;
    *.js) echo "text/javascript; charset=utf-8" ;;
    *.svg) echo "image/svg+xml" ;;
    *)
        echo "page_files.sh: $1: no type is known for this ending" >&2
        exit 1
        ;;
    esac
}

{
    echo '/* made by server/page_files.sh */'
    echo '#include "server/page.h"'
    n=0
    for pair in "$@"; do
        printf '__asm__(".section .rodata\\npage_%d:\\n.incbin \\"%s\\"\\npage_%d_end:\\n.byte 0\\n.previous\\n");\n' \
            "$n" "${pair#*=}" "$n"
        printf 'extern const unsigned char page_%d[], page_%d_end[];\n' "$n" "$n"
        n=$((n + 1))
    done
    echo 'const struct page_file page_files[] = {'
    n=0
    for pair in "$@"; do
        type=$(type_of "${pair%%=*}")
        tag=$(sha256sum <"${pair#*=}" | cut -c1-20)
        printf '    {"%s", "%s", "\\"%s\\"", page_%d, page_%d_end},\n' "${pair%%=*}" "$type" "$tag" "$n" "$n"
        n=$((n + 1))
    done
    echo '};'
    echo "const size_t page_file_count = $n;"
} >"$out.part"
mv "$out.part" "$out"
