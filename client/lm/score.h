/* score.h - does the model know it? For a prompt: how likely its target is, where it stands among
 * candidates, and whether the model would say it unasked.
 *
 * All candidates of a prompt share its rows, and those that begin alike share theirs: one pass of
 * the network over a tree (pack.h) instead of one for each. A candidate's number is the sum of its
 * tokens' log-probabilities after the prompt; nothing is done about its length. */
#ifndef CLIENT_LM_SCORE_H
#define CLIENT_LM_SCORE_H

#include <stdbool.h>
#include <stdint.h>

#include "client/lm/model.h"
#include "client/lm/pairs.h"

struct score {
    double target;      /* log-probability of the target, nats */
    double *candidates; /* (count of the pair) the same of each; in scores.all */
    uint32_t rank;      /* 1 + candidates, other than the target, that are likelier */
    bool greedy;        /* each token of the target is the likeliest (the lower number on a tie) */
};

struct scores {
    struct score *list; /* (pairs) owned */
    double *all;        /* (items) owned */
};

/* ps: of PAIRS_CANDIDATES. `tell` (may be NULL) is called under a lock, on any thread. The numbers
 * of a pair do not depend on the others or on threads. TOO_LARGE, before any work, names the line
 * (also err.index) whose prompt and candidate have more tokens than the model sees at once. */
int score_run(struct scores *out, const struct model *m, const struct pairs *ps, unsigned threads,
              void (*tell)(void *ctx, size_t done, size_t total), void *ctx, struct err *e);
void score_free(struct scores *s);

#endif
