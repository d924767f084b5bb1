/* explain.h - which tokens of a text an influence comes from.
 *
 * The gradient of a matrix is a sum over the text's positions, sum of dy_r x_r^T, and all that
 * makes a row of it is linear. So for any vector v of a row's length, <v, row> is a sum over
 * positions:
 *   <v, P (D o G) Q^T> = <D o (P^T V Q), G> = sum over r of dy_r^T (D o (P^T V Q)) x_r
 * (D divides by the second moment, V is v as a matrix p x p), added over the matrices. Position r
 * is where token r is about to be said, all before it having been read. */
#ifndef CLIENT_LM_EXPLAIN_H
#define CLIENT_LM_EXPLAIN_H

#include <stddef.h>
#include <stdint.h>

#include "client/lm/encoder.h"

struct explain_token {
    size_t from, to; /* bytes of the text */
    double share;
};

/* vector: plan->dim floats. *out (free it) and *out_count: the text's tokens in order, whose shares
 * sum to <vector, row of the text> but for rounding. As encoder_run fails. */
int explain_text(struct encoder *en, const char *text, size_t len, const float *vector,
                 struct explain_token **out, size_t *out_count, struct err *e);

#endif
