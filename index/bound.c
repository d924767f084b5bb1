/* bound.c - see bound.h; the proofs are in docs/exactness.md. */
#include "index/bound.h"

#include <pthread.h>
#include <string.h>

#include "index/code.h"
#include "index/kern.h"
#include "index/philox.h"
#include "index/qkern.h"
#include "index/rotate.h"

enum { ONE_MOST = 126 }; /* |u / S| of Q1: with a toss within int8 */

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

/* The tosses, the same for every query: 16 bits for each dimension. */
static uint16_t tosses[CODE_DIM_MAX];

static void toss_all(void)
{
    static const uint32_t key[2] = {0x61736372, 0x746f7373};

    for (uint32_t i = 0; i < CODE_DIM_MAX; i += 8) {
        const uint32_t counter[4] = {i / 8, 0, 0, 0};
        uint32_t word[4];

        philox_block(counter, key, word);
        for (uint32_t n = 0; n < 8; n++)
            tosses[i + n] = (uint16_t)(word[n / 2] >> (16 * (n % 2)));
    }
}

/* floor(u / S + toss), tosses even in (0, 1): within ONE_MOST, since |u / S| is. */
void bound_prepare_one(struct bound_query *q, size_t dim, const float *scratch)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const size_t padded = code_padded(dim);
    const float step = (float)(q->step * ((double)QKERN_Q_MAX / ONE_MOST)), inverse = 1.0f / step;
    int32_t sum = 0; /* below 2^31: 127 x CODE_DIM_MAX */

    pthread_once(&once, toss_all);
    for (size_t i = 0; i < padded; i++) {
        const float toss = ((float)tosses[i] + 0.5f) * 0x1p-16f;
        const int32_t up = (int32_t)(scratch[i] * inverse + toss + 128.0f) - 128;

        q->one[i] = (int8_t)up;
        sum += up;
    }
    q->step1 = (double)step;
    q->sum1 = (double)sum;
}

double bound_slack1(size_t dim)
{
    return 0x1p-22 + 8.0 * rotate_slack(code_padded(dim)) + ((double)dim + 64.0) * 0x1p-52;
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

/* Hoeffding 1963, theorem 2: p_i e_i are independent, of mean 0, and each takes two values S
 * |p_i| apart, so P(sum >= x) <= exp(-2 x^2 / (S |p|)^2). Tosses of 16 bits and the float32
 * roundings before floor move each mean by less than 2^-15 S. */
double bound_toss(size_t dim, double count, double delta)
{
    return sqrt(0.5 * (log(count) - log(delta)) + 0x1p-20) +
           sqrt((double)code_padded(dim)) * 0x1p-15;
}
