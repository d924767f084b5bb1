/* groups.h - the rows of a view by the values of a field of their meta, and sums by them. Reader
 * threads. */
#ifndef SERVER_GROUPS_H
#define SERVER_GROUPS_H

#include <stddef.h>
#include <stdint.h>

#include "server/filter.h"
#include "server/stop.h"
#include "storage/base/bytes.h"
#include "storage/corpus.h"

struct groups {
    size_t count;         /* distinct values, at most LIMIT_GROUPS, by first appearance */
    const char **values;  /* as JSON; "null" where the path leads nowhere */
    const uint32_t *rows; /* of each live row its value; `count` of the rest, which had no place */
};
/* All memory in `a`. CORRUPT, CANCELLED, BUSY. */
int groups_read(const struct view *v, const struct filter_path *path, const struct stop *stop,
                struct arena *a, struct groups *out, struct err *e);

struct groups_sum {
    uint64_t count;
    double sum; /* float64, in the order of ingest */
};

/* Appends ,"groups":[{"value","count","sum","mean"},...],"groups_other":{...}|null: highest sum
 * first. `sums` has groups->count + 1 places, the last for the rest. */
void groups_put(struct buf *b, const struct groups *g, const struct groups_sum *sums);

#endif
