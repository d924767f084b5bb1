#!/bin/sh
# tests/bench/run.sh [BUILD] - the server's figures, side by side with what they are measured against:
# ingest with dd on the same disk, query latency with the server's own clock, engine flat with FAISS
# called directly, ready time on restart. Prints tables, appends JSON lines to build/bench/results.jsonl.
#
# Sizes by environment: BENCH_ROWS (20000), BENCH_DIM (16384), BENCH_DTYPE (f32), BENCH_BATCH (rows a
# batch, 250), BENCH_CLIENTS (2, ingesting), BENCH_QUERIES (40 a client), BENCH_DIR (where the stores lie; the disk that is measured).
# Data: the encodings of `make demo` when they are there in full, else seeded normal deviates; the
# first line says which.
set -eu
cd "$(dirname "$0")/../.."
build=${1:-build/release}
[ -x "$build/ascribed" ] || {
    echo "$build/ascribed is not built: make all" >&2
    exit 1
}
mkdir -p build/bench
ASCRIBE_BUILD=$build exec /usr/bin/python3 tests/bench/bench.py --build "$build" "$@"
