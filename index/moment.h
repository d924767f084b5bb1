/* moment.h - the second-moment correction of one block's weight gradient W (o x i), the first step
 * of an encoding (design, section 4): what the optimiser's state says about each weight's scale.
 *
 *   MOMENT_ADAM       W' = W / (sqrt(V) + eps), V (o x i), eps outside the root, default 1e-8
 *   MOMENT_ADAFACTOR  W' = W / sqrt(V), V = row col / mean(row), row (o) and col (i) each with
 *                     eps (default 1e-30) added first; a left and a right diagonal scaling, V
 *                     itself is never made
 *   MOMENT_NONE       W' = W
 *
 * Made once, immutable after; any thread may apply it.
 */
#ifndef INDEX_MOMENT_H
#define INDEX_MOMENT_H

#include <stddef.h>
#include <stdint.h>

#include "storage/base/err.h"

#define MOMENT_ADAM_EPS 1e-8
#define MOMENT_ADAFACTOR_EPS 1e-30

enum moment_kind { MOMENT_NONE, MOMENT_ADAM, MOMENT_ADAFACTOR };

struct moment {
    enum moment_kind kind;
    uint32_t rows, cols; /* o, i */
    float *full;         /* 1 / (sqrt(V) + eps), o x i; Adam; owned */
    float *left, *right; /* o and i factors; Adafactor; owned */
};

const char *moment_name(enum moment_kind k); /* "none", "adam", "adafactor": in manifests */

/* Each fills *m; moment_fini frees it (safe on a zeroed one, and twice). V and factors are copied.
 * `field` names the tensor in messages. INVALID: a size is zero, eps is negative or not finite, an
 * element of V is negative, or too small for its eps (text and index name the element); NOT_FINITE;
 * BUSY: no memory. On failure *m is zeroed. */
int moment_none(struct moment *m, uint32_t rows, uint32_t cols, struct err *e);
int moment_adam(struct moment *m, uint32_t rows, uint32_t cols, const float *v, double eps,
                const char *field, struct err *e);
int moment_adafactor(struct moment *m, uint32_t rows, uint32_t cols, const float *row,
                     const float *col, double eps, const char *field, struct err *e);
void moment_fini(struct moment *m);

/* out (o x i) = W'; out may be w. Each element is within 2 float32 roundings of the plain form (3
 * for Adafactor). Overflow gives infinity, which normalising refuses by name later. */
void moment_apply(const struct moment *m, const float *w, float *out);

/* The specification, from the raw moments, by loops in float64, rounded once; out may be w. */
void moment_plain_adam(uint32_t rows, uint32_t cols, const float *v, double eps, const float *w,
                       float *out);
void moment_plain_adafactor(uint32_t rows, uint32_t cols, const float *row, const float *col,
                            double eps, const float *w, float *out);

#endif
