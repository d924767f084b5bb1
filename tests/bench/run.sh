#!/bin/sh
# tests/bench/run.sh BUILD standard|large [OPTIONS of bench.py] - ascribe beside what it is measured
# against, in one run, on the same rows, memory and disk, answers compared.
#
# standard: 20,000 x 16,384 real encodings. Every engine and every peer in process, one query and 256;
#   both ends; bytes and rate by tier against the memory's own; then over HTTP: ingest with codes against
#   dd, latency, 1, 8 and 64 clients, memory, restart; a task.
# large: the same in process and over HTTP at 10,000 x 65,536, scaling in rows, dimensions, k, batch
#   and threads on made-up rows, every kernel alone, and a store larger than the memory it may use.
#
# Encodings are made by the product itself when they are not in build/bench/data (tests/bench/data.py; minutes,
# once). Peers: FAISS through its C API, Debian's python3-faiss, USearch and LanceDB through npm; one that
# cannot be had is named and left out. Figures go to the terminal and, an object a line, to
# build/bench/results.jsonl; tests/bench/report.py makes docs/performance.md of them. BENCH_DIR: where
# scratch stores lie, the disk that is measured (build/bench).
set -eu
cd "$(dirname "$0")/../.."
build=${1:-build/release}
size=${2:-standard}
[ $# -gt 2 ] && shift 2 || shift $#
[ -x "$build/ascribed" ] || {
    echo "$build/ascribed is not built: make all" >&2
    exit 1
}
export ASCRIBE_BUILD="$build"
bench() {
    /usr/bin/python3 tests/bench/bench.py "$@"
}
case $size in
large)
    bench --size large "$@"
    bench --size standard --only machine,kernels,scaling,larger "$@"
    ;;
*) bench --size "$size" "$@" ;;
esac
