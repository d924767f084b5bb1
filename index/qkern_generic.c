/* qkern_generic.c - the integer kernels in plain C: the specification, and the last resort.
 *
 * Written to be read against qkern.h, one line for one rule. Loads and stores of more than a byte
 * go through memcpy: a plane in a map lies at any address. Pure functions; any thread.
 */
#include "index/qkern.h"

#include <math.h>
#include <string.h>

#include "index/kern.h"

enum { QUARTER = QKERN_GROUP / 4 };

static inline float f32_at(const float *p, size_t i)
{
    float v;

    memcpy(&v, (const char *)p + i * sizeof v, sizeof v);
    return v;
}

static inline void f32_put(float *p, size_t i, float v)
{
    memcpy((char *)p + i * sizeof v, &v, sizeof v);
}

static inline uint64_t word_at(const uint64_t *p, size_t i)
{
    uint64_t v;

    memcpy(&v, (const char *)p + i * sizeof v, sizeof v);
    return v;
}

/* The tree of kern.h: lane j and lane j + w, w = KERN_LANES/2, ..., 1. */
static double sum_lanes(double lane[KERN_LANES])
{
    for (size_t w = KERN_LANES / 2; w > 0; w /= 2)
        for (size_t j = 0; j < w; j++)
            lane[j] += lane[j + w];
    return lane[0];
}

/* One group of a plane -> 256 codes. */
typedef void unpack(const unsigned char *in, unsigned char *code);

static void unpack_bits(const unsigned char *in, unsigned char *code)
{
    for (size_t t = 0; t < QKERN_GROUP / QKERN_BITS; t++)
        for (size_t b = 0; b < QKERN_BITS; b++)
            code[QKERN_BITS * t + b] = in[b] >> t & 1;
}

static void unpack_six(const unsigned char *in, unsigned char *code)
{
    for (size_t j = 0; j < QUARTER; j++) {
        const unsigned a = in[j], b = in[QUARTER + j], c = in[2 * QUARTER + j];

        code[j] = a & 63;
        code[QUARTER + j] = b & 63;
        code[2 * QUARTER + j] = c & 63;
        code[3 * QUARTER + j] = (unsigned char)(c >> 6 << 4 | b >> 6 << 2 | a >> 6);
    }
}

static void unpack_low(const unsigned char *in, unsigned char *code)
{
    for (size_t k = 0; k < QKERN_GROUP / QUARTER; k++)
        for (size_t j = 0; j < QUARTER; j++)
            code[QUARTER * k + j] = in[j] >> 2 * k & 3;
}

static inline void dot(unpack *open, size_t group_bytes, const unsigned char *rows, size_t stride,
                       size_t count, const int8_t *const *q, size_t nq, size_t groups,
                       int32_t *out)
{
    unsigned char code[QKERN_GROUP];

    memset(out, 0, count * nq * sizeof *out);
    for (size_t r = 0; r < count; r++)
        for (size_t g = 0; g < groups; g++) {
            open(rows + r * stride + g * group_bytes, code);
            for (size_t j = 0; j < nq; j++) {
                const int8_t *v = q[j] + g * QKERN_GROUP;
                int32_t sum = 0;

                for (size_t i = 0; i < QKERN_GROUP; i++)
                    sum += code[i] * v[i];
                out[r * nq + j] += sum;
            }
        }
}

static void dot_bits(const unsigned char *rows, size_t stride, size_t count, const int8_t *const *q,
                     size_t nq, size_t groups, int32_t *out)
{
    dot(unpack_bits, QKERN_BITS, rows, stride, count, q, nq, groups, out);
}

static void dot_six(const unsigned char *rows, size_t stride, size_t count, const int8_t *const *q,
                    size_t nq, size_t groups, int32_t *out)
{
    dot(unpack_six, QKERN_SIX, rows, stride, count, q, nq, groups, out);
}

static void dot_low(const unsigned char *rows, size_t stride, size_t count, const int8_t *const *q,
                    size_t nq, size_t groups, int32_t *out)
{
    dot(unpack_low, QKERN_LOW, rows, stride, count, q, nq, groups, out);
}

static void join(const unsigned char *six, const unsigned char *low, size_t groups,
                 unsigned char *out)
{
    for (size_t g = 0; g < groups; g++) {
        unsigned char c6[QKERN_GROUP], c2[QKERN_GROUP];

        unpack_six(six + g * QKERN_SIX, c6);
        unpack_low(low + g * QKERN_LOW, c2);
        for (size_t i = 0; i < QKERN_GROUP; i++)
            out[g * QKERN_GROUP + i] = (unsigned char)(4 * c6[i] + c2[i] - QKERN_SIGNED);
    }
}

static void dot_joined(const unsigned char *rows, size_t stride, size_t count,
                       const int8_t *const *q, size_t nq, size_t groups, int32_t *out)
{
    for (size_t r = 0; r < count; r++)
        for (size_t j = 0; j < nq; j++) {
            uint32_t sum = 0;

            for (size_t i = 0; i < groups * QKERN_GROUP; i++)
                sum += (uint32_t)((int8_t)rows[r * stride + i] * q[j][i]);
            out[r * nq + j] = (int32_t)sum;
        }
}

static void fwht(float *x, size_t n)
{
    for (size_t h = 1; h < n; h *= 2)
        for (size_t from = 0; from < n; from += 2 * h)
            for (size_t i = from; i < from + h; i++) {
                const float a = f32_at(x, i), b = f32_at(x, i + h);

                f32_put(x, i, a + b);
                f32_put(x, i + h, a - b);
            }
}

static void flip(float *x, const uint64_t *signs, float scale, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float v = f32_at(x, i) * scale;

        f32_put(x, i, word_at(signs, i / 64) >> i % 64 & 1 ? -v : v);
    }
}

static float max_abs(const float *x, size_t n)
{
    float most = 0.0f;

    for (size_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(f32_at(x, i)));
    return most;
}

/* c8 of one element. The clamp comes first, so that nothing too large becomes an integer. */
static inline unsigned code_of(float x, float inverse)
{
    const float v = fminf(fmaxf(x * inverse, -128.0f), 127.0f);

    return (unsigned)((int)floorf(v) + 128);
}

/* The planes of one group from its 256 codes. */
static void pack(const unsigned char *c8, unsigned char *bits, unsigned char *six,
                 unsigned char *low)
{
    memset(bits, 0, QKERN_BITS);
    for (size_t i = 0; i < QKERN_GROUP; i++)
        bits[i % QKERN_BITS] =
            (unsigned char)(bits[i % QKERN_BITS] | (c8[i] >> 7) << i / QKERN_BITS);
    for (size_t j = 0; j < QUARTER; j++) {
        const unsigned a = c8[j], b = c8[QUARTER + j], c = c8[2 * QUARTER + j],
                       d = c8[3 * QUARTER + j];

        six[j] = (unsigned char)(a >> 2 | (d >> 2 & 3) << 6);
        six[QUARTER + j] = (unsigned char)(b >> 2 | (d >> 4 & 3) << 6);
        six[2 * QUARTER + j] = (unsigned char)(c >> 2 | d >> 6 << 6);
        low[j] = (unsigned char)((a & 3) | (b & 3) << 2 | (c & 3) << 4 | (d & 3) << 6);
    }
}

static void encode(const float *x, size_t groups, float s, unsigned char *bits, unsigned char *six,
                   unsigned char *low, struct qkern_sums *sums)
{
    double rest6[KERN_LANES] = {0}, rest8[KERN_LANES] = {0};
    double norm[KERN_LANES] = {0}, most[KERN_LANES] = {0};
    const float inverse = 1.0f / s;
    int64_t code6 = 0, code8 = 0;

    for (size_t g = 0; g < groups; g++) {
        unsigned char c8[QKERN_GROUP];

        for (size_t i = 0; i < QKERN_GROUP; i++) {
            const double v = (double)f32_at(x, g * QKERN_GROUP + i);
            const unsigned c = code_of((float)v, inverse);
            const int w6 = 2 * (int)(c >> 2) - 63, w8 = 2 * (int)c - 255;
            const double d6 = v - (double)s * (2 * w6), d8 = v - (double)s * (0.5 * w8);
            const size_t lane = i % KERN_LANES;

            c8[i] = (unsigned char)c;
            rest6[lane] += d6 * d6;
            rest8[lane] += d8 * d8;
            norm[lane] += v * v;
            most[lane] += fabs(v);
            code6 += w6 * w6;
            code8 += w8 * w8;
        }
        pack(c8, bits + g * QKERN_BITS, six + g * QKERN_SIX, low + g * QKERN_LOW);
    }
    *sums = (struct qkern_sums){.rest6 = sum_lanes(rest6),
                                .rest8 = sum_lanes(rest8),
                                .norm = sum_lanes(norm),
                                .abs = sum_lanes(most),
                                .code6 = code6,
                                .code8 = code8};
}

static void split(const float *u, size_t groups, float sq, int8_t *hi, int8_t *lo,
                  struct qkern_split *sums)
{
    double rest[KERN_LANES] = {0}, rest_hi[KERN_LANES] = {0};
    const float inverse = 1.0f / sq, top = QKERN_Q_MAX;
    int64_t sum = 0, sum_hi = 0;

    for (size_t i = 0; i < groups * QKERN_GROUP; i++) {
        const double v = (double)f32_at(u, i);
        const int q = (int)rintf(fminf(fmaxf((float)v * inverse, -top), top));
        const int h = (q + 64 + 128 * 128) / 128 - 128; /* (q + 64) >> 7, without shifting a sign */
        const double d = v - (double)sq * q, dh = v - (double)sq * (128 * h);

        hi[i] = (int8_t)h;
        lo[i] = (int8_t)(q - 128 * h);
        rest[i % KERN_LANES] += d * d;
        rest_hi[i % KERN_LANES] += dh * dh;
        sum += q;
        sum_hi += h;
    }
    *sums = (struct qkern_split){
        .rest = sum_lanes(rest), .rest_hi = sum_lanes(rest_hi), .sum = sum, .sum_hi = sum_hi};
}

const struct qkern qkern_generic = {.name = "generic",
                                    .dot_bits = dot_bits,
                                    .dot_six = dot_six,
                                    .dot_low = dot_low,
                                    .join = join,
                                    .base = QKERN_SIGNED,
                                    .dot_joined = dot_joined,
                                    .joined_from = 128,
                                    .fwht = fwht,
                                    .flip = flip,
                                    .max_abs = max_abs,
                                    .encode = encode,
                                    .split = split};
