/* net32.c - the network in float32 on BLAS (net.h). BLAS itself must run on one thread: the
 * callers' own threads are the parallelism. */
#include "client/lm/net.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/lm/hot.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

#define REAL      float
#define NET(name) net32_##name
#define PLAIN     false
#define SQRT      sqrtf
#define EXP       exp_lane
#define GEMM      gemm

/* e^x within 2 ulp, made only of operations that vectorise: x = n ln 2 + r, |r| <= ln 2 / 2, a
 * polynomial of degree 6 (Cephes expf), and n put into the exponent. Below -87 it stays at
 * e^-87. */
static inline __attribute__((always_inline)) float exp_lane(float x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    const float low = -87.0f, high = 88.0f;
    float shifted, n, r, y, power;
    int32_t bits;

    x = x < low ? low : x;
    x = x > high ? high : x;
    shifted = x * 1.44269504f + magic;
    n = shifted - magic;
    r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (int32_t)(((uint32_t)bits - 0x4B400000u + 127u) << 23);
    memcpy(&power, &bits, sizeof power);
    return y * power;
}

static void gemm_plain(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a,
                       size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc);

static void gemm(bool plain, bool ta, bool tb, size_t m, size_t n, size_t k, float alpha,
                 const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
                 size_t ldc)
{
    if (plain)
        gemm_plain(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    else
        cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans,
                    (int)m, (int)n, (int)k, alpha, a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

#include "client/lm/net.inc"
