/* code.c - see code.h. No state; what a row's factors promise is proved in docs/exactness.md. */
#include "index/code.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "index/kern.h"
#include "index/qkern.h"
#include "index/rotate.h"
#include "index/vec.h"
#include "storage/base/bytes.h"
#include "storage/base/check.h"

/* Levels beyond this many standard deviations cost the others more than clipping costs: for normal
 * coordinates the sum of squares that 6 bits leave is least near 3.3, that of 8 bits near 3.9. */
#define CLIP 3.7

/* Of 1 / a^2, a the cosine of a row and its signs: pi / 2 for normal coordinates. Beyond it one bit
 * says little, and what rotation rounds would be multiplied too often. */
#define RATIO_MOST 16.0

/* Covers the rounding of a float64 sum of at most 2^19 positive terms, and of the root taken of
 * it. */
#define SUM_UP (1.0 + 0x1p-30)

size_t code_padded(size_t dim)
{
    return code_groups(dim) * QKERN_GROUP;
}

size_t code_groups(size_t dim)
{
    return (dim + QKERN_GROUP - 1) / QKERN_GROUP;
}

size_t code_bits_bytes(size_t dim, size_t rows)
{
    return code_groups(dim) * QKERN_BITS * rows;
}

size_t code_six_bytes(size_t dim, size_t rows)
{
    return code_groups(dim) * QKERN_SIX * rows;
}

size_t code_low_bytes(size_t dim, size_t rows)
{
    return code_groups(dim) * QKERN_LOW * rows;
}

size_t code_factors_bytes(size_t rows)
{
    return CODE_FACTORS * sizeof(float) * rows;
}

/* The least float32 that is not below v. */
static float up(double v)
{
    float f = (float)v;

    return (double)f < v ? nextafterf(f, INFINITY) : f;
}

/* Factors from the rotated row's sums; `length` is a bound on |x|. */
static void factors_of(const struct qkern_sums *sums, float s, size_t dim, double length,
                       float f[CODE_FACTORS])
{
    const double padded = (double)code_padded(dim), scale = (double)s;
    /* Rotation; the exact kernel's rounding; that of an estimate and of its bound. */
    const double eta = rotate_slack(code_padded(dim));
    const double slack = (eta + ((double)dim + 64.0) * 0x1p-52) * length;
    const double gain = sums->norm / sums->abs;
    const double ratio = padded * sums->norm / (sums->abs * sums->abs); /* 1 / a^2 >= 1 */
    const bool flat = ratio <= RATIO_MOST;

    f[CODE_SCALE] = s;
    f[CODE_REST6] = up(sqrt(sums->rest6) * SUM_UP + slack);
    f[CODE_REST8] = up(sqrt(sums->rest8) * SUM_UP + slack);
    f[CODE_LENGTH6] = up(2.0 * scale * sqrt((double)sums->code6) * SUM_UP);
    f[CODE_LENGTH8] = up(0.5 * scale * sqrt((double)sums->code8) * SUM_UP);
    f[CODE_GAIN1] = flat ? (float)gain : 0.0f;
    f[CODE_SPREAD1] = flat ? up(length * sqrt(fmax(ratio - 1.0, 0.0) + 11.0 * eta * ratio))
                           : INFINITY;
    f[CODE_LENGTH] = up(length);
}

static void no_factors(float f[CODE_FACTORS])
{
    for (int i = 0; i < CODE_FACTORS; i++)
        f[i] = INFINITY;
    f[CODE_SCALE] = f[CODE_GAIN1] = 0.0f;
}

static float scale_of(const float *rotated, size_t padded, double length)
{
    const double most = (double)qkern->max_abs(rotated, padded);

    return up(fmin(most, CLIP * length / sqrt((double)padded)) / 127.5);
}

static void code_row(enum dtype t, size_t dim, const void *row, uint32_t r,
                     const struct code_planes *out, float *x)
{
    const size_t groups = code_groups(dim), padded = code_padded(dim);
    unsigned char *bits = out->bits + groups * QKERN_BITS * r;
    unsigned char *six = out->six + groups * QKERN_SIX * r;
    unsigned char *low = out->low + groups * QKERN_LOW * r;
    float f[CODE_FACTORS];
    double length;

    vec_widen(row, t, dim, x);
    memset(x + dim, 0, (padded - dim) * sizeof *x);
    length = sqrt(kern->dot_f32(x, x, padded)) * SUM_UP;
    if (length >= 0x1p-64 && length <= 0x1p64) {
        struct qkern_sums sums;
        float s;

        rotate(x, padded);
        s = scale_of(x, padded, length);
        qkern->encode(x, groups, s, bits, six, low, &sums);
        factors_of(&sums, s, dim, length, f);
    } else {
        memset(bits, 0, groups * QKERN_BITS);
        memset(six, 0, groups * QKERN_SIX);
        memset(low, 0, groups * QKERN_LOW);
        no_factors(f);
    }
    for (size_t i = 0; i < CODE_FACTORS; i++) {
        uint32_t word;

        memcpy(&word, &f[i], sizeof word);
        bytes_put_le32(out->factors + (i * out->rows + r) * sizeof word, word);
    }
}

void code_rows(enum dtype t, size_t dim, const void *encodings, size_t stride, uint32_t first,
               uint32_t count, const struct code_planes *out, float *scratch)
{
    require(dim > 0 && dim <= CODE_DIM_MAX && (uint64_t)first + count <= out->rows);
    for (uint32_t i = 0; i < count; i++)
        code_row(t, dim, (const char *)encodings + i * stride, first + i, out, scratch);
}
