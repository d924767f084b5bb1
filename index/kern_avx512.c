/* kern_avx512.c - the kernels for AVX-512F: the same bits as kern_generic.c.
 *
 * Four registers of eight float64 lanes hold the 32 lanes; register r has lanes 8r .. 8r+7. The
 * last elements of a vector are padded with zeros: a lane is never -0 (it starts at +0), so adding
 * a zero product leaves its bits alone. Nothing is read past the end. Pure functions; any thread.
 */
#include <string.h>

#include "index/kern.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx2,fma,f16c")))

enum { REGISTERS = 4, WIDTH = 8, ROWS = 4 };

static AVX512 inline __m512d eight_f32(const float *p)
{
    return _mm512_cvtps_pd(_mm256_loadu_ps(p));
}

static AVX512 inline __m512d eight_f16(const uint16_t *p)
{
    return _mm512_cvtps_pd(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)));
}

static AVX512 inline __m512d eight_bf16(const uint16_t *p)
{
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));

    return _mm512_cvtps_pd(_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
}

static AVX512 inline double sum_lanes(const __m512d a[REGISTERS])
{
    __m512d b0 = _mm512_add_pd(a[0], a[2]), b1 = _mm512_add_pd(a[1], a[3]);       /* w = 16 */
    __m512d c = _mm512_add_pd(b0, b1);                                            /* w = 8 */
    __m256d v = _mm256_add_pd(_mm512_castpd512_pd256(c), _mm512_extractf64x4_pd(c, 1)); /* w = 4 */
    __m128d half = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));  /* w = 2 */

    return _mm_cvtsd_f64(_mm_add_sd(half, _mm_unpackhi_pd(half, half)));          /* w = 1 */
}

/* The three dots differ in how eight elements of x become float64. */
#define DEFINE_DOT(name, type, eight)                                                              \
    static AVX512 double name(const float *q, const type *x, size_t d)                             \
    {                                                                                              \
        __m512d lane[REGISTERS];                                                                   \
        size_t i = 0;                                                                              \
                                                                                                   \
        for (int r = 0; r < REGISTERS; r++)                                                        \
            lane[r] = _mm512_setzero_pd();                                                         \
        for (; i + KERN_LANES <= d; i += KERN_LANES)                                               \
            _Pragma("GCC unroll 4") for (int r = 0; r < REGISTERS; r++)                            \
                lane[r] = _mm512_fmadd_pd(eight_f32(q + i + WIDTH * r), eight(x + i + WIDTH * r),  \
                                          lane[r]);                                                \
        if (i < d) {                                                                               \
            float qt[KERN_LANES] = {0};                                                            \
            type xt[KERN_LANES] = {0};                                                             \
                                                                                                   \
            memcpy(qt, q + i, (d - i) * sizeof *q);                                                \
            memcpy(xt, x + i, (d - i) * sizeof *x);                                                \
            for (int r = 0; r < REGISTERS; r++)                                                    \
                lane[r] = _mm512_fmadd_pd(eight_f32(qt + WIDTH * r), eight(xt + WIDTH * r),        \
                                          lane[r]);                                                \
        }                                                                                          \
        return sum_lanes(lane);                                                                    \
    }

DEFINE_DOT(dot_f32, float, eight_f32)
DEFINE_DOT(dot_f16, uint16_t, eight_f16)
DEFINE_DOT(dot_bf16, uint16_t, eight_bf16)

/* Sixteen registers hold the lanes of four rows; the query is loaded and widened once for all. */
static AVX512 void dot4_f32(const float *q, const float *x, size_t stride, size_t d, double out[4])
{
    __m512d lane[ROWS][REGISTERS];
    const float *row[ROWS];
    size_t i = 0;

    for (size_t n = 0; n < ROWS; n++) {
        row[n] = (const float *)(const void *)((const char *)x + n * stride);
        for (int r = 0; r < REGISTERS; r++)
            lane[n][r] = _mm512_setzero_pd();
    }
    for (; i + KERN_LANES <= d; i += KERN_LANES)
#pragma GCC unroll 4
        for (int r = 0; r < REGISTERS; r++) {
            __m512d v = eight_f32(q + i + WIDTH * r);

#pragma GCC unroll 4
            for (int n = 0; n < ROWS; n++)
                lane[n][r] = _mm512_fmadd_pd(v, eight_f32(row[n] + i + WIDTH * r), lane[n][r]);
        }
    for (int n = 0; n < ROWS; n++) {
        if (i < d) {
            float qt[KERN_LANES] = {0}, xt[KERN_LANES] = {0};

            memcpy(qt, q + i, (d - i) * sizeof *q);
            memcpy(xt, row[n] + i, (d - i) * sizeof *q);
            for (int r = 0; r < REGISTERS; r++)
                lane[n][r] = _mm512_fmadd_pd(eight_f32(qt + WIDTH * r), eight_f32(xt + WIDTH * r),
                                             lane[n][r]);
        }
        out[n] = sum_lanes(lane[n]);
    }
}

/* 24 sums, three columns and a factor: 28 of 32 registers. */
static AVX512 void multiply(const float *a, const float *b, size_t depth, float *c)
{
    __m512 sum[KERN_TALL][3];

#pragma GCC unroll 8
    for (int r = 0; r < KERN_TALL; r++)
        sum[r][0] = sum[r][1] = sum[r][2] = _mm512_setzero_ps();
    for (; depth > 0; depth--, a += KERN_TALL, b += KERN_WIDE) {
        const __m512 b0 = _mm512_loadu_ps(b), b1 = _mm512_loadu_ps(b + 16),
                     b2 = _mm512_loadu_ps(b + 32);

#pragma GCC unroll 8
        for (int r = 0; r < KERN_TALL; r++) {
            const __m512 x = _mm512_set1_ps(a[r]);

            sum[r][0] = _mm512_fmadd_ps(x, b0, sum[r][0]);
            sum[r][1] = _mm512_fmadd_ps(x, b1, sum[r][1]);
            sum[r][2] = _mm512_fmadd_ps(x, b2, sum[r][2]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < KERN_TALL; r++)
#pragma GCC unroll 3
        for (int v = 0; v < 3; v++)
            _mm512_storeu_ps(c + r * KERN_WIDE + v * 16, sum[r][v]);
}

static inline const float *row_at(const float *m, size_t stride, size_t k)
{
    return (const float *)(const void *)((const char *)m + k * stride);
}

/* Four rows at a time, so that sums are loaded and stored once for four additions; the last columns
 * behind a mask. */
static AVX512 void multiply_row(const float *x, const float *m, size_t stride, size_t depth,
                                size_t count, float *acc)
{
    for (size_t k = 0; k < depth; k += 4) {
        const size_t rows = depth - k < 4 ? depth - k : 4;
        __m512 factor[4];

        for (size_t r = 0; r < rows; r++)
            factor[r] = _mm512_set1_ps(x[k + r]);
        for (size_t j = 0; j < count; j += 16) {
            const size_t width = count - j < 16 ? count - j : 16;
            const __mmask16 in = (__mmask16)(0xffffu >> (16 - width));
            __m512 sum = _mm512_maskz_loadu_ps(in, acc + j);

            for (size_t r = 0; r < rows; r++)
                sum = _mm512_fmadd_ps(factor[r],
                                      _mm512_maskz_loadu_ps(in, row_at(m, stride, k + r) + j), sum);
            _mm512_mask_storeu_ps(acc + j, in, sum);
        }
    }
}

static AVX512 void widen_f16(const uint16_t *in, size_t count, float *out)
{
    size_t i = 0;

    for (; i + 16 <= count; i += 16)
        _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256(
                                      (const __m256i *)(const void *)(in + i))));
    if (i < count)
        kern_generic.widen_f16(in + i, count - i, out + i);
}

static AVX512 void widen_bf16(const uint16_t *in, size_t count, float *out)
{
    size_t i = 0;

    for (; i + 16 <= count; i += 16) {
        __m512i v = _mm512_cvtepu16_epi32(
            _mm256_loadu_si256((const __m256i *)(const void *)(in + i)));

        _mm512_storeu_si512(out + i, _mm512_slli_epi32(v, 16));
    }
    if (i < count)
        kern_generic.widen_bf16(in + i, count - i, out + i);
}

static AVX512 size_t first_bad_f32(const float *x, size_t count)
{
    const __m512i exponent = _mm512_set1_epi32(0x7f800000);
    size_t i = 0;

    for (; i + 16 <= count; i += 16) {
        __m512i v = _mm512_and_si512(_mm512_loadu_si512(x + i), exponent);
        unsigned mask = _mm512_cmpeq_epi32_mask(v, exponent);

        if (mask)
            return i + (size_t)__builtin_ctz(mask);
    }
    return i + kern_generic.first_bad_f32(x + i, count - i);
}

static AVX512 void scale_f32(const float *x, size_t count, double norm, float *out)
{
    const __m512d by = _mm512_set1_pd(norm);
    size_t i = 0;

    for (; i + WIDTH <= count; i += WIDTH)
        _mm256_storeu_ps(out + i, _mm512_cvtpd_ps(_mm512_div_pd(eight_f32(x + i), by)));
    if (i < count)
        kern_generic.scale_f32(x + i, count - i, norm, out + i);
}

const struct kern kern_avx512 = {
    .name = "avx512",
    .dot_f32 = dot_f32,
    .dot_f16 = dot_f16,
    .dot_bf16 = dot_bf16,
    .dot4_f32 = dot4_f32,
    .multiply = multiply,
    .multiply_row = multiply_row,
    .widen_f16 = widen_f16,
    .widen_bf16 = widen_bf16,
    .first_bad_f32 = first_bad_f32,
    .scale_f32 = scale_f32,
};
#else
const struct kern kern_avx512 = {.name = "avx512"}; /* kern_supported is false: never called */
#endif
