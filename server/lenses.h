/* lenses.h - a task as queries meet it: the lens of an annex (storage/annex.h) over a view's rows.
 *
 * An annex of a task has two files: the lens (index/lens.h) and the denominators, n of every row of
 * every chunk there was when it was written, by chunk id. A chunk that came later, by ingest or by
 * compact, is computed when a query first meets it, kept in memory, and written down by a job once
 * enough of them are missing (server/task_build.h). Reader and task threads. */
#ifndef SERVER_LENSES_H
#define SERVER_LENSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/lens.h"
#include "server/stop.h"
#include "storage/annex.h"

struct pool;
struct lensed; /* what an annex of a task became in memory; lives as long as the annex */

/* The task of that name for the rows of `v`; *out_annex is a reference that keeps *out alive.
 * UNKNOWN_TASK, TASK_STALE, CORRUPT. */
int lenses_open(struct corpus *c, const struct view *v, const char *name, struct annex **out_annex,
                struct lensed **out, struct err *e);

/* Queries as server/queries.h leaves them, count x dim, become u in place; their lengths become
 * those of the task's metric, sqrt(q^T M q). */
int lenses_queries(const struct lensed *t, float *vectors, double *lengths, size_t count,
                   struct pool *pool, const struct stop *stop, struct err *e);

/* n of every row of the chunk, dead ones too; memory of the task's. */
int lenses_norms(struct lensed *t, const struct view_chunk *c, const double **out, struct err *e);
/* The same from memory; NULL when they would have to be computed. */
const double *lenses_known(struct lensed *t, const struct view_chunk *c);

/* True once, when so many of the view's rows are not in the file that it should be written anew. */
bool lenses_overdue(struct lensed *t, const struct view *v);

/* The file could not be written: lenses_overdue may say so again. */
void lenses_ask_again(struct lensed *t);

/* Computes n of every row of a chunk. */
int lenses_compute(const struct lens *l, enum dtype t, const struct view_chunk *c, double *out,
                   struct err *e);

/* The file of denominators: a head for `count` chunks, ascending by id, then their n in that
 * order. */
struct lenses_entry {
    uint64_t chunk, rows;
};
void lenses_head(struct buf *out, const struct lenses_entry *entries, size_t count);

#endif
