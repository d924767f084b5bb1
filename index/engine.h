/* engine.h - what an exact search is asked, and what it needs from whoever has the bytes.
 *
 * The index never sees storage: it declares a source of blocks, the server brings one. A block is
 * open only while one thread works on it.
 */
#ifndef INDEX_ENGINE_H
#define INDEX_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/topk.h"
#include "storage/base/dtype.h"
#include "storage/base/err.h"

/* Rows of one immutable chunk. */
struct engine_block {
    uint64_t key;          /* the chunk's id: never reused for other content; caches go by it */
    uint32_t rows;
    const void *encodings; /* rows x dim of the dtype, unit vectors */
    const uint64_t *dead;  /* bitmap, NULL when none */
    const void *ctx;       /* the source's own */
};

struct engine_source {
    void *arg;
    size_t count;    /* blocks */
    size_t dim;
    enum dtype dtype;
    /* Opens block i on this thread; close on the same one. */
    int (*open)(void *arg, size_t i, struct engine_block *out, struct err *e);
    void (*close)(void *arg, struct engine_block *b);
    uint64_t (*sequence)(const struct engine_block *b, uint32_t row);
    bool (*cancelled)(void *arg); /* asked between blocks; then the search ends with CANCELLED */
    /* What the cache needs before it opens anything: key and rows of block i. */
    uint64_t (*key)(void *arg, size_t i);
};

/* A batch of queries over one source. Each thread runs engine work on blocks it takes from a shared
 * counter, into lists of its own; lists are merged after (topk_merge). */
struct engine_query {
    const float *vectors; /* count x dim, unit, float32 */
    size_t count;
    size_t k, opponents; /* k >= 0; 0 = that end is not asked */
};

/* What a search read, for the answer and the metrics. Summed over threads. Rows are counted once a
 dot product computed. */
struct engine_work {
    uint64_t rows_proposed; /* seen by the proposing engine */
    uint64_t rows_exact;    /* scored by the exact kernel */
    uint64_t blocks, blocks_widened; /* widened: the margin had to grow */
    uint64_t rows_bits, rows_six, rows_low; /* read in the planes of engine tiered (index/code.h) */
};

#endif
