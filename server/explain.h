/* explain.h - why a score is what it is: what each block of the gradient adds to it. Reader
 * threads. */
#ifndef SERVER_EXPLAIN_H
#define SERVER_EXPLAIN_H

#include <stddef.h>

#include "index/topk.h"
#include "server/manifest.h"
#include "storage/corpus.h"

struct lensed;

/* What all hits of one answer have in common. */
struct explain {
    const struct view *view;
    const struct manifest_shape *shape; /* for explain_hit and explain_put */
    struct lensed *lens; /* of the task, or NULL */
};

/* shares[b] of block b: the exact kernel's product of that part of the query and the stored row,
 * made a score as the whole product is (server/scan.h). Their sum is the score but for the order of
 * additions (1e-12 of |query|, and of the lengths under dot products). `query` is what the engine
 * was asked with, `length` its length for dot products, else NULL; shares has shape->count places.
 */
int explain_hit(const struct explain *x, const float *query, const double *length,
                const struct topk_hit *hit, double *shares, struct err *e);

/* The score of one live row, to the bit as every engine has it; the hit's own is not looked at. */
int explain_score(const struct explain *x, const float *query, const double *length,
                  const struct topk_hit *hit, double *out, struct err *e);

/* Appends ,"blocks":[{"name","share"},...] */
void explain_put(struct buf *b, const struct manifest_shape *shape, const double *shares);

#endif
