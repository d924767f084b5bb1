/* tail_patch.h - how much one training step on a passage would raise a target's probability: the
 * measure of influence that no gradient formula stands behind (Chang et al., 2024, section 5).
 *
 * The same passage is often listed by several questions: its step is made once and every one of
 * them asked. A number depends on its own question and passage only: not on the order, on what else
 * is asked, or on threads. */
#ifndef CLIENT_LM_TAIL_PATCH_H
#define CLIENT_LM_TAIL_PATCH_H

#include <stdint.h>

#include "client/lm/pairs.h"
#include "client/lm/patch.h"

struct tail_patch {
    double *before; /* (pairs) log-probability of each target, nats; owned */
    size_t *first;  /* (pairs) where in `after` a pair's passages begin; owned */
    double *after;  /* (items) the same, a step on that passage later; owned */
    size_t steps;   /* different passages */
};

struct tail_patch_progress {
    size_t done, total; /* items */
    size_t steps;       /* made so far */
};

/* ps: of PAIRS_PASSAGES. `tell` (may be NULL) is called under a lock, on any thread. TOO_LARGE
 * before any work for a text that does not fit, NOT_FINITE for a rate that is too high; both name
 * the line, and err.index is its number. */
int tail_patch_run(struct tail_patch *out, const struct model *m, const struct pairs *ps,
                   const struct patch_options *o, unsigned threads,
                   void (*tell)(void *ctx, const struct tail_patch_progress *p), void *ctx,
                   struct err *e);
void tail_patch_free(struct tail_patch *t);

#endif
