/* kern_avx2.c - the kernels for AVX2, FMA and F16C: the same bits as kern_generic.c.
 *
 * Eight registers of four float64 lanes hold the 32 lanes; register r has lanes 4r .. 4r+3. The
 * last elements of a vector are padded with zeros: a lane is never -0 (it starts at +0), so adding
 * a zero product leaves its bits alone. Nothing is read past the end. Pure functions; any thread.
 */
#include <string.h>

#include "index/kern.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma,f16c")))

enum { REGISTERS = 8, WIDTH = 4 };

static AVX2 inline __m256d four_f32(const float *p)
{
    return _mm256_cvtps_pd(_mm_loadu_ps(p));
}

static AVX2 inline __m256d four_f16(const uint16_t *p)
{
    return _mm256_cvtps_pd(_mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}

static AVX2 inline __m256d four_bf16(const uint16_t *p)
{
    __m128i wide = _mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));

    return _mm256_cvtps_pd(_mm_castsi128_ps(_mm_slli_epi32(wide, 16)));
}

static AVX2 inline double sum_lanes(const __m256d a[REGISTERS])
{
    __m256d b[4] = {_mm256_add_pd(a[0], a[4]), _mm256_add_pd(a[1], a[5]),
                    _mm256_add_pd(a[2], a[6]), _mm256_add_pd(a[3], a[7])};   /* w = 16 */
    __m256d c0 = _mm256_add_pd(b[0], b[2]), c1 = _mm256_add_pd(b[1], b[3]);  /* w = 8 */
    __m256d v = _mm256_add_pd(c0, c1);                                       /* w = 4 */
    __m128d half = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1)); /* w = 2 */

    return _mm_cvtsd_f64(_mm_add_sd(half, _mm_unpackhi_pd(half, half)));     /* w = 1 */
}

/* The three dots differ in how four elements of x become float64. */
#define DEFINE_DOT(name, type, four)                                                               \
    static AVX2 double name(const float *q, const type *x, size_t d)                               \
    {                                                                                              \
        __m256d lane[REGISTERS];                                                                   \
        size_t i = 0;                                                                              \
                                                                                                   \
        for (int r = 0; r < REGISTERS; r++)                                                        \
            lane[r] = _mm256_setzero_pd();                                                         \
        for (; i + KERN_LANES <= d; i += KERN_LANES)                                               \
            _Pragma("GCC unroll 8") for (int r = 0; r < REGISTERS; r++)                            \
                lane[r] = _mm256_fmadd_pd(four_f32(q + i + WIDTH * r), four(x + i + WIDTH * r),    \
                                          lane[r]);                                                \
        if (i < d) {                                                                               \
            float qt[KERN_LANES] = {0};                                                            \
            type xt[KERN_LANES] = {0};                                                             \
                                                                                                   \
            memcpy(qt, q + i, (d - i) * sizeof *q);                                                \
            memcpy(xt, x + i, (d - i) * sizeof *x);                                                \
            for (int r = 0; r < REGISTERS; r++)                                                    \
                lane[r] = _mm256_fmadd_pd(four_f32(qt + WIDTH * r), four(xt + WIDTH * r),          \
                                          lane[r]);                                                \
        }                                                                                          \
        return sum_lanes(lane);                                                                    \
    }

DEFINE_DOT(dot_f32, float, four_f32)
DEFINE_DOT(dot_f16, uint16_t, four_f16)
DEFINE_DOT(dot_bf16, uint16_t, four_bf16)

/* Sixteen registers hold the lanes of two rows and nothing else, so there is no reuse to be had. */
static void dot4_f32(const float *q, const float *x, size_t stride, size_t d, double out[4])
{
    for (size_t r = 0; r < 4; r++)
        out[r] = dot_f32(q, (const float *)(const void *)((const char *)x + r * stride), d);
}

/* Four rows and 24 columns at a time: twelve sums, three columns and a factor fill the sixteen
 * registers. */
static AVX2 inline void multiply_part(const float *a, const float *b, size_t depth, float *c)
{
    __m256 sum[4][3];

#pragma GCC unroll 4
    for (int r = 0; r < 4; r++)
        sum[r][0] = sum[r][1] = sum[r][2] = _mm256_setzero_ps();
    for (; depth > 0; depth--, a += KERN_TALL, b += KERN_WIDE) {
        const __m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + 8),
                     b2 = _mm256_loadu_ps(b + 16);

#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
            const __m256 x = _mm256_broadcast_ss(a + r);

            sum[r][0] = _mm256_fmadd_ps(x, b0, sum[r][0]);
            sum[r][1] = _mm256_fmadd_ps(x, b1, sum[r][1]);
            sum[r][2] = _mm256_fmadd_ps(x, b2, sum[r][2]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++)
#pragma GCC unroll 3
        for (int v = 0; v < 3; v++)
            _mm256_storeu_ps(c + r * KERN_WIDE + v * 8, sum[r][v]);
}

static AVX2 void multiply(const float *a, const float *b, size_t depth, float *c)
{
    for (size_t r = 0; r < KERN_TALL; r += 4)
        for (size_t j = 0; j < KERN_WIDE; j += 24)
            multiply_part(a + r, b + j, depth, c + r * KERN_WIDE + j);
}

static inline const float *row_at(const float *m, size_t stride, size_t k)
{
    return (const float *)(const void *)((const char *)m + k * stride);
}

/* Four rows at a time, so that sums are loaded and stored once for four additions. */
static AVX2 void multiply_row(const float *x, const float *m, size_t stride, size_t depth,
                              size_t count, float *acc)
{
    size_t k = 0, j;

    for (; k + 4 <= depth; k += 4) {
        const __m256 f0 = _mm256_broadcast_ss(x + k), f1 = _mm256_broadcast_ss(x + k + 1),
                     f2 = _mm256_broadcast_ss(x + k + 2), f3 = _mm256_broadcast_ss(x + k + 3);
        const float *r0 = row_at(m, stride, k), *r1 = row_at(m, stride, k + 1),
                    *r2 = row_at(m, stride, k + 2), *r3 = row_at(m, stride, k + 3);

        for (j = 0; j + 8 <= count; j += 8) {
            __m256 sum = _mm256_fmadd_ps(f0, _mm256_loadu_ps(r0 + j), _mm256_loadu_ps(acc + j));

            sum = _mm256_fmadd_ps(f1, _mm256_loadu_ps(r1 + j), sum);
            sum = _mm256_fmadd_ps(f2, _mm256_loadu_ps(r2 + j), sum);
            _mm256_storeu_ps(acc + j, _mm256_fmadd_ps(f3, _mm256_loadu_ps(r3 + j), sum));
        }
        kern_generic.multiply_row(x + k, r0 + j, stride, 4, count - j, acc + j);
    }
    kern_generic.multiply_row(x + k, row_at(m, stride, k), stride, depth - k, count, acc);
}

static AVX2 void widen_f16(const uint16_t *in, size_t count, float *out)
{
    size_t i = 0;

    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(out + i,
                         _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(in + i))));
    if (i < count)
        kern_generic.widen_f16(in + i, count - i, out + i);
}

static AVX2 void widen_bf16(const uint16_t *in, size_t count, float *out)
{
    size_t i = 0;

    for (; i + 8 <= count; i += 8) {
        __m256i v = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(in + i)));

        _mm256_storeu_si256((__m256i *)(void *)(out + i), _mm256_slli_epi32(v, 16));
    }
    if (i < count)
        kern_generic.widen_bf16(in + i, count - i, out + i);
}

static AVX2 size_t first_bad_f32(const float *x, size_t count)
{
    const __m256i exponent = _mm256_set1_epi32(0x7f800000);
    size_t i = 0;

    for (; i + 8 <= count; i += 8) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(x + i));
        __m256i bad = _mm256_cmpeq_epi32(_mm256_and_si256(v, exponent), exponent);
        unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(bad));

        if (mask)
            return i + (size_t)__builtin_ctz(mask);
    }
    return i + kern_generic.first_bad_f32(x + i, count - i);
}

static AVX2 void scale_f32(const float *x, size_t count, double norm, float *out)
{
    const __m256d by = _mm256_set1_pd(norm);
    size_t i = 0;

    for (; i + WIDTH <= count; i += WIDTH)
        _mm_storeu_ps(out + i, _mm256_cvtpd_ps(_mm256_div_pd(four_f32(x + i), by)));
    if (i < count)
        kern_generic.scale_f32(x + i, count - i, norm, out + i);
}

const struct kern kern_avx2 = {
    .name = "avx2",
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
const struct kern kern_avx2 = {.name = "avx2"}; /* kern_supported is false: never called */
#endif
