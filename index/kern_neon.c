/* kern_neon.c - the kernels for 64-bit ARM: the same bits as kern_generic.c.
 *
 * Sixteen registers of two float64 lanes hold the 32 lanes; register r has lanes 2r and 2r + 1. The
 * last elements of a vector are padded with zeros: a lane is never -0 (it starts at +0), so adding
 * a zero product leaves its bits alone. Nothing is read past the end. Pure functions; any thread.
 */
#include <string.h>

#include "index/kern.h"

#if defined(__aarch64__)
#include <arm_neon.h>

enum { REGISTERS = KERN_LANES / 2, ROWS = 4, WIDTH = 4 };

static inline float32x4_t four_f32(const float *p)
{
    return vld1q_f32(p);
}

static inline float32x4_t four_f16(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

static inline float32x4_t four_bf16(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

/* The tree of kern.h. */
static inline double sum_lanes(float64x2_t a[REGISTERS])
{
    for (int w = REGISTERS / 2; w > 0; w /= 2)
        for (int r = 0; r < w; r++)
            a[r] = vaddq_f64(a[r], a[r + w]);
    return vgetq_lane_f64(a[0], 0) + vgetq_lane_f64(a[0], 1);
}

/* The three dots differ in how four elements of x become float32. */
#define DEFINE_DOT(name, type, four)                                                               \
    static inline void name##_add(float64x2_t lane[REGISTERS], const float *q, const type *x)      \
    {                                                                                              \
        _Pragma("GCC unroll 8") for (int r = 0; r < REGISTERS; r += 2)                             \
        {                                                                                          \
            const float32x4_t a = four_f32(q + 2 * r), b = four(x + 2 * r);                        \
                                                                                                   \
            lane[r] = vfmaq_f64(lane[r], vcvt_f64_f32(vget_low_f32(a)),                            \
                                vcvt_f64_f32(vget_low_f32(b)));                                    \
            lane[r + 1] =                                                                          \
                vfmaq_f64(lane[r + 1], vcvt_high_f64_f32(a), vcvt_high_f64_f32(b));                \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    static double name(const float *q, const type *x, size_t d)                                    \
    {                                                                                              \
        float64x2_t lane[REGISTERS];                                                               \
        size_t i = 0;                                                                              \
                                                                                                   \
        for (int r = 0; r < REGISTERS; r++)                                                        \
            lane[r] = vdupq_n_f64(0.0);                                                            \
        for (; i + KERN_LANES <= d; i += KERN_LANES)                                               \
            name##_add(lane, q + i, x + i);                                                        \
        if (i < d) {                                                                               \
            float qt[KERN_LANES] = {0};                                                            \
            type xt[KERN_LANES] = {0};                                                             \
                                                                                                   \
            memcpy(qt, q + i, (d - i) * sizeof *q);                                                \
            memcpy(xt, x + i, (d - i) * sizeof *x);                                                \
            name##_add(lane, qt, xt);                                                              \
        }                                                                                          \
        return sum_lanes(lane);                                                                    \
    }

DEFINE_DOT(dot_f32, float, four_f32)
DEFINE_DOT(dot_f16, uint16_t, four_f16)
DEFINE_DOT(dot_bf16, uint16_t, four_bf16)

/* One row fills half of the registers; four at a time would spill. */
static void dot4_f32(const float *q, const float *x, size_t stride, size_t d, double out[4])
{
    for (size_t n = 0; n < ROWS; n++)
        out[n] = dot_f32(q, (const float *)(const void *)((const char *)x + n * stride), d);
}

/* Four rows and sixteen columns at a time: sixteen sums, four columns and a factor. */
static inline void multiply_part(const float *a, const float *b, size_t depth, float *c)
{
    float32x4_t sum[4][4];

#pragma GCC unroll 4
    for (int r = 0; r < 4; r++)
        sum[r][0] = sum[r][1] = sum[r][2] = sum[r][3] = vdupq_n_f32(0.0f);
    for (; depth > 0; depth--, a += KERN_TALL, b += KERN_WIDE) {
        const float32x4_t b0 = vld1q_f32(b), b1 = vld1q_f32(b + 4), b2 = vld1q_f32(b + 8),
                          b3 = vld1q_f32(b + 12);

#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
            sum[r][0] = vfmaq_n_f32(sum[r][0], b0, a[r]);
            sum[r][1] = vfmaq_n_f32(sum[r][1], b1, a[r]);
            sum[r][2] = vfmaq_n_f32(sum[r][2], b2, a[r]);
            sum[r][3] = vfmaq_n_f32(sum[r][3], b3, a[r]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            vst1q_f32(c + r * KERN_WIDE + v * WIDTH, sum[r][v]);
}

static void multiply(const float *a, const float *b, size_t depth, float *c)
{
    for (size_t r = 0; r < KERN_TALL; r += 4)
        for (size_t j = 0; j < KERN_WIDE; j += 16)
            multiply_part(a + r, b + j, depth, c + r * KERN_WIDE + j);
}

static inline const float *row_at(const float *m, size_t stride, size_t k)
{
    return (const float *)(const void *)((const char *)m + k * stride);
}

/* Four rows at a time, so that sums are loaded and stored once for four additions. */
static void multiply_row(const float *x, const float *m, size_t stride, size_t depth, size_t count,
                         float *acc)
{
    size_t k = 0, j;

    for (; k + ROWS <= depth; k += ROWS) {
        for (j = 0; j + WIDTH <= count; j += WIDTH) {
            float32x4_t sum = vld1q_f32(acc + j);

#pragma GCC unroll 4
            for (size_t r = 0; r < ROWS; r++)
                sum = vfmaq_n_f32(sum, vld1q_f32(row_at(m, stride, k + r) + j), x[k + r]);
            vst1q_f32(acc + j, sum);
        }
        kern_generic.multiply_row(x + k, row_at(m, stride, k) + j, stride, ROWS, count - j,
                                  acc + j);
    }
    kern_generic.multiply_row(x + k, row_at(m, stride, k), stride, depth - k, count, acc);
}

static void widen_f16(const uint16_t *in, size_t count, float *out)
{
    size_t i = 0;

    for (; i + WIDTH <= count; i += WIDTH)
        vst1q_f32(out + i, four_f16(in + i));
    if (i < count)
        kern_generic.widen_f16(in + i, count - i, out + i);
}

static void widen_bf16(const uint16_t *in, size_t count, float *out)
{
    size_t i = 0;

    for (; i + WIDTH <= count; i += WIDTH)
        vst1q_f32(out + i, four_bf16(in + i));
    if (i < count)
        kern_generic.widen_bf16(in + i, count - i, out + i);
}

/* NaN and infinity have every bit of the exponent. */
static size_t first_bad_f32(const float *x, size_t count)
{
    const uint32x4_t exponent = vdupq_n_u32(0x7f800000);
    size_t i = 0;

    for (; i + WIDTH <= count; i += WIDTH) {
        const uint32x4_t bits = vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), exponent);

        if (vmaxvq_u32(vceqq_u32(bits, exponent)))
            break;
    }
    return i + kern_generic.first_bad_f32(x + i, count - i);
}

static void scale_f32(const float *x, size_t count, double norm, float *out)
{
    const float64x2_t by = vdupq_n_f64(norm);
    size_t i = 0;

    for (; i + WIDTH <= count; i += WIDTH) {
        const float32x4_t v = vld1q_f32(x + i);
        const float32x2_t low = vcvt_f32_f64(vdivq_f64(vcvt_f64_f32(vget_low_f32(v)), by));

        vst1q_f32(out + i, vcvt_high_f32_f64(low, vdivq_f64(vcvt_high_f64_f32(v), by)));
    }
    if (i < count)
        kern_generic.scale_f32(x + i, count - i, norm, out + i);
}

const struct kern kern_neon = {
    .name = "neon",
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
const struct kern kern_neon = {.name = "neon"}; /* kern_supported is false: never called */
#endif
