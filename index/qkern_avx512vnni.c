/* qkern_avx512vnni.c - the dots for processors that multiply bytes in one instruction (Cascade
 * Lake, Zen 4 and later): the same bits as qkern_generic.c. The rest is AVX-512's. See qkern.h.
 */
#include <stdbool.h>
#include <string.h>

#include "index/qkern.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "index/qkern_avx512.h"
#include "index/unroll.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))

/* By hand, not _mm512_dpbusd_epi32: that a sum is read and written in one place is plain to the
 * compiler. GCC 12 else copies and spills them (measured: 45 products a cycle, not 61). */
static TARGET inline __m512i mac(__m512i sum, __m512i code, __m512i q)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(code), "v"(q));
    return sum;
}

#define mac_joined  mac /* 255 will do as well as 63 */
#define JOINED_BASE QKERN_UNSIGNED

#include "index/qkern_avx512_dot.inc"

/* ROWS rows of bits by one query, where unpacking would cost more than multiplying. A bit is not
 * moved down: bit t of a byte counts 2^t, in a sum of its own, which is shifted at the end (every
 * term is a multiple, so nothing is lost; 4 * 128 * 128 a group stays far below 2^31). */
static TARGET void bits_by_one(const unsigned char *row, size_t stride, const int8_t *q,
                               size_t groups, size_t ahead, int32_t *out)
{
    __m512i sum[4 * ROWS], mask[4], by[4];
    int32_t total[ROWS * COLS];

    UNROLL
    for (int k = 0; k < 4; k++) {
        by[k] = _mm512_inserti64x4(_mm512_set1_epi32(2 * k), _mm256_set1_epi32(2 * k + 1), 1);
        mask[k] = _mm512_sllv_epi32(_mm512_set1_epi8(1), by[k]);
        UNROLL
        for (int r = 0; r < ROWS; r++)
            sum[k * ROWS + r] = _mm512_setzero_si512();
    }
    for (size_t g = 0; g < groups; g++) {
        __m512i v[ROWS];

        UNROLL
        for (int r = 0; r < ROWS; r++) {
            const unsigned char *at = row + (size_t)r * stride + g * QKERN_BITS;

            v[r] = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)at));
        }
        if (ahead) /* ROWS rows of 32 bytes are two lines */
            for (size_t i = 0; i < ROWS * QKERN_BITS; i += 64)
                _mm_prefetch((const char *)row + ahead + g * ROWS * QKERN_BITS + i, _MM_HINT_T1);
        UNROLL
        for (int k = 0; k < 4; k++) {
            const __m512i u = _mm512_loadu_si512(q + g * QKERN_GROUP + (size_t)(QUARTER * k));

            UNROLL
            for (int r = 0; r < ROWS; r++)
                sum[k * ROWS + r] = mac(sum[k * ROWS + r], _mm512_and_si512(v[r], mask[k]), u);
        }
    }
    UNROLL
    for (int r = 0; r < ROWS; r++)
        sum[r] = _mm512_add_epi32(_mm512_add_epi32(_mm512_srav_epi32(sum[r], by[0]),
                                                      _mm512_srav_epi32(sum[1 * ROWS + r], by[1])),
                                     _mm512_add_epi32(_mm512_srav_epi32(sum[2 * ROWS + r], by[2]),
                                                      _mm512_srav_epi32(sum[3 * ROWS + r], by[3])));
    _mm512_storeu_si512(total, sum_lanes(sum));
    memcpy(out, total, ROWS * sizeof *out);
}

static TARGET void dot_bits_few(const unsigned char *rows, size_t stride, size_t count,
                                const int8_t *const *q, size_t nq, size_t groups, int32_t *out)
{
    size_t r = 0;

    for (; nq == 1 && r + ROWS <= count; r += ROWS)
        bits_by_one(rows + r * stride, stride, q[0], groups,
                    r + 2 * ROWS <= count ? ROWS * stride : 0, out + r);
    if (r < count)
        dot_bits(rows + r * stride, stride, count - r, q, nq, groups, out + r * nq);
}

const struct qkern qkern_avx512vnni = {.name = "avx512vnni",
                                       .dot_bits = dot_bits_few,
                                       .dot_six = dot_six,
                                       .dot_low = dot_low,
                                       .join = join,
                                       .base = JOINED_BASE,
                                       .dot_joined = dot_joined,
                                       .joined_from = 1,
                                       .fwht = qkern_avx512_fwht,
                                       .flip = qkern_avx512_flip,
                                       .max_abs = qkern_avx512_max_abs,
                                       .encode = qkern_avx512_encode,
                                       .split = qkern_avx512_split};
#else
const struct qkern qkern_avx512vnni = {.name = "avx512vnni"}; /* never supported, never called */
#endif
