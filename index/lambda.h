/* lambda.h - the paper's rule for lambda, the share of a task's own Hessian in the mixed one.
 *
 * Both Hessians' eigenvalues, of the raw (not whitened) gradients, are pooled over the blocks and
 * sorted; lambda is where lambda s_eval[k] = (1 - lambda) s_train[k]: about k directions, those the
 * evaluation set shares, end up held down. Pure functions; any thread. Source: docs/encoding.md.
 */
#ifndef INDEX_LAMBDA_H
#define INDEX_LAMBDA_H

#include <stdbool.h>
#include <stddef.h>

#include "storage/base/err.h"

enum { LAMBDA_DOWNWEIGHT = 1000 }; /* of 65,536 dimensions */
#define LAMBDA_MAX 0.999           /* what the rule may choose; callers may give more, below 1 */

/* Eigenvalues of the mean of x x^T over m rows of dim doubles (one block of raw evaluation
 * gradients): min(m, dim) of them to out, descending; the others are 0. `name` is the block's.
 * Errors as gram_small and lapack_eigenvalues. */
int lambda_spectrum(const double *rows, size_t m, size_t dim, double *out, const char *name,
                    struct err *e);

/* Sorts pooled eigenvalues in place, descending. */
void lambda_sort(double *values, size_t count);

/* `downweight` of 65,536 in proportion to dim, rounded; at least 1, at most dim - 1. */
size_t lambda_k(size_t downweight, size_t dim);

/* lambda = s_train[k] / (s_eval[k] + s_train[k]), places counted from 0, both descending; places
 * past a count are 0. s_eval[k] = 0 (fewer evaluation directions than k) gives 1, which is no
 * lambda: *out is held to LAMBDA_MAX and *clamped says so, as for any value above it. INVALID when
 * s_train[k] is 0: R_train has too few directions for this k; the rule would undo the task. */
int lambda_choose(size_t k, const double *train, size_t train_count, const double *eval,
                  size_t eval_count, double *out, bool *clamped, struct err *e);

#endif
