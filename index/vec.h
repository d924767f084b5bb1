/* vec.h - gradients in, unit encodings out (design, section 4, step 3: normalise last, once, in
 * float64; refuse what has no direction). Pure functions over views; any thread. */
#ifndef INDEX_VEC_H
#define INDEX_VEC_H

#include <stddef.h>
#include <stdint.h>

#include "storage/base/dtype.h"
#include "storage/base/err.h"

/* One row: `in` of d elements of type in_type, out = in/|in| rounded to out_type, both of any
 * alignment; out may be where in is when the types are the same. norm = |in| = sqrt of the exact
 * kernel's sum of squares, float64. `scratch` holds d floats. NOT_FINITE (text and index name row
 * and element) or ZERO_GRADIENT (names the row); `row` is only for the message. `field` is the
 * tensor's name for the message. */
int vec_normalise(const void *in, enum dtype in_type, size_t d, enum dtype out_type, void *out,
                  double *out_norm, float *scratch, const char *field, size_t row, struct err *e);

/* Rounds count float32 to f16 or bf16, nearest even; overflow goes to infinity. */
void vec_narrow(const float *in, size_t count, enum dtype t, uint16_t *out);

/* count elements of type t to float32, exact. */
void vec_widen(const void *in, enum dtype t, size_t count, float *out);

#endif
