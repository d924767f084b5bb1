/* census.h - what only all scores of a query can say: where single scores stand among them, how
 * they are spread, and how they fall on the values of a meta field. One pass over every row answers
 * all of it for a group of queries, in bounded memory. Counts and sums do not depend on threads:
 * each query's scores are taken in the order of ingest by one thread. Reader threads. */
#ifndef SERVER_CENSUS_H
#define SERVER_CENSUS_H

#include <stddef.h>
#include <stdint.h>

#include "server/groups.h"
#include "server/scan.h"

/* One score whose place is asked. `row` counts the view's live rows in ingest order; it settles
 * ties, and may be CENSUS_NO_ROW where only `below` is wanted. */
#define CENSUS_NO_ROW UINT64_MAX
struct census_place {
    double score;
    uint64_t row;
    uint64_t below; /* out: scores that are lower */
    uint64_t rank;  /* out: from 1, as proponents are ordered; of a score with a row */
};

/* Of one query. */
struct census_query {
    struct census_place *places;
    size_t place_count;
    double low, high;        /* with bins: the lowest and the highest score */
    uint64_t *bins;          /* out */
    struct groups_sum *sums; /* out: groups->count + 1, the last for the rest */
};

struct census {
    const float *vectors;  /* queries, count x dim */
    const double *lengths; /* theirs, for dot products; else NULL (server/scan.h) */
    size_t count;
    struct census_query *of;     /* count; the outputs are in `a` */
    size_t bins;                 /* of [low, high], equally wide, or 0; what rounding puts outside
                                    counts in the nearest */
    const struct groups *groups; /* or NULL */
};
/* Fills the outputs; all memory in `a`. As scan_score fails. */
int census_take(const struct scan *s, struct census *c, struct arena *a, struct err *e);

#endif
