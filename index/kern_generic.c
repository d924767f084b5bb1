/* kern_generic.c - the kernels in plain C: the specification, and the last resort.
 *
 * Loads and stores go through memcpy, since rows in a map and tensors in a body lie at any address.
 * Pure functions; any thread. See kern.h for the rule of the lanes.
 */
#include <math.h>
#include <string.h>

#include "index/kern.h"

static inline float f32_at(const float *p, size_t i)
{
    float v;

    memcpy(&v, (const char *)p + i * sizeof v, sizeof v);
    return v;
}

static inline uint32_t u32_at(const float *p, size_t i)
{
    uint32_t v;

    memcpy(&v, (const char *)p + i * sizeof v, sizeof v);
    return v;
}

static inline uint16_t u16_at(const uint16_t *p, size_t i)
{
    uint16_t v;

    memcpy(&v, (const char *)p + i * sizeof v, sizeof v);
    return v;
}

static inline void f32_put(float *p, size_t i, float v)
{
    memcpy((char *)p + i * sizeof v, &v, sizeof v);
}

static inline float of_bits(uint32_t bits)
{
    float v;

    memcpy(&v, &bits, sizeof v);
    return v;
}

/* IEEE 754 binary16: every value is a float32. A signalling NaN becomes quiet, as in F16C. */
static inline float of_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h >> 15) << 31, exponent = (h >> 10) & 31, part = h & 1023;

    if (exponent == 31)
        return of_bits(sign | 0x7f800000 | part << 13 | (part ? 0x400000u : 0));
    if (exponent == 0)
        return of_bits(sign) + (sign ? -1.0f : 1.0f) * (float)part * 0x1p-24f;
    return of_bits(sign | (exponent + 112) << 23 | part << 13);
}

static inline float of_bf16(uint16_t h)
{
    return of_bits((uint32_t)h << 16);
}

/* The tree: lane j and lane j + w, w = KERN_LANES/2, ..., 1. */
static double sum_lanes(double lane[KERN_LANES])
{
    for (size_t w = KERN_LANES / 2; w > 0; w /= 2)
        for (size_t j = 0; j < w; j++)
            lane[j] += lane[j + w];
    return lane[0];
}

static double dot_f32(const float *q, const float *x, size_t d)
{
    double lane[KERN_LANES] = {0};

    for (size_t i = 0; i < d; i++)
        lane[i % KERN_LANES] += (double)f32_at(q, i) * (double)f32_at(x, i);
    return sum_lanes(lane);
}

static double dot_f16(const float *q, const uint16_t *x, size_t d)
{
    double lane[KERN_LANES] = {0};

    for (size_t i = 0; i < d; i++)
        lane[i % KERN_LANES] += (double)f32_at(q, i) * (double)of_f16(u16_at(x, i));
    return sum_lanes(lane);
}

static double dot_bf16(const float *q, const uint16_t *x, size_t d)
{
    double lane[KERN_LANES] = {0};

    for (size_t i = 0; i < d; i++)
        lane[i % KERN_LANES] += (double)f32_at(q, i) * (double)of_bf16(u16_at(x, i));
    return sum_lanes(lane);
}

static void dot4_f32(const float *q, const float *x, size_t stride, size_t d, double out[4])
{
    for (size_t r = 0; r < 4; r++)
        out[r] = dot_f32(q, (const float *)(const void *)((const char *)x + r * stride), d);
}

/* a b + c, rounded once. Without the instruction: the product is exact in float64, the sum is
 * rounded there to odd (its last bit set when anything was lost), and a second rounding to far
 * fewer bits is then the right one (Boldo and Melquiond, Emulation of a FMA and Correctly Rounded
 * Sums, 2008). */
static inline float fused(float a, float b, float c)
{
#ifdef FP_FAST_FMAF
    return fmaf(a, b, c);
#else
    const double p = (double)a * (double)b, sum = p + (double)c, part = sum - p;
    const double lost = (p - (sum - part)) + ((double)c - part); /* Knuth's TwoSum: exact */
    uint64_t bits;
    double odd;

    memcpy(&bits, &sum, sizeof bits);
    if ((lost > 0.0 || lost < 0.0) && !(bits & 1))
        bits += (lost > 0.0) == (sum > 0.0) ? 1 : UINT64_MAX;
    memcpy(&odd, &bits, sizeof odd);
    return (float)odd;
#endif
}

static void multiply(const float *a, const float *b, size_t depth, float *c)
{
    memset(c, 0, KERN_TALL * KERN_WIDE * sizeof *c);
    for (size_t k = 0; k < depth; k++)
        for (size_t r = 0; r < KERN_TALL; r++)
            for (size_t j = 0; j < KERN_WIDE; j++)
                c[r * KERN_WIDE + j] =
                    fused(a[k * KERN_TALL + r], b[k * KERN_WIDE + j], c[r * KERN_WIDE + j]);
}

static void multiply_row(const float *x, const float *m, size_t stride, size_t depth, size_t count,
                         float *acc)
{
    for (size_t k = 0; k < depth; k++) {
        const float *row = (const float *)(const void *)((const char *)m + k * stride);

        for (size_t j = 0; j < count; j++)
            acc[j] = fused(f32_at(x, k), f32_at(row, j), acc[j]);
    }
}

static void widen_f16(const uint16_t *in, size_t count, float *out)
{
    for (size_t i = 0; i < count; i++)
        f32_put(out, i, of_f16(u16_at(in, i)));
}

static void widen_bf16(const uint16_t *in, size_t count, float *out)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = (uint32_t)u16_at(in, i) << 16;

        memcpy((char *)out + i * sizeof bits, &bits, sizeof bits); /* a NaN keeps its bits */
    }
}

static size_t first_bad_f32(const float *x, size_t count)
{
    size_t i = 0;

    while (i < count && (u32_at(x, i) & 0x7f800000) != 0x7f800000)
        i++;
    return i;
}

static void scale_f32(const float *x, size_t count, double norm, float *out)
{
    for (size_t i = 0; i < count; i++)
        f32_put(out, i, (float)((double)f32_at(x, i) / norm));
}

const struct kern kern_generic = {
    .name = "generic",
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
