/* bound.h - what a code says about a score: estimates and how far they may be off.
 *
 * A query is rotated like the rows and rounded to integers, Q = 128 hi + lo, so that its product
 * with a code is a sum of integers; hi alone is a coarser query with a wider bound. One bit takes
 * integers Q1 of its own, which are rounded up or down by a toss, so that what that leaves cancels
 * out over many dimensions. All bounds are proved in docs/exactness.md, rounding included. No
 * allocation; any thread.
 */
#ifndef INDEX_BOUND_H
#define INDEX_BOUND_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/plant.h"

/* One query, prepared. u is the vector, R u it rotated. */
struct bound_query {
    int8_t *hi, *lo;      /* code_padded(dim) each, the caller's memory */
    double length;        /* |u| or a little more */
    double step;          /* sq: u^ = sq (128 hi + lo), or 128 sq hi */
    double rest, rest_hi; /* |R u - u^| or a little more */
    double sum, sum_hi;   /* of Q, and of hi: integers */

    int8_t *one; /* Q1: as hi; NULL when no bits are read */
    double step1, sum1;
};

/* Prepares from `vector` of dim finite float32; hi and lo are set by the caller and filled here.
 * scratch: code_padded(dim) floats, left with R u in them. False when no bound can be had (its
 * length is outside 2^-64 ... 2^64, zero included): then every row must be scored. */
bool bound_prepare(struct bound_query *q, const float *vector, size_t dim, float *scratch);

/* Makes Q1 in q->one, the caller's too, from the scratch of bound_prepare. */
void bound_prepare_one(struct bound_query *q, size_t dim, const float *scratch);

/* An estimate of a score, and the most it is off: |score - at| <= off, score the exact kernel's. */
struct bound {
    double at, off;
};

/* From the sum of Q c6, or of hi c6 alone. s, rest and length: the row's factors (index/code.h). A
 * row without a code has off = infinity. */
static inline struct bound bound_six(const struct bound_query *q, double sum6, double s,
                                     double rest6, double length6)
{
    return (struct bound){2.0 * q->step * s * (2.0 * sum6 - 63.0 * q->sum),
                          (planted(BOUND_TIGHT) ? 0.0 : q->length * rest6) + q->rest * length6};
}

static inline struct bound bound_six_hi(const struct bound_query *q, double sum6, double s,
                                        double rest6, double length6)
{
    return (struct bound){256.0 * q->step * s * (2.0 * sum6 - 63.0 * q->sum_hi),
                          q->length * rest6 + q->rest_hi * length6};
}

/* From the sum of hi (c8 - 128). */
static inline struct bound bound_eight_hi(const struct bound_query *q, double sum8, double s,
                                          double rest8, double length8)
{
    return (struct bound){64.0 * q->step * s * (2.0 * sum8 + q->sum_hi),
                          q->length * rest8 + q->rest_hi * length8};
}

/* The same with lo's part, the sum of lo c6: what it would make of the low plane is left out, at
 * most |u^ - 128 sq hi| |x^8 - x^6|. */
static inline struct bound bound_eight(const struct bound_query *q, double sum8, double lo6,
                                       double s, double rest6, double rest8, double length8)
{
    const double sum_lo = q->sum - 128.0 * q->sum_hi;

    return (struct bound){bound_eight_hi(q, sum8, s, 0.0, 0.0).at +
                              2.0 * q->step * s * (2.0 * lo6 - 63.0 * sum_lo),
                          q->length * rest8 + q->rest * length8 +
                              (q->rest + q->rest_hi) * (rest6 + rest8)};
}

/* The sum of hi (c8 - 128) from those of hi c6 and hi (c8 & 3). */
static inline double bound_join(const struct bound_query *q, double hi6, double low_hi)
{
    return 4.0 * hi6 + low_hi - 128.0 * q->sum_hi;
}

/* The 1-bit bound fails with the probability that `cut` and `toss` were made for. `reach`:
 * sqrt(padded dim); `slack`: bound_slack1. From the sum of Q1 bit. */
static inline struct bound bound_one(const struct bound_query *q, double sum1, double gain,
                                     double spread, double cut, double toss, double reach,
                                     double slack)
{
    const double query = q->step1 * toss + slack * (q->length + reach * q->step1);

    return (struct bound){q->step1 * gain * (2.0 * sum1 - q->sum1),
                          cut * q->length * spread + reach * gain * query};
}

/* How much of a row's six-bit residual lies along the row, as a share of the row: |<b, r>| / |x|^2
 * but for rounding, which bound_odds adds. NaN for a row without a code. */
static inline double bound_along(double rest6, double length6, double length)
{
    const double square = length * length;

    return fabs(square + rest6 * rest6 - length6 * length6) / (2.0 * square);
}

/* A six-bit bound b (with hi alone: rest_q = rest_hi, else rest) made narrower: what rounding left
 * of the row and of the query lies in directions that a random rotation makes random, so that their
 * products with the other vector are near zero. Fails as the 1-bit bound does, but for two Z. */
static inline struct bound bound_odds(const struct bound_query *q, struct bound b, double rest_q,
                                      double rest6, double along, double length, double cut,
                                      double slack)
{
    const double turn = along + rest_q / q->length + 0x1p-18;
    const double off = (fabs(b.at) + b.off) * turn + cut * (q->length * rest6 + rest_q * length) +
                       rest_q * rest6 + slack * q->length * length;

    /* So that at + off rises with at. NaN: a row without a code. */
    return (struct bound){b.at, turn < 1.0 && off < b.off ? off : b.off};
}

/* What rotation, the factors' rounding and the exact kernel's may add to those two. */
double bound_slack1(size_t dim);

/* log of a bound on P(Z >= t), Z one coordinate of a uniform point on the unit sphere in n
 * dimensions; 0 < t < 1, n >= 3. Decreasing in t. */
double bound_tail_log(size_t n, double t);

/* The least t (within 2^-30) with count P(Z >= t) <= delta by that bound, for dim's sphere.
 * count >= 1; delta in (0, 1). */
double bound_cut(size_t dim, double count, double delta);

/* The same of what rounding by tosses leaves of Q1: |sum over n of p_i e_i| <= toss S |p|, S its
 * step, p any vector that the tosses do not know. */
double bound_toss(size_t dim, double count, double delta);

#endif
