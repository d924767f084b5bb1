/* scan.h - the bridge from storage to the engines: a view's chunks become an engine's blocks, a
 * search is spread over the idle readers, lists are merged. Damage is an error that names the
 * chunk, never a shorter answer. Reader threads. */
#ifndef SERVER_SCAN_H
#define SERVER_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/engine.h"
#include "index/tier.h"
#include "server/stop.h"
#include "storage/base/err.h"
#include "storage/base/mem.h"
#include "storage/corpus.h"

struct cost;
struct pool;
struct flat;
struct lensed;

/* How the exact answer is found; the answer itself never depends on it. flat: FAISS proposes, the
 * exact kernel decides (index/flat.h). scan: the exact kernel over every live row, in place.
 * tiered: codes of few bits drop rows, the exact kernel decides (index/tier.h). auto: the one
 * that should take least time (server/cost.h). */
enum scan_engine { SCAN_AUTO, SCAN_FLAT, SCAN_EXACT, SCAN_TIERED, SCAN_ENGINES };

/* "auto", "flat", "scan", "tiered"; false when it is none of them. */
bool scan_engine_named(const char *name, enum scan_engine *out);
const char *scan_engine_name(enum scan_engine engine);
/* "certified", "probabilistic". */
bool scan_precision_named(const char *name, enum tier_precision *out);
const char *scan_precision_name(enum tier_precision precision);

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
    /* What may be dropped on: a proof, or a bound that fails with probability delta a query. Only
     * engine tiered knows anything but proof. */
    enum tier_precision precision;
    double delta; /* with TIER_PROBABILISTIC: in (0, 1/2] */
    const struct cost *cost; /* for auto; NULL: its defaults */
    /* How many of each query, at most the call's; NULL: all alike. */
    const size_t *each_k, *each_opponents;
};

enum { SCAN_REASON = 96 };

struct scan_answer {
    struct topk *pro, *opp; /* query.count each, sorted; a hit's chunk indexes the view's chunks */
    struct engine_work work;
    enum scan_engine engine; /* what was used */
    char reason[SCAN_REASON]; /* why, in a few words */
    enum tier_precision precision; /* what the answer rests on */
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
