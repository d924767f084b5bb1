#!/bin/sh
# names.sh BUILD - what x.c exports starts with x_ (or is x itself); x_y.c, a further file of x, exports
# x_ as well; api_x.c exports x_ or api_x_. Everything else is static. The exceptions are listed here, each with its reason.
set -u
build=${1:-build/release}
failed=0

# FILE SYMBOL-PATTERN: tables that another file's header declares.
allowed='
storage/base/bytes buf_.*            the growable buffer of bytes.h
storage/base/mem arena_.*            the arena of mem.h
index/kern kern_.*                   the table in use
storage/define store_corpus_.*       store.h in three files: the store, its corpora, its records
storage/record store_record_.*
storage/corpus view_.*               the views of corpus.h
storage/annex view_.*                what a view says of its annexes
storage/txn cursor_.*                a cursor lives in its transaction
storage/backup restore_store         the way back, in maintain.h
server/http chunked_.*               the chunked decoder of http.h
server/routes route_(table|count)    the table that route.h declares
server/main main                     the program
client/cli/main main                 the program
client/lm/main main                  the program
'
is_allowed() { # FILE SYMBOL
    echo "$allowed" | while read -r file pattern _; do
        [ "$file" = "$1" ] && echo "$2" | grep -qxE "$pattern" && echo yes
    done | grep -q yes
}

for dir in storage/base storage index server client client/cli client/lm; do
    for c in "$dir"/*.c; do
        [ -f "$c" ] || continue
        stem=$(basename "$c" .c)
        o="$build/$dir/$stem.o"
        if [ ! -f "$o" ]; then
            echo "$c: not built in $build"
            failed=1
            continue
        fi
        prefix="${stem#api_}|${stem%%_*}"
        [ "$dir" = client ] && prefix=asc # a library's names: asc_ public, asc__ between its files
        for symbol in $(nm -g --defined-only "$o" | awk '$2 ~ /^[TDBRC]$/ { print $3 }'); do
            echo "$symbol" | grep -qE "^(api_)?($prefix)(_|\$)" && continue
            is_allowed "$dir/$stem" "$symbol" && continue
            echo "$c: exports $symbol: static, or a name that starts with ${stem}_"
            failed=1
        done
    done
done
exit $failed
