/* rows.h - what the benchmark programs scan: unit float32 rows, from a file or made up, shown to
 * the engines as blocks. Any thread may read; die() ends the program. */
#ifndef TESTS_BENCH_ROWS_H
#define TESTS_BENCH_ROWS_H

#include "index/engine.h"

struct rows {
    const float *at; /* count x dim */
    size_t count, dim;
    size_t per_block;
    size_t mapped; /* bytes, when the file is mapped; 0: allocated */
};

__attribute__((noreturn, format(printf, 1, 2))) void die(const char *fmt, ...);

/* CLOCK_MONOTONIC in milliseconds. */
double milliseconds(void);

/* Maps a file of raw float32, row-major; at most `most` rows of it (0: all). The pages are read in
 * here, so that no measurement pays for the disk. */
struct rows rows_open(const char *path, size_t dim, size_t most, size_t chunk_bytes);

/* Made-up rows as real encodings lie: seeded unit deviates, and about twenty of them on each of
 * `topics` common directions, so that rows of one topic have products near 0.1 and all others near
 * 0. Queries are rows of another `stream` over the same topics. */
struct rows rows_make(size_t count, size_t dim, size_t topics, uint32_t stream, size_t threads,
                      size_t chunk_bytes);

void rows_free(struct rows *r);

/* The rows as a source; `r` outlives it. Sequence = row number; key = block number + 1. */
struct engine_source rows_source(const struct rows *r);

#endif
