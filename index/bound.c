/* bound.c - see bound.h; the proofs are in docs/exactness.md. */
#include "index/bound.h"

#include <string.h>

#include "index/code.h"
#include "index/kern.h"
#include "index/qkern.h"
#include "index/rotate.h"

#define SUM_UP (1.0 + 0x1p-30) /* as in code.c */

bool bound_prepare(struct bound_query *q, const float *vector, size_t dim, float *scratch)
{
    const size_t padded = code_padded(dim);
    struct qkern_split sums;
    double slack;
    float step;

    q->length = sqrt(kern->dot_f32(vector, vector, dim)) * SUM_UP;
    if (!(q->length >= 0x1p-64 && q->length <= 0x1p64))
        return false;
    memcpy(scratch, vector, dim * sizeof *scratch);
    memset(scratch + dim, 0, (padded - dim) * sizeof *scratch);
    rotate(scratch, padded);
    step = qkern->max_abs(scratch, padded) / (float)QKERN_Q_MAX;
    qkern->split(scratch, padded / QKERN_GROUP, step, q->hi, q->lo, &sums);
    slack = rotate_slack(padded) * q->length;
    q->step = (double)step;
    q->rest = sqrt(sums.rest) * SUM_UP + slack;
    q->rest_hi = sqrt(sums.rest_hi) * SUM_UP + slack;
    q->sum = (double)sums.sum;
    q->sum_hi = (double)sums.sum_hi;
    return true;
}

double bound_slack1(size_t dim)
{
    return 0x1p-22 + 7.0 * rotate_slack(code_padded(dim)) + ((double)dim + 64.0) * 0x1p-52;
}

/* The density of Z is C (1 - z^2)^((n-3)/2) with C <= sqrt((n-1) / 2 pi) (Wendel 1948), and
 * t integral_t^1 (1 - z^2)^((n-3)/2) dz <= integral of z (...) = (1 - t^2)^((n-1)/2) / (n - 1). */
double bound_tail_log(size_t n, double t)
{
    const double m = (double)n - 1.0, two_pi = 6.283185307179586;

    return 0.5 * log(m / two_pi) + 0.5 * m * log1p(-t * t) - log(t) - log(m);
}

double bound_cut(size_t dim, double count, double delta)
{
    const size_t n = code_padded(dim) - 1;
    const double most = log(delta) - log(count) - 0x1p-20; /* libm's rounding is far below 2^-20 */
    double low = 0.0, high = 1.0;

    while (high - low > 0x1p-31) {
        double t = 0.5 * (low + high);

        if (bound_tail_log(n, t) <= most)
            high = t;
        else
            low = t;
    }
    return high;
}
