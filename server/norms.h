/* norms.h - how long the stored examples of a view are: bins, extremes, median. In bounded memory,
 * whatever the number of rows: four passes over their lengths. Reader threads. */
#ifndef SERVER_NORMS_H
#define SERVER_NORMS_H

#include <stddef.h>
#include <stdint.h>

#include "server/stop.h"
#include "storage/base/err.h"
#include "storage/base/mem.h"
#include "storage/corpus.h"

struct norms {
    uint64_t examples; /* live; when there is none, nothing below counts */
    double min, max;
    double median;     /* of two in the middle the shorter */
    size_t bins;       /* 1 when all are equally long */
    double *edges;     /* bins + 1: from min to max in equal ratios */
    uint64_t *counts;  /* bins; of edges[i] <= norm < edges[i + 1], max in the last */
};

/* Memory in `a`. CORRUPT, CANCELLED. */
int norms_take(const struct view *v, size_t bins, const struct stop *stop, struct arena *a,
               struct norms *out, struct err *e);

#endif
