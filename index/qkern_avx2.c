/* qkern_avx2.c - the integer kernels for AVX2 with FMA: the same bits as qkern_generic.c.
 *
 * Fused multiply-add stands only where the product is exact (a factor of +-1, or a float32 scale by
 * a small integer in float64): there it rounds as a product and a sum do. Nothing is read or
 * written past the end. Pure functions; any thread. See qkern.h.
 */
#include <string.h>

#include "index/qkern.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "index/kern.h"
#include "index/unroll.h"

#define TARGET __attribute__((target("avx2,fma")))
#define ALWAYS TARGET inline __attribute__((always_inline))

enum { ROWS = 2, COLS = 4, EIGHTH = QKERN_GROUP / 8, WIDTH = 8, REGISTERS = KERN_LANES / 4 };

static ALWAYS __m256i load(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

static ALWAYS void store(void *p, __m256i v)
{
    _mm256_storeu_si256((__m256i *)p, v);
}

/* (v >> right) & mask and (v << left) & mask, of bytes. Macros, since a shift by a constant must
 * see the constant also where nothing is inlined. */
#define FIELD(v, right, mask)                                                                      \
    _mm256_and_si256(_mm256_srli_epi16(v, right), _mm256_set1_epi8((char)(mask)))
#define LIFT(v, left, mask)                                                                        \
    _mm256_and_si256(_mm256_slli_epi16(v, left), _mm256_set1_epi8((char)(mask)))

/* 32 codes of a group, elements 32t .. 32t+31. */
typedef __m256i codes_at(const unsigned char *group, int t);
typedef __m256i add_products(__m256i sum, __m256i a, __m256i b, const int8_t *q);

static ALWAYS __m256i joined_at(const unsigned char *p, int t)
{
    return load(p + EIGHTH * t);
}

static ALWAYS __m256i bits_at(const unsigned char *p, int t)
{
    return _mm256_and_si256(_mm256_srl_epi16(load(p), _mm_cvtsi32_si128(t)), _mm256_set1_epi8(1));
}

static ALWAYS __m256i six_at(const unsigned char *p, int t)
{
    __m256i a, b, c;

    if (t < 6)
        return _mm256_and_si256(load(p + EIGHTH * t), _mm256_set1_epi8(63));
    p += EIGHTH * (t - 6);
    a = FIELD(load(p), 6, 3);
    b = FIELD(load(p + 2 * EIGHTH), 4, 12);
    c = FIELD(load(p + 4 * EIGHTH), 2, 48);
    return _mm256_or_si256(_mm256_or_si256(a, b), c);
}

static ALWAYS __m256i low_at(const unsigned char *p, int t)
{
    const __m256i crumbs = load(p + EIGHTH * (t % 2));

    return _mm256_and_si256(_mm256_srl_epi16(crumbs, _mm_cvtsi32_si128(t / 2 * 2)),
                            _mm256_set1_epi8(3));
}

static ALWAYS int32_t sum_int(__m256i v)
{
    __m128i x = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xb1)));
}

/* sum + the products of 64 codes. Four of them meet in 16 bits: 63 * 128 * 4 < 2^15. */
static ALWAYS __m256i mac(__m256i sum, __m256i a, __m256i b, const int8_t *q)
{
    const __m256i fours = _mm256_add_epi16(_mm256_maddubs_epi16(a, load(q)),
                                           _mm256_maddubs_epi16(b, load(q + EIGHTH)));

    return _mm256_add_epi32(sum, _mm256_madd_epi16(fours, _mm256_set1_epi16(1)));
}

/* 32 signed codes by int8, sums of two: |code| by q of code's sign. 2 * 128 * 127 < 2^15. */
static ALWAYS __m256i signed_pairs(__m256i code, const int8_t *q)
{
    return _mm256_maddubs_epi16(_mm256_abs_epi8(code), _mm256_sign_epi8(load(q), code));
}

static ALWAYS __m256i mac_joined(__m256i sum, __m256i a, __m256i b, const int8_t *q)
{
    const __m256i one = _mm256_set1_epi16(1);

    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(signed_pairs(a, q), one));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(signed_pairs(b, q + EIGHTH), one));
}

/* rows x cols sums (both constants where this is inlined): a vector of a row is unpacked once. For
 * each group `lines` cache lines are fetched into L2, from `ahead` on. */
static ALWAYS void tile(codes_at *at, add_products *add, size_t bytes, const unsigned char *row,
                        size_t stride, int rows, const int8_t *const *q, int cols, size_t groups,
                        const unsigned char *ahead, size_t lines, int32_t *out, size_t nq)
{
    __m256i sum[ROWS * COLS];

    UNROLL
    for (int i = 0; i < ROWS * COLS; i++)
        sum[i] = _mm256_setzero_si256();
    for (size_t g = 0; g < groups; g++) {
        for (size_t i = 0; i < lines; i++, ahead += 64)
            _mm_prefetch((const char *)ahead, _MM_HINT_T1);
        UNROLL
        for (int k = 0; k < 4; k++)
            UNROLL
            for (int r = 0; r < rows; r++) {
                const unsigned char *group = row + (size_t)r * stride + g * bytes;
                const __m256i a = at(group, 2 * k), b = at(group, 2 * k + 1);

                UNROLL
                for (int j = 0; j < cols; j++)
                    sum[r * COLS + j] =
                        add(sum[r * COLS + j], a, b, q[j] + g * QKERN_GROUP + 2 * EIGHTH * k);
            }
    }
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < cols; j++)
            out[(size_t)r * nq + (size_t)j] = sum_int(sum[r * COLS + j]);
}

static ALWAYS void tile_cols(codes_at *at, add_products *add, size_t bytes,
                             const unsigned char *row, size_t stride, int rows,
                             const int8_t *const *q, size_t cols, size_t groups,
                             const unsigned char *ahead, size_t lines, int32_t *out, size_t nq)
{
    if (cols >= 4)
        tile(at, add, bytes, row, stride, rows, q, 4, groups, ahead, lines, out, nq);
    else if (cols == 3)
        tile(at, add, bytes, row, stride, rows, q, 3, groups, ahead, lines, out, nq);
    else if (cols == 2)
        tile(at, add, bytes, row, stride, rows, q, 2, groups, ahead, lines, out, nq);
    else
        tile(at, add, bytes, row, stride, rows, q, 1, groups, ahead, lines, out, nq);
}

/* While a tile is multiplied, its share of the next ROWS rows is fetched. */
static ALWAYS void dot(codes_at *at, add_products *add, size_t bytes, const unsigned char *rows,
                       size_t stride, size_t count, const int8_t *const *q, size_t nq,
                       size_t groups, int32_t *out)
{
    const size_t tiles = (nq + COLS - 1) / COLS;
    const size_t lines = (ROWS * bytes / 64 + tiles - 1) / tiles;
    size_t r = 0;

    for (; r + ROWS <= count; r += ROWS) {
        const unsigned char *row = rows + r * stride;
        size_t left = r + 2 * ROWS <= count ? ROWS * groups * bytes / 64 : 0;

        for (size_t j = 0; j < nq; j += COLS) {
            const size_t share = left >= groups * lines ? lines : 0;

            tile_cols(at, add, bytes, row, stride, ROWS, q + j, nq - j, groups,
                      row + ROWS * stride + j / COLS * groups * lines * 64, share,
                      out + r * nq + j, nq);
            left -= groups * share;
        }
    }
    for (; r < count; r++)
        for (size_t j = 0; j < nq; j += COLS)
            tile_cols(at, add, bytes, rows + r * stride, stride, 1, q + j, nq - j, groups, rows, 0,
                      out + r * nq + j, nq);
}

static TARGET void dot_bits(const unsigned char *rows, size_t stride, size_t count,
                            const int8_t *const *q, size_t nq, size_t groups, int32_t *out)
{
    dot(bits_at, mac, QKERN_BITS, rows, stride, count, q, nq, groups, out);
}

static TARGET void dot_six(const unsigned char *rows, size_t stride, size_t count,
                           const int8_t *const *q, size_t nq, size_t groups, int32_t *out)
{
    dot(six_at, mac, QKERN_SIX, rows, stride, count, q, nq, groups, out);
}

static TARGET void dot_low(const unsigned char *rows, size_t stride, size_t count,
                           const int8_t *const *q, size_t nq, size_t groups, int32_t *out)
{
    dot(low_at, mac, QKERN_LOW, rows, stride, count, q, nq, groups, out);
}

static TARGET void dot_joined(const unsigned char *rows, size_t stride, size_t count,
                              const int8_t *const *q, size_t nq, size_t groups, int32_t *out)
{
    dot(joined_at, mac_joined, QKERN_GROUP, rows, stride, count, q, nq, groups, out);
}

static TARGET void join(const unsigned char *six, const unsigned char *low, size_t groups,
                        unsigned char *out)
{
    const __m256i base = _mm256_set1_epi8((char)QKERN_SIGNED);

    for (size_t g = 0; g < groups; g++, six += QKERN_SIX, low += QKERN_LOW, out += QKERN_GROUP)
        UNROLL
        for (int t = 0; t < 8; t++) {
            const __m256i c6 = _mm256_slli_epi16(six_at(six, t), 2);

            store(out + EIGHTH * t,
                  _mm256_xor_si256(_mm256_or_si256(c6, low_at(low, t)), base));
        }
}

/* Stages h = 1, 2, 4: v is a, b and the permuted v is b, a; b's places are multiplied by -1. */
static ALWAYS __m256 stages_inside(__m256 v)
{
    const __m256 one = _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1);
    const __m256 two = _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1);
    const __m256 four = _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1);

    v = _mm256_fmadd_ps(v, one, _mm256_permute_ps(v, 0xb1));
    v = _mm256_fmadd_ps(v, two, _mm256_permute_ps(v, 0x4e));
    return _mm256_fmadd_ps(v, four, _mm256_permute2f128_ps(v, v, 1));
}

/* Stages h, 2h, ..., radix/2 * h in one pass over memory; when `inside`, first those below h. */
static ALWAYS void pass(float *x, size_t n, size_t h, int radix, int inside)
{
    for (size_t from = 0; from < n; from += (size_t)radix * h)
        for (size_t i = from; i < from + h; i += WIDTH) {
            __m256 v[8];

            UNROLL
            for (int k = 0; k < radix; k++) {
                v[k] = _mm256_loadu_ps(x + i + (size_t)k * h);
                if (inside)
                    v[k] = stages_inside(v[k]);
            }
            UNROLL
            for (int s = 1; s < radix; s *= 2)
                UNROLL
                for (int k = 0; k < radix; k++)
                    if (!(k & s)) {
                        const __m256 a = v[k], b = v[k + s];

                        v[k] = _mm256_add_ps(a, b);
                        v[k + s] = _mm256_sub_ps(a, b);
                    }
            UNROLL
            for (int k = 0; k < radix; k++)
                _mm256_storeu_ps(x + i + (size_t)k * h, v[k]);
        }
}

static TARGET void fwht(float *x, size_t n)
{
    size_t h = (size_t)WIDTH * 8;

    pass(x, n, WIDTH, 8, 1);
    for (; h * 8 <= n; h *= 8)
        pass(x, n, h, 8, 0);
    if (h * 4 <= n)
        pass(x, n, h, 4, 0);
    else if (h * 2 <= n)
        pass(x, n, h, 2, 0);
}

static TARGET void flip(float *x, const uint64_t *signs, float scale, size_t n)
{
    const __m256 by = _mm256_set1_ps(scale), minus = _mm256_set1_ps(-0.0f);
    const __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);

    for (size_t i = 0; i < n; i += WIDTH) {
        const __m256i byte = _mm256_set1_epi32(((const unsigned char *)signs)[i / 8]);
        const __m256 turn =
            _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(byte, each), each));

        _mm256_storeu_ps(x + i, _mm256_xor_ps(_mm256_mul_ps(_mm256_loadu_ps(x + i), by),
                                              _mm256_and_ps(turn, minus)));
    }
}

static ALWAYS __m256 abs_ps(__m256 v)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v);
}

static TARGET float max_abs(const float *x, size_t n)
{
    __m256 most = _mm256_setzero_ps(), more = most;
    __m128 v;

    for (size_t i = 0; i < n; i += 2 * WIDTH) {
        most = _mm256_max_ps(most, abs_ps(_mm256_loadu_ps(x + i)));
        more = _mm256_max_ps(more, abs_ps(_mm256_loadu_ps(x + i + WIDTH)));
    }
    most = _mm256_max_ps(most, more);
    v = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
    v = _mm_max_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps(v, v, 1)));
}

/* The tree of kern.h over lanes 4r .. 4r+3 in register r. */
static ALWAYS double sum_doubles(const __m256d a[REGISTERS])
{
    const __m256d b0 = _mm256_add_pd(_mm256_add_pd(a[0], a[4]), _mm256_add_pd(a[2], a[6]));
    const __m256d b1 = _mm256_add_pd(_mm256_add_pd(a[1], a[5]), _mm256_add_pd(a[3], a[7]));
    const __m256d v = _mm256_add_pd(b0, b1);
    const __m128d half = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));

    return _mm_cvtsd_f64(_mm_add_sd(half, _mm_unpackhi_pd(half, half)));
}

/* Int32 lanes, each below 2^31, whose sum may be above. */
static ALWAYS int64_t sum_wide(__m256i v)
{
    int32_t lane[8];
    int64_t sum = 0;

    store(lane, v);
    for (int i = 0; i < 8; i++)
        sum += lane[i];
    return sum;
}

static ALWAYS __m256d half_ps(__m256 v, int high)
{
    return _mm256_cvtps_pd(high ? _mm256_extractf128_ps(v, 1) : _mm256_castps256_ps128(v));
}

static ALWAYS __m256d half_int(__m256i v, int high)
{
    return _mm256_cvtepi32_pd(high ? _mm256_extracti128_si256(v, 1) : _mm256_castsi256_si128(v));
}

/* sum += (x - scale * by)^2: the product is exact, so the difference is rounded once; the square is
 * rounded, then added. */
static ALWAYS __m256d add_square(__m256d sum, __m256d x, __m256d scale, __m256d by)
{
    const __m256d d = _mm256_fnmadd_pd(scale, by, x);

    return _mm256_add_pd(sum, _mm256_mul_pd(d, d));
}

struct encoding {
    __m256d rest6[REGISTERS], rest8[REGISTERS], norm[REGISTERS], abs[REGISTERS];
    __m256i code6, code8; /* int32 lanes */
};

/* c8 - 128 of eight elements, and their share of the float64 sums: registers r and r + 1. */
static ALWAYS __m256i encode_eight(struct encoding *e, int r, const float *at, __m256 inverse,
                                   __m256d scale)
{
    const __m256 x = _mm256_loadu_ps(at);
    const __m256 scaled =
        _mm256_min_ps(_mm256_max_ps(_mm256_mul_ps(x, inverse), _mm256_set1_ps(-128.0f)),
                      _mm256_set1_ps(127.0f));
    const __m256i c = _mm256_cvttps_epi32(_mm256_floor_ps(scaled));
    const __m256i four = _mm256_and_si256(c, _mm256_set1_epi32(-4)); /* 4 c6 - 128 */

    UNROLL
    for (int high = 0; high < 2; high++) {
        const __m256d v = half_ps(x, high);
        const __m256d by8 = _mm256_add_pd(half_int(c, high), _mm256_set1_pd(0.5));
        const __m256d by6 = _mm256_add_pd(half_int(four, high), _mm256_set1_pd(2.0));

        e->rest8[r + high] = add_square(e->rest8[r + high], v, scale, by8);
        e->rest6[r + high] = add_square(e->rest6[r + high], v, scale, by6);
        e->norm[r + high] = _mm256_fmadd_pd(v, v, e->norm[r + high]); /* the square is exact */
        e->abs[r + high] =
            _mm256_add_pd(e->abs[r + high], _mm256_andnot_pd(_mm256_set1_pd(-0.0), v));
    }
    return c;
}

/* The integer sums of 32 codes: (2 c8 - 255)^2 = (2c + 1)^2 with c = c8 - 128, and likewise
 * (2 c6 - 63)^2 = (2 (c >> 2) + 1)^2. */
static ALWAYS void add_codes(struct encoding *e, __m256i c)
{
    const __m256i one = _mm256_set1_epi16(1);

    UNROLL
    for (int high = 0; high < 2; high++) {
        const __m256i wide = _mm256_cvtepi8_epi16(high ? _mm256_extracti128_si256(c, 1)
                                                       : _mm256_castsi256_si128(c));
        const __m256i w8 = _mm256_add_epi16(_mm256_slli_epi16(wide, 1), one);
        const __m256i w6 =
            _mm256_add_epi16(_mm256_slli_epi16(_mm256_srai_epi16(wide, 2), 1), one);

        e->code8 = _mm256_add_epi32(e->code8, _mm256_madd_epi16(w8, w8));
        e->code6 = _mm256_add_epi32(e->code6, _mm256_madd_epi16(w6, w6));
    }
}

static ALWAYS __m256i or4(__m256i a, __m256i b, __m256i c, __m256i d)
{
    return _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
}

/* The planes of one group from its 256 codes c8, 32 in a register. */
static ALWAYS void pack(const __m256i c[8], unsigned char *bits, unsigned char *six,
                        unsigned char *low)
{
    store(bits, _mm256_or_si256(
                    or4(FIELD(c[0], 7, 0x01), FIELD(c[1], 6, 0x02), FIELD(c[2], 5, 0x04),
                        FIELD(c[3], 4, 0x08)),
                    or4(FIELD(c[4], 3, 0x10), FIELD(c[5], 2, 0x20), FIELD(c[6], 1, 0x40),
                        FIELD(c[7], 0, 0x80))));
    for (int h = 0; h < 2; h++) {
        const __m256i last = c[6 + h];

        store(six + EIGHTH * h, _mm256_or_si256(FIELD(c[h], 2, 0x3f), LIFT(last, 4, 0xc0)));
        store(six + EIGHTH * (2 + h),
              _mm256_or_si256(FIELD(c[2 + h], 2, 0x3f), LIFT(last, 2, 0xc0)));
        store(six + EIGHTH * (4 + h),
              _mm256_or_si256(FIELD(c[4 + h], 2, 0x3f), LIFT(last, 0, 0xc0)));
        store(low + EIGHTH * h, or4(LIFT(c[h], 0, 0x03), LIFT(c[2 + h], 2, 0x0c),
                                    LIFT(c[4 + h], 4, 0x30), LIFT(last, 6, 0xc0)));
    }
}

static TARGET void encode(const float *x, size_t groups, float s, unsigned char *bits,
                          unsigned char *six, unsigned char *low, struct qkern_sums *sums)
{
    const __m256 inverse = _mm256_set1_ps(1.0f / s);
    const __m256d scale = _mm256_set1_pd((double)s);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    struct encoding e;

    memset(&e, 0, sizeof e);
    for (size_t g = 0; g < groups; g++) {
        __m256i c8[8];

        for (size_t t = 0; t < 8; t++) {
            const float *at = x + g * QKERN_GROUP + EIGHTH * t;
            const __m256i a = encode_eight(&e, 0, at, inverse, scale);
            const __m256i b = encode_eight(&e, 2, at + 8, inverse, scale);
            const __m256i c = encode_eight(&e, 4, at + 16, inverse, scale);
            const __m256i d = encode_eight(&e, 6, at + 24, inverse, scale);
            const __m256i all = _mm256_permutevar8x32_epi32(
                _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d)), order);

            add_codes(&e, all);
            c8[t] = _mm256_xor_si256(all, _mm256_set1_epi8((char)0x80)); /* + 128 */
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

/* Eight int32 within int8 -> eight bytes. */
static ALWAYS void store_bytes(int8_t *to, __m256i v)
{
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

    _mm_storel_epi64((__m128i *)(void *)to, _mm_packs_epi16(words, words));
}

static TARGET void split(const float *u, size_t groups, float sq, int8_t *hi, int8_t *lo,
                         struct qkern_split *sums)
{
    const __m256 inverse = _mm256_set1_ps(1.0f / sq), top = _mm256_set1_ps(QKERN_Q_MAX);
    const __m256 least = _mm256_set1_ps(-QKERN_Q_MAX);
    const __m256d scale = _mm256_set1_pd((double)sq);
    __m256d rest[REGISTERS], rest_hi[REGISTERS];
    __m256i sum = _mm256_setzero_si256(), sum_hi = sum;

    memset(rest, 0, sizeof rest);
    memset(rest_hi, 0, sizeof rest_hi);
    for (size_t i = 0; i < groups * QKERN_GROUP; i += KERN_LANES)
        UNROLL
        for (int r = 0; r < REGISTERS; r += 2) {
            const size_t at = i + (size_t)(4 * r);
            const __m256 v = _mm256_loadu_ps(u + at);
            const __m256i q = _mm256_cvtps_epi32(
                _mm256_min_ps(_mm256_max_ps(_mm256_mul_ps(v, inverse), least), top));
            const __m256i h = _mm256_srai_epi32(_mm256_add_epi32(q, _mm256_set1_epi32(64)), 7);
            const __m256i h128 = _mm256_slli_epi32(h, 7);

            store_bytes(hi + at, h);
            store_bytes(lo + at, _mm256_sub_epi32(q, h128));
            sum = _mm256_add_epi32(sum, q);
            sum_hi = _mm256_add_epi32(sum_hi, h);
            UNROLL
            for (int high = 0; high < 2; high++) {
                const __m256d x = half_ps(v, high);

                rest[r + high] = add_square(rest[r + high], x, scale, half_int(q, high));
                rest_hi[r + high] = add_square(rest_hi[r + high], x, scale, half_int(h128, high));
            }
        }
    *sums = (struct qkern_split){.rest = sum_doubles(rest),
                                 .rest_hi = sum_doubles(rest_hi),
                                 .sum = sum_wide(sum),
                                 .sum_hi = sum_wide(sum_hi)};
}

const struct qkern qkern_avx2 = {.name = "avx2",
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
#else
const struct qkern qkern_avx2 = {.name = "avx2"}; /* qkern_supported is false: never called */
#endif
