/* qkern_avx512.c - the integer kernels for AVX-512 F, BW, DQ, VL: the same bits as qkern_generic.c.
 *
 * Fused multiply-add stands only where the product is exact (a factor of +-1, or a float32 scale by
 * a small integer in float64): there it rounds as a product and a sum do. Nothing is read or
 * written past the end. Pure functions; any thread. See qkern.h.
 */
#include <stdbool.h>
#include <string.h>

#include "index/qkern.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "index/kern.h"
#include "index/qkern_avx512.h"
#include "index/unroll.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))

static TARGET inline __m512i mac(__m512i sum, __m512i code, __m512i q)
{
    /* 63 * 128 * 2 < 2^15: the pairs never saturate */
    const __m512i pairs = _mm512_maddubs_epi16(code, q);

    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

/* Signed bytes by signed: |code| by q of code's sign. 2 * 128 * 127 < 2^15. */
static TARGET inline __m512i mac_joined(__m512i sum, __m512i code, __m512i q)
{
    const __m512i turned =
        _mm512_mask_sub_epi8(q, _mm512_movepi8_mask(code), _mm512_setzero_si512(), q);

    return mac(sum, _mm512_abs_epi8(code), turned);
}

#define JOINED_BASE QKERN_SIGNED

#include "index/qkern_avx512_dot.inc"

enum { WIDTH = 16, REGISTERS = KERN_LANES / 8 };

/* One stage inside a register: v is a, b and `other` b, a; b's places hold -1 in `signs`. */
static ALWAYS __m512 stage(__m512 v, __m512 other, __m512 signs)
{
    return _mm512_fmadd_ps(v, signs, other);
}

/* Stages h = 1, 2, 4, 8. */
static ALWAYS __m512 stages_inside(__m512 v)
{
    const __m512 one = _mm512_set1_ps(1.0f), minus = _mm512_set1_ps(-1.0f);

    v = stage(v, _mm512_permute_ps(v, 0xb1), _mm512_mask_mov_ps(one, 0xaaaa, minus));
    v = stage(v, _mm512_permute_ps(v, 0x4e), _mm512_mask_mov_ps(one, 0xcccc, minus));
    v = stage(v, _mm512_shuffle_f32x4(v, v, 0xb1), _mm512_mask_mov_ps(one, 0xf0f0, minus));
    return stage(v, _mm512_shuffle_f32x4(v, v, 0x4e), _mm512_mask_mov_ps(one, 0xff00, minus));
}

/* Stages across `count` registers (a power of two, constant where this is inlined). */
static ALWAYS void stages_across(__m512 *v, int count)
{
    UNROLL
    for (int h = 1; h < count; h *= 2)
        UNROLL
        for (int i = 0; i < count; i++)
            if (!(i & h)) {
                const __m512 a = v[i], b = v[i + h];

                v[i] = _mm512_add_ps(a, b);
                v[i + h] = _mm512_sub_ps(a, b);
            }
}

/* Stages h, 2h, ..., radix/2 * h in one pass over memory. */
static ALWAYS void pass(float *x, size_t n, size_t h, int radix)
{
    for (size_t from = 0; from < n; from += (size_t)radix * h)
        for (size_t i = from; i < from + h; i += WIDTH) {
            __m512 v[8];

            UNROLL
            for (int k = 0; k < radix; k++)
                v[k] = _mm512_loadu_ps(x + i + (size_t)k * h);
            stages_across(v, radix);
            UNROLL
            for (int k = 0; k < radix; k++)
                _mm512_storeu_ps(x + i + (size_t)k * h, v[k]);
        }
}

/* Eight stages in registers, then three with each pass over memory. */
TARGET void qkern_avx512_fwht(float *x, size_t n)
{
    size_t h = QKERN_GROUP;

    for (size_t from = 0; from < n; from += QKERN_GROUP) {
        __m512 v[16];

        UNROLL
        for (int k = 0; k < 16; k++)
            v[k] = stages_inside(_mm512_loadu_ps(x + from + (size_t)(WIDTH * k)));
        stages_across(v, 16);
        UNROLL
        for (int k = 0; k < 16; k++)
            _mm512_storeu_ps(x + from + (size_t)(WIDTH * k), v[k]);
    }
    for (; h * 8 <= n; h *= 8)
        pass(x, n, h, 8);
    if (h * 4 <= n)
        pass(x, n, h, 4);
    else if (h * 2 <= n)
        pass(x, n, h, 2);
}

TARGET void qkern_avx512_flip(float *x, const uint64_t *signs, float scale, size_t n)
{
    const __m512 by = _mm512_set1_ps(scale);
    const __m512i minus = _mm512_set1_epi32((int)0x80000000);

    for (size_t i = 0; i < n; i += 64) {
        uint64_t word;

        memcpy(&word, (const char *)signs + i / 8, sizeof word);
        for (size_t k = 0; k < 64; k += WIDTH) {
            __m512i v = _mm512_castps_si512(_mm512_mul_ps(_mm512_loadu_ps(x + i + k), by));

            v = _mm512_mask_xor_epi32(v, (__mmask16)(word >> k), v, minus);
            _mm512_storeu_ps(x + i + k, _mm512_castsi512_ps(v));
        }
    }
}

TARGET float qkern_avx512_max_abs(const float *x, size_t n)
{
    __m512 most[4];

    for (int k = 0; k < 4; k++)
        most[k] = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 64)
        UNROLL
        for (int k = 0; k < 4; k++)
            most[k] = _mm512_max_ps(
                most[k], _mm512_abs_ps(_mm512_loadu_ps(x + i + (size_t)(WIDTH * k))));
    return _mm512_reduce_max_ps(
        _mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3])));
}

/* The tree of kern.h over lanes 8r .. 8r+7 in register r. */
static ALWAYS double sum_doubles(const __m512d a[REGISTERS])
{
    const __m512d c = _mm512_add_pd(_mm512_add_pd(a[0], a[2]), _mm512_add_pd(a[1], a[3]));
    const __m256d v = _mm256_add_pd(_mm512_castpd512_pd256(c), _mm512_extractf64x4_pd(c, 1));
    const __m128d half = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));

    return _mm_cvtsd_f64(_mm_add_sd(half, _mm_unpackhi_pd(half, half)));
}

/* Int32 lanes, each below 2^31, whose sum may be above. */
static ALWAYS int64_t sum_wide(__m512i v)
{
    return _mm512_reduce_add_epi64(
        _mm512_add_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(v)),
                         _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(v, 1))));
}

/* The eight float64 of half `high` of sixteen float32 or int32. */
static ALWAYS __m512d half_ps(__m512 v, int high)
{
    return _mm512_cvtps_pd(high ? _mm512_extractf32x8_ps(v, 1) : _mm512_castps512_ps256(v));
}

static ALWAYS __m512d half_int(__m512i v, int high)
{
    return _mm512_cvtepi32_pd(high ? _mm512_extracti64x4_epi64(v, 1) : _mm512_castsi512_si256(v));
}

/* sum += (x - scale * by)^2: the product is exact, so the difference is rounded once; the square is
 * rounded, then added. */
static ALWAYS __m512d add_square(__m512d sum, __m512d x, __m512d scale, __m512d by)
{
    const __m512d d = _mm512_fnmadd_pd(scale, by, x);

    return _mm512_add_pd(sum, _mm512_mul_pd(d, d));
}

struct encoding {
    __m512d rest6[REGISTERS], rest8[REGISTERS], norm[REGISTERS], abs[REGISTERS];
    __m512i code6, code8; /* int32 lanes */
};

/* c8 - 128 of sixteen elements, and their share of the float64 sums: registers r and r + 1. */
static ALWAYS __m512i encode_sixteen(struct encoding *e, int r, __m512 x, __m512 inverse,
                                     __m512d scale)
{
    const __m512 most = _mm512_set1_ps(127.0f), least = _mm512_set1_ps(-128.0f);
    const __m512i c = _mm512_cvt_roundps_epi32(
        _mm512_min_ps(_mm512_max_ps(_mm512_mul_ps(x, inverse), least), most),
        _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    const __m512i four = _mm512_and_si512(c, _mm512_set1_epi32(-4)); /* 4 c6 - 128 */

    UNROLL
    for (int high = 0; high < 2; high++) {
        const __m512d v = half_ps(x, high);
        const __m512d by8 = _mm512_add_pd(half_int(c, high), _mm512_set1_pd(0.5));
        const __m512d by6 = _mm512_add_pd(half_int(four, high), _mm512_set1_pd(2.0));

        e->rest8[r + high] = add_square(e->rest8[r + high], v, scale, by8);
        e->rest6[r + high] = add_square(e->rest6[r + high], v, scale, by6);
        e->norm[r + high] = _mm512_fmadd_pd(v, v, e->norm[r + high]); /* the square is exact */
        e->abs[r + high] = _mm512_add_pd(e->abs[r + high], _mm512_abs_pd(v));
    }
    return c;
}

/* The integer sums of 64 codes: (2 c8 - 255)^2 = (2c + 1)^2 with c = c8 - 128, and likewise
 * (2 c6 - 63)^2 = (2 (c >> 2) + 1)^2. */
static ALWAYS void add_codes(struct encoding *e, __m512i c)
{
    const __m512i one = _mm512_set1_epi16(1);

    UNROLL
    for (int high = 0; high < 2; high++) {
        const __m512i wide = _mm512_cvtepi8_epi16(high ? _mm512_extracti64x4_epi64(c, 1)
                                                       : _mm512_castsi512_si256(c));
        const __m512i w8 = _mm512_add_epi16(_mm512_slli_epi16(wide, 1), one);
        const __m512i w6 =
            _mm512_add_epi16(_mm512_slli_epi16(_mm512_srai_epi16(wide, 2), 1), one);

        e->code8 = _mm512_add_epi32(e->code8, _mm512_madd_epi16(w8, w8));
        e->code6 = _mm512_add_epi32(e->code6, _mm512_madd_epi16(w6, w6));
    }
}

/* bits: bit 2k of a byte from the low half of quarter k, bit 2k + 1 from the high half. */
static ALWAYS __m512i bit_pair(__m512i code, int k)
{
    const __m512i by = _mm512_inserti64x4(_mm512_set1_epi16((short)(7 - 2 * k)),
                                          _mm256_set1_epi16((short)(6 - 2 * k)), 1);

    return _mm512_srlv_epi16(_mm512_and_si512(code, _mm512_set1_epi8((char)0x80)), by);
}

/* (v >> right) & mask and (v << left) & mask, of bytes. Macros, since a shift by a constant must
 * see the constant also where nothing is inlined. */
#define FIELD(v, right, mask)                                                                      \
    _mm512_and_si512(_mm512_srli_epi16(v, right), _mm512_set1_epi8((char)(mask)))
#define LIFT(v, left, mask)                                                                        \
    _mm512_and_si512(_mm512_slli_epi16(v, left), _mm512_set1_epi8((char)(mask)))

/* The planes of one group from its 256 codes c8. */
static ALWAYS void pack(const __m512i c[4], unsigned char *bits, unsigned char *six,
                        unsigned char *low)
{
    const __m512i pairs = _mm512_or_si512(_mm512_or_si512(bit_pair(c[0], 0), bit_pair(c[1], 1)),
                                          _mm512_or_si512(bit_pair(c[2], 2), bit_pair(c[3], 3)));
    const __m512i crumbs =
        _mm512_or_si512(_mm512_or_si512(LIFT(c[0], 0, 0x03), LIFT(c[1], 2, 0x0c)),
                        _mm512_or_si512(LIFT(c[2], 4, 0x30), LIFT(c[3], 6, 0xc0)));

    _mm256_storeu_si256((__m256i *)(void *)bits,
                        _mm256_or_si256(_mm512_castsi512_si256(pairs),
                                        _mm512_extracti64x4_epi64(pairs, 1)));
    _mm512_storeu_si512(six, _mm512_or_si512(FIELD(c[0], 2, 0x3f), LIFT(c[3], 4, 0xc0)));
    _mm512_storeu_si512(six + QUARTER, _mm512_or_si512(FIELD(c[1], 2, 0x3f), LIFT(c[3], 2, 0xc0)));
    _mm512_storeu_si512(six + 2 * QUARTER,
                        _mm512_or_si512(FIELD(c[2], 2, 0x3f), LIFT(c[3], 0, 0xc0)));
    _mm512_storeu_si512(low, crumbs);
}

TARGET void qkern_avx512_encode(const float *x, size_t groups, float s, unsigned char *bits,
                                unsigned char *six, unsigned char *low, struct qkern_sums *sums)
{
    const __m512 inverse = _mm512_set1_ps(1.0f / s);
    const __m512d scale = _mm512_set1_pd((double)s);
    struct encoding e;

    memset(&e, 0, sizeof e);
    for (size_t g = 0; g < groups; g++) {
        __m512i c8[4];

        UNROLL
        for (size_t k = 0; k < 4; k++) {
            const float *at = x + g * QKERN_GROUP + QUARTER * k;
            const __m512i a = encode_sixteen(&e, 0, _mm512_loadu_ps(at), inverse, scale);
            const __m512i b = encode_sixteen(&e, 2, _mm512_loadu_ps(at + 16), inverse, scale);
            const __m512i c = encode_sixteen(&e, 0, _mm512_loadu_ps(at + 32), inverse, scale);
            const __m512i d = encode_sixteen(&e, 2, _mm512_loadu_ps(at + 48), inverse, scale);
            const __m256i ab = _mm256_set_m128i(_mm512_cvtepi32_epi8(b), _mm512_cvtepi32_epi8(a));
            const __m256i cd = _mm256_set_m128i(_mm512_cvtepi32_epi8(d), _mm512_cvtepi32_epi8(c));
            const __m512i all = _mm512_inserti64x4(_mm512_castsi256_si512(ab), cd, 1);

            add_codes(&e, all);
            c8[k] = _mm512_xor_si512(all, _mm512_set1_epi8((char)0x80)); /* + 128 */
        }
        pack(c8, bits + g * QKERN_BITS, six + g * QKERN_SIX, low + g * QKERN_LOW);
    }
    *sums = (struct qkern_sums){.rest6 = sum_doubles(e.rest6),
                                .rest8 = sum_doubles(e.rest8),
                                .norm = sum_doubles(e.norm),
                                .abs = sum_doubles(e.abs),
                                .code6 = sum_wide(e.code6),
                                .code8 = sum_wide(e.code8)};
}

TARGET void qkern_avx512_split(const float *u, size_t groups, float sq, int8_t *hi, int8_t *lo,
                               struct qkern_split *sums)
{
    const __m512 inverse = _mm512_set1_ps(1.0f / sq), top = _mm512_set1_ps(QKERN_Q_MAX);
    const __m512 least = _mm512_set1_ps(-QKERN_Q_MAX);
    const __m512d scale = _mm512_set1_pd((double)sq);
    __m512d rest[REGISTERS], rest_hi[REGISTERS];
    __m512i sum = _mm512_setzero_si512(), sum_hi = sum;

    memset(rest, 0, sizeof rest);
    memset(rest_hi, 0, sizeof rest_hi);
    for (size_t i = 0; i < groups * QKERN_GROUP; i += KERN_LANES)
        UNROLL
        for (int r = 0; r < REGISTERS; r += 2) {
            const size_t at = i + (size_t)(8 * r);
            const __m512 v = _mm512_loadu_ps(u + at);
            const __m512i q = _mm512_cvtps_epi32(
                _mm512_min_ps(_mm512_max_ps(_mm512_mul_ps(v, inverse), least), top));
            const __m512i h = _mm512_srai_epi32(_mm512_add_epi32(q, _mm512_set1_epi32(64)), 7);
            const __m512i h128 = _mm512_slli_epi32(h, 7);

            _mm_storeu_si128((__m128i *)(void *)(hi + at), _mm512_cvtepi32_epi8(h));
            _mm_storeu_si128((__m128i *)(void *)(lo + at),
                             _mm512_cvtepi32_epi8(_mm512_sub_epi32(q, h128)));
            sum = _mm512_add_epi32(sum, q);
            sum_hi = _mm512_add_epi32(sum_hi, h);
            UNROLL
            for (int high = 0; high < 2; high++) {
                const __m512d x = half_ps(v, high);

                rest[r + high] = add_square(rest[r + high], x, scale, half_int(q, high));
                rest_hi[r + high] = add_square(rest_hi[r + high], x, scale, half_int(h128, high));
            }
        }
    *sums = (struct qkern_split){.rest = sum_doubles(rest),
                                 .rest_hi = sum_doubles(rest_hi),
                                 .sum = sum_wide(sum),
                                 .sum_hi = sum_wide(sum_hi)};
}

const struct qkern qkern_avx512 = {.name = "avx512",
                                   .dot_bits = dot_bits,
                                   .dot_six = dot_six,
                                   .dot_low = dot_low,
                                   .join = join,
                                   .base = JOINED_BASE,
                                   .dot_joined = dot_joined,
                                   .joined_from = 128,
                                   .fwht = qkern_avx512_fwht,
                                   .flip = qkern_avx512_flip,
                                   .max_abs = qkern_avx512_max_abs,
                                   .encode = qkern_avx512_encode,
                                   .split = qkern_avx512_split};
#else
const struct qkern qkern_avx512 = {.name = "avx512"}; /* qkern_supported is false: never called */
#endif
