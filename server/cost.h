/* cost.h - which engine should answer soonest: a model of what each reads and computes, with rates
 * measured at start. A wrong guess costs time, never an answer. Any thread. */
#ifndef SERVER_COST_H
#define SERVER_COST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/rate.h"
#include "server/scan.h"

struct cost; /* one a server */

/* `flat_bytes`: what engine flat may keep in memory. Until cost_measure it knows plain rates. */
struct cost *cost_new(uint64_t flat_bytes);
void cost_free(struct cost *c);
/* About 0.2 s on the calling thread, a pool's; `cost` is a struct cost. */
void cost_measure(void *cost);
/* The rates in use, and whether they were measured. */
bool cost_rates(const struct cost *c, struct rate *out);

struct cost_ask {
    size_t dim, row_bytes, chunks;
    uint64_t rows, live, coded; /* stored, to be searched, in chunks that have codes */
    size_t queries, deep;       /* the longer of both lists */
    unsigned threads;           /* that share the work; 0: one */
    bool plain;                 /* scores are products of unit vectors: the only ones flat knows */
    bool opponents;             /* alone, or beside proponents */
    enum tier_precision precision;
};

/* Seconds, with every thread idle until now; infinite when the engine cannot, or is never worth it.
 * c NULL: plain rates. */
double cost_of(const struct cost *c, const struct cost_ask *ask, enum scan_engine engine);

/* The cheapest, and in `reason` what was expected of each. */
enum scan_engine cost_choose(const struct cost *c, const struct cost_ask *ask,
                             char reason[SCAN_REASON]);

/* What a search will use: the engine asked for, another where that one cannot, for auto the
 * cheapest; and why. */
enum scan_engine cost_engine(const struct scan *s, const struct engine_query *q,
                             char reason[SCAN_REASON]);

#endif
