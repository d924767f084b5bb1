/* scan.h - the bridge from storage to the engines: a view's chunks become an engine's blocks, a
 * search is spread over the idle readers, lists are merged. Damage is an error that names the
 * chunk, never a shorter answer. Reader threads. */
#ifndef SERVER_SCAN_H
#define SERVER_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/engine.h"
#include "server/stop.h"
#include "storage/base/err.h"
#include "storage/base/mem.h"
#include "storage/corpus.h"

struct pool;
struct flat;
struct lensed;

/* How the exact answer is found; the answer itself never depends on it. flat: FAISS proposes, the
 * exact kernel decides (index/flat.h). scan: the exact kernel over every live row, in place. auto
 * takes scan under a task, for dot products, where a filter leaves few rows, and for fewer queries
 * than FAISS takes to BLAS with, which it would run row by row and slower (docs/performance.md). */
enum scan_engine { SCAN_AUTO, SCAN_FLAT, SCAN_EXACT };
enum { SCAN_BLAS_QUERIES = 20 }; /* FAISS 1.7.3: distance_compute_blas_threshold */

/* "auto", "flat", "scan"; false when it is none of them. */
bool scan_engine_named(const char *name, enum scan_engine *out);

/* How many of each end one query is asked for. */
struct scan_depth {
    size_t k, opponents;
};

/* What a search runs on. pool NULL: the calling thread alone. */
struct scan {
    struct pool *pool;
    struct flat *flat;
    const struct view *view; /* held by the caller until the answer is read */
    const struct stop *stop; /* NULL: never */
    struct lensed *lens;     /* NULL: plain scores; else those of a task (server/lenses.h) */
    /* NULL: a score is the cosine, the product of unit vectors (under a task over the row's
     * denominator). Else it is that product times the row's length times this one, of each query of
     * the call: exact_scale. Rows then come by the exact kernel alone, as under a task. */
    const double *lengths;
    enum scan_engine engine; /* as asked */
    /* Of each query, none beyond those of the call; NULL: all alike. */
    const struct scan_depth *depths;
};

struct scan_answer {
    struct topk *pro, *opp; /* query.count each, sorted; a hit's chunk indexes the view's chunks */
    struct engine_work work;
    const char *engine;     /* what was used: "flat" or "scan" */
    uint64_t scan_ns;       /* summed over threads */
};

/* The exact k best and worst of every query over the view's live rows. k and opponents beyond the
 * live rows are lowered to them. All memory in `a`. BUSY, CORRUPT, CANCELLED. */
int scan_search(const struct scan *s, const struct engine_query *q, struct arena *a,
                struct scan_answer *out, struct err *e);

/* Scores of `count` queries (count x dim) against the live rows of chunks first .. end-1, exact
 * kernel: out[q * stride + i], i counting live rows in ingest order from chunk `first`. */
struct scan_scores {
    const float *vectors;
    size_t count;
    size_t first, end; /* chunks */
    double *out;
    size_t stride; /* doubles from one query's row to the next: at least the live rows */
};
int scan_score(const struct scan *s, const struct scan_scores *want, struct arena *a,
               struct err *e);

/* Live rows of one chunk. */
uint32_t scan_live(const struct view_chunk *c);

/* Monotonic nanoseconds. */
uint64_t scan_now(void);

#endif
