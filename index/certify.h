/* certify.h - an exact search over rows that somebody else proposes in float32.
 *
 * The proposer may be wrong by e (exact.h) on every score and may break ties as it likes; the
 * answer is the exact one all the same (docs/exactness.md). It is declared here and brought by the
 * engine, so that this file knows no library and can be tried against a proposer that is as wrong
 * as it may be.
 */
#ifndef INDEX_CERTIFY_H
#define INDEX_CERTIFY_H

#include <stdbool.h>

#include "index/engine.h"

struct certify_held {
    void *index;    /* the proposer's, over one block; NULL: it has none, and wants none built */
    void *item;     /* the proposer's own */
    double longest; /* upper bound on the length of the block's rows */
};

struct certify_proposer {
    void *arg;
    /* An index over block b, kept for others or passing. With build = false a passing one is not
     * worth its making: then held->index may stay NULL, which is no error. release undoes a hold of
     * either kind. */
    int (*hold)(void *arg, const struct engine_source *src, const struct engine_block *b,
                bool build, struct certify_held *held, struct err *e);
    void (*release)(void *arg, struct certify_held *held);
    /* For each of `count` vectors (count x dim) the `depth` rows of highest score, best first:
     * count x depth scores and row numbers; row -1 after the last. Rows left out scored no higher
     * than the last. */
    int (*ask)(const struct certify_held *held, const struct engine_block *b, const float *vectors,
               size_t count, size_t depth, float *scores, int64_t *rows, struct err *e);
};

/* One thread's share of one search. Arguments and errors as flat_search (flat.h). */
int certify_search(const struct certify_proposer *by, const struct engine_source *src,
                   const struct engine_query *q, _Atomic size_t *next, struct topk *pro,
                   struct topk *opp, struct engine_work *work, struct err *e);

#endif
