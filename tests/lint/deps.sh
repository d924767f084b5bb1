#!/bin/sh
# deps.sh BUILD - who may know whom (docs/architecture.md, "The house").
#   1. by the #include lines of every folder: own paths are full ones and point downwards, and each
#      foreign library is named only where the house says;
#   2. by nm: what an archive needs from outside is what its layer may use.
set -u
build=${1:-build/release}
failed=0
complain() {
    echo "$*"
    failed=1
}

# folder_files DIR: its own C files, not those of folders below.
folder_files() {
    [ ! -d "$1" ] || find "$1" -maxdepth 1 -name '*.[ch]' | sort
}

# own DIR PATTERN: every "..." include of DIR's files must match.
own() {
    for f in $(folder_files "$1"); do
        grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "$f" | grep -vE "\"($2)\"" | while read -r line; do
            echo "$f:${line%%:*}: ${line#*:}: not allowed in $1/"
        done
    done
}

# foreign HEADER-PATTERN FILE-PATTERN: <HEADER> may be included by matching files only.
foreign() {
    grep -rnE "^[[:space:]]*#[[:space:]]*include[[:space:]]*<($1)>" storage index server client --include='*.[ch]' |
        grep -vE "^($2):" | sed 's/$/: this library is not for this file/'
}

report=$(
    own storage/base 'storage/base/[a-z0-9_]+\.h'
    own storage 'storage/(base/)?[a-z0-9_]+\.h'
    own index '((index|storage/base)/[a-z0-9_]+\.h|index/[a-z0-9_]+\.inc)'
    own server '(server|storage|storage/base|index)/[a-z0-9_]+\.h'
    own client 'client/[a-z0-9_]+\.h'
    own client/cli 'client/(cli/)?[a-z0-9_]+\.h'
    own client/lm '((client|client/lm|index|storage/base)/[a-z0-9_]+\.h|client/lm/[a-z_]+\.inc)'
    own tests/unit/base '(tests|tests/unit|storage/base)/[a-z0-9_]+\.h'
    own tests/unit/storage '(tests|tests/unit|tests/unit/storage|storage|storage/base)/[a-z0-9_]+\.h'
    own tests/unit/index '(tests|tests/unit|tests/unit/index|index|storage/base)/[a-z0-9_]+\.h'
    own tests/unit/client '((tests|tests/unit|tests/unit/client|client)/[a-z0-9_]+\.h|client/cli/[a-z0-9_]+\.[ch])'
    foreign 'lmdb\.h' 'storage/(db|txn)\.c'
    foreign 'zstd\.h' 'storage/[a-z_]+\.c'
    foreign 'xxhash\.h' '(storage|client|client/cli|client/lm)/[a-z_]+\.[ch]'
    foreign 'faiss/.*' 'index/flat\.c'
    foreign '(cblas|lapacke|openblas/.*|omp)\.h' '(index|client/lm)/[a-z_0-9]+\.c'
    foreign 'uv\.h' 'server/((server|conn)\.h|(server|listen|conn(_[a-z]+)?|encoder_process|stream)\.c)'
    foreign 'llhttp\.h' 'server/head\.[ch]'
    foreign 'jansson\.h' '(server|client|client/cli|client/lm)/[a-z_]+\.[ch]'
    foreign 'ini\.h' 'server/config\.c'
    foreign 'sodium\.h' 'server/[a-z_]+\.c'
    foreign 'sqlite3\.h' 'server/textdb\.c'
    foreign 'curl/.*' 'client/[a-z_]+\.c'
)
[ -z "$report" ] || complain "$report"

# needs ARCHIVE: the symbols it takes from outside itself.
needs() {
    nm -g "$1" 2>/dev/null | awk '
        $1 == "U" { need[$2] = 1 }
        $2 ~ /^[TDBRVWC]$/ { have[$3] = 1 }
        END { for (s in need) if (!(s in have)) print s }' | sort
}

# never ARCHIVE PATTERN: no symbol of that kind is needed by it.
never() {
    if [ ! -f "$build/$1" ]; then
        complain "$build/$1: not built"
        return
    fi
    found=$(needs "$build/$1" | grep -E "^($2)" | tr '\n' ' ')
    [ -z "$found" ] || complain "$build/$1: needs $found"
}
never libbase.a 'mdb_|uv_|faiss_|cblas_|ZSTD_|XXH|json_|curl_|sodium_|crypto_|store_|corpus_|shard_|kern|flat_'
never libstorage.a 'uv_|faiss_|cblas_|llhttp_|json_|curl_|crypto_|kern|flat_|topk_|vec_|job_|route_'
never libindex.a 'mdb_|uv_|llhttp_|ZSTD_|json_|curl_|crypto_|store_|corpus_|view_|block_|commit_|job_|route_'
never libserver.a 'mdb_|faiss_|cblas_|ZSTD_|curl_|ascribe_'
never libascribe.a 'mdb_|uv_|faiss_|cblas_|llhttp_|ZSTD_|crypto_|store_|corpus_|kern|flat_|job_|err_|buf_'
never liblm.a 'mdb_|uv_|faiss_|llhttp_|ZSTD_|store_|corpus_|flat_|job_'

# needed_only SYMBOLS OBJECT-PATTERN DIR: only those objects of DIR need such symbols.
needed_only() {
    find "$build/$3" -maxdepth 1 -name '*.o' 2>/dev/null | sort | while read -r o; do
        nm -u "$o" | grep -qE "[[:space:]]($1)" || continue
        stem=$(basename "$o" .o)
        [ -f "$3/$stem.c" ] || continue # a leftover of a file that is gone
        echo "$stem" | grep -qE "^($2)\$" || echo "$3/$stem.c: names $1"
    done
}
report=$(
    needed_only 'mdb_' 'db|txn' storage
    needed_only 'faiss_' 'flat' index
    needed_only 'uv_' 'server|listen|conn(_[a-z]+)?|encoder_process|stream' server
    needed_only 'llhttp_' 'head' server
)
[ -z "$report" ] || complain "$report"
exit $failed
