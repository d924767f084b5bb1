/* census.h - what only all scores of a query can say: where a hit stands among them, and how they
 * fall on the values of a meta field. One pass over every row for each group of queries, in bounded
 * memory. Counts and sums do not depend on threads: each query's scores are taken in the order of
 * ingest by one thread. Reader threads. */
#ifndef SERVER_CENSUS_H
#define SERVER_CENSUS_H

#include <stddef.h>
#include <stdint.h>

#include "server/filter.h"
#include "server/scan.h"

/* The rows of a view by the values of a path. */
struct census_groups {
    size_t count;         /* distinct values, at most LIMIT_GROUPS, by first appearance */
    const char **values;  /* as JSON; "null" where the path leads nowhere */
    const uint32_t *rows; /* of each live row its value; `count` of the rest, which had no place */
};
/* All memory in `a`. CORRUPT, CANCELLED, BUSY. */
int census_group(const struct view *v, const struct filter_path *path, const struct stop *stop,
                 struct arena *a, struct census_groups *out, struct err *e);

struct census_sum {
    uint64_t count;
    double sum; /* float64, in the order of ingest */
};

struct census {
    const float *vectors;  /* queries, count x dim */
    const double *lengths; /* theirs, for dot products; else NULL (server/scan.h) */
    size_t count;
    /* Percentiles: hits whose places are wanted, or NULL. below_*[q][i]: scores of query q that are
     * lower than hit i's. */
    const struct topk *pro, *opp;
    uint64_t **below_pro, **below_opp;
    /* Sums, or NULL: sums[q][g] for g up to groups->count, the last for the rest. */
    const struct census_groups *groups;
    struct census_sum **sums;
};
/* Takes vectors, lengths, count, pro, opp and groups; fills the rest, in `a`. As scan_score fails. */
int census_take(const struct scan *s, struct census *c, struct arena *a, struct err *e);

/* Appends ,"groups":[{"value","count","sum","mean"},...],"groups_other":{...}|null: highest sum
 * first. */
void census_put_groups(struct buf *b, const struct census_groups *g, const struct census_sum *sums);

#endif
