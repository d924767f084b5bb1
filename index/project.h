/* project.h - two-sided random projection of one block's gradient (design, section 4, step 2):
 * g = vec(P W Q^T), P p x o, Q p x i, entries normal with variance 1/p. Row-major throughout. */
#ifndef INDEX_PROJECT_H
#define INDEX_PROJECT_H

#include <stddef.h>
#include <stdint.h>

#include "storage/base/err.h"

struct project { /* immutable once made; any thread may apply it */
    uint32_t rows, cols; /* o, i of the gradient W */
    uint32_t p;
    float *left;  /* P: p x o, owned */
    float *right; /* Q: p x i, owned */
};

/* Fills left and right from (seed, block). BUSY when there is no memory, INVALID on a zero size. */
int project_init(struct project *pr, uint64_t seed, uint32_t block, uint32_t rows, uint32_t cols,
                 uint32_t p, struct err *e);
void project_fini(struct project *pr);

/* out (p x p) = P W Q^T with W (o x i). scratch: p x i floats (project_scratch). Through BLAS. */
size_t project_scratch(const struct project *pr); /* in floats */
void project_apply(const struct project *pr, const float *w, float *scratch, float *out);

/* The same by loops in float64, rounded once: the specification of project_apply. */
void project_apply_plain(const struct project *pr, const float *w, float *out);

#endif
