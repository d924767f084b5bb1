/* tier.h - engine `tiered`: codes of few bits say which rows can be among the k best, the exact
 * kernel scores those. The answer is that of flat_search_plain to the bit; only the cost varies.
 *
 * certified: the six-bit plane bounds every row deterministically, two more bits bound the few that
 * are left, the exact kernel decides; for many queries all eight bits are joined and multiplied at
 * once. probabilistic: one bit a dimension first (six for more than
 * two queries or opponents), with bounds that all hold but with probability at most delta a query
 * over all its rows, if the rotation acts as a uniformly random one. docs/exactness.md states and
 * proves both, docs/adr/0008 says why so.
 *
 * The index never sees storage: the server brings a source of blocks. A row without a code is
 * scored by the exact kernel.
 */
#ifndef INDEX_TIER_H
#define INDEX_TIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/engine.h"
#include "index/topk.h"
#include "storage/base/dtype.h"
#include "storage/base/err.h"

enum tier_precision { TIER_CERTIFIED, TIER_PROBABILISTIC };

/* What makes a score of the product of a row and a query vector (the exact kernel's, float64):
 * itself; lens_score(dot, weight), the row's denominator under a task, > 0; or exact_scale(dot,
 * weight, length), the row's length and the query's, >= 0. All finite. */
enum tier_measure { TIER_COSINE, TIER_DIVIDED, TIER_SCALED };

enum tier_plane { TIER_BITS, TIER_SIX, TIER_LOW, TIER_FACTORS, TIER_ENCODINGS, TIER_PLANES };

/* One immutable chunk, open on one thread. */
struct tier_block {
    uint32_t rows;
    bool coded;            /* the planes of index/code.h are there */
    const uint64_t *dead;  /* bitmap, NULL when none */
    const double *weights; /* one a row; unused for TIER_COSINE */
    void *ctx;             /* the source's own */
};

struct tier_source {
    void *arg;
    size_t count; /* blocks */
    size_t dim;
    enum dtype dtype;
    /* Opens block i on this thread and reads no plane yet: cheap, a block may be opened again for a
     * single row. At most two are open at a time on one thread; close on the same one. */
    int (*open)(void *arg, size_t i, struct tier_block *out, struct err *e);
    void (*close)(void *arg, struct tier_block *b);
    /* Bytes of a whole plane, valid until close; asked once a plane while a block is open. The
     * first four as in index/code.h, and only of coded blocks. */
    int (*plane)(void *arg, struct tier_block *b, enum tier_plane p, const unsigned char **out,
                 struct err *e);
    /* NULL, or told of bytes of an open plane that will be read soon, and few others of it. */
    void (*ahead)(void *arg, struct tier_block *b, enum tier_plane p, size_t from, size_t len);
    /* The encoding of one row, valid until the next call of `row` or close. */
    int (*row)(void *arg, struct tier_block *b, uint32_t row, const void **out, struct err *e);
    int (*sequence)(void *arg, struct tier_block *b, uint32_t row, uint64_t *out, struct err *e);
    /* Asked between blocks, and now and then while rows are settled (with blocks open): then the
     * search ends with CANCELLED. NULL: never. */
    bool (*cancelled)(void *arg);
};

struct tier_query {
    const float *vectors;  /* count x dim float32, finite, of any length; kept by the caller */
    size_t count;
    size_t k, opponents;   /* 0 = that end is not asked */
    /* Of each query, at most k and opponents, 0 too; NULL: those for all. A list's k is its
     * query's. */
    const size_t *each_k, *each_opponents;
    enum tier_measure measure;
    const double *lengths; /* of the queries, for TIER_SCALED */
    enum tier_precision precision;
    double delta;          /* for TIER_PROBABILISTIC: in (0, 1/2] */
    size_t eight;          /* certified: eight bits at once from so many queries; 0: as it pays */
    uint64_t live;         /* rows that are not dead, over all blocks (or more) */
    unsigned threads;      /* that will call tier_share: memory is divided by it */
    size_t memory;         /* bytes that all threads may take for rows in work; 0: 128 MiB */
};

/* One search: its queries prepared, the scores to beat, the counter that deals blocks. */
struct tier;

/* Prepares a search; what `src` and `q` point to must stay until tier_free. BUSY: no memory. */
int tier_new(const struct tier_source *src, const struct tier_query *q, struct tier **out,
             struct err *e);
void tier_free(struct tier *t); /* NULL is fine */

/* What the answer is, once a share has returned: certified too when so many rows are asked for
 * that all are scored. */
enum tier_precision tier_precision(const struct tier *t);

/* True when the search reads this plane of every row: bits; six; or, for many queries, six and low.
 * The others are for the rows that those leave. */
bool tier_reads_all(const struct tier *t, enum tier_plane p);

/* One thread's share: takes blocks until none is left and leaves its best in pro[i] / opp[i]
 * (empty lists, initialised by the caller with k and opponents slots; NULL for an end that is
 * not asked). Any number of threads, at any time; each with lists of its own. When all have
 * returned 0, merged lists (topk_merge) are the exact answer. work: summed up over rows and
 * queries (engine.h). BUSY when there is no memory, CANCELLED, or what the source said; then the
 * lists hold nothing of use. */
int tier_share(struct tier *t, struct topk *pro, struct topk *opp, struct engine_work *work,
               struct err *e);

/* True when the engine takes vectors of this dimension. */
bool tier_takes(size_t dim);

#endif
