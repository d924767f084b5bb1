/* qkern_neon.c - the integer kernels for 64-bit ARM: the same bits as qkern_generic.c.
 *
 * Fused multiply-add stands only where the product is exact (a factor of +-1, or a float32 scale by
 * a small integer in float64): there it rounds as a product and a sum do. Nothing is read or
 * written past the end. Pure functions; any thread. See qkern.h.
 */
#include <string.h>

#include "index/qkern.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#include "index/kern.h"
#include "index/qkern_neon.h"
#include "index/unroll.h"

#define TARGET

/* Two products meet in 16 bits: 63 * 128 * 2 < 2^15. */
static inline int32x4_t mac(int32x4_t sum, int8x16_t code, int8x16_t q)
{
    const int16x8_t low = vmull_s8(vget_low_s8(code), vget_low_s8(q));

    return vpadalq_s16(sum, vmlal_high_s8(low, code, q));
}

#include "index/qkern_neon_dot.inc"

enum { WIDTH = 4, REGISTERS = KERN_LANES / 2 };

/* Stages h = 1, 2: v is a, b and the turned v is b, a; b's places are multiplied by -1. */
static ALWAYS float32x4_t stages_inside(float32x4_t v)
{
    static const float one[4] = {1, -1, 1, -1}, two[4] = {1, 1, -1, -1};

    v = vfmaq_f32(vrev64q_f32(v), v, vld1q_f32(one));
    return vfmaq_f32(vextq_f32(v, v, 2), v, vld1q_f32(two));
}

/* Stages h, 2h, ..., radix/2 * h in one pass over memory; when `inside`, first those below h. */
static ALWAYS void pass(float *x, size_t n, size_t h, int radix, int inside)
{
    for (size_t from = 0; from < n; from += (size_t)radix * h)
        for (size_t i = from; i < from + h; i += WIDTH) {
            float32x4_t v[16];

            UNROLL
            for (int k = 0; k < radix; k++) {
                v[k] = vld1q_f32(x + i + (size_t)k * h);
                if (inside)
                    v[k] = stages_inside(v[k]);
            }
            UNROLL
            for (int s = 1; s < radix; s *= 2)
                UNROLL
                for (int k = 0; k < radix; k++)
                    if (!(k & s)) {
                        const float32x4_t a = v[k], b = v[k + s];

                        v[k] = vaddq_f32(a, b);
                        v[k + s] = vsubq_f32(a, b);
                    }
            UNROLL
            for (int k = 0; k < radix; k++)
                vst1q_f32(x + i + (size_t)k * h, v[k]);
        }
}

void qkern_neon_fwht(float *x, size_t n)
{
    size_t h = (size_t)WIDTH * 16;

    pass(x, n, WIDTH, 16, 1);
    for (; h * 8 <= n; h *= 8)
        pass(x, n, h, 8, 0);
    if (h * 4 <= n)
        pass(x, n, h, 4, 0);
    else if (h * 2 <= n)
        pass(x, n, h, 2, 0);
}

void qkern_neon_flip(float *x, const uint64_t *signs, float scale, size_t n)
{
    static const int32_t to_top[4] = {31, 30, 29, 28};
    const uint32x4_t top = vdupq_n_u32(0x80000000);

    for (size_t i = 0; i < n; i += 32) {
        uint32_t word;

        memcpy(&word, (const char *)signs + i / 8, sizeof word);
        for (int k = 0; k < 32; k += WIDTH) {
            const int32x4_t by = vsubq_s32(vld1q_s32(to_top), vdupq_n_s32(k));
            const uint32x4_t turn = vandq_u32(vshlq_u32(vdupq_n_u32(word), by), top);
            const float32x4_t v = vmulq_n_f32(vld1q_f32(x + i + k), scale);

            vst1q_f32(x + i + k, vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(v), turn)));
        }
    }
}

float qkern_neon_max_abs(const float *x, size_t n)
{
    float32x4_t most = vdupq_n_f32(0.0f), more = most;

    for (size_t i = 0; i < n; i += 2 * WIDTH) {
        most = vmaxq_f32(most, vabsq_f32(vld1q_f32(x + i)));
        more = vmaxq_f32(more, vabsq_f32(vld1q_f32(x + i + WIDTH)));
    }
    return vmaxvq_f32(vmaxq_f32(most, more));
}

/* The tree of kern.h over lanes 2r, 2r+1 in register r. */
static double sum_doubles(float64x2_t a[REGISTERS])
{
    for (int w = REGISTERS / 2; w > 0; w /= 2)
        for (int r = 0; r < w; r++)
            a[r] = vaddq_f64(a[r], a[r + w]);
    return vgetq_lane_f64(a[0], 0) + vgetq_lane_f64(a[0], 1);
}

static ALWAYS float64x2_t half_ps(float32x4_t v, int high)
{
    return high ? vcvt_high_f64_f32(v) : vcvt_f64_f32(vget_low_f32(v));
}

static ALWAYS float64x2_t half_int(int32x4_t v, int high)
{
    return vcvtq_f64_s64(high ? vmovl_high_s32(v) : vmovl_s32(vget_low_s32(v)));
}

/* sum += (x - scale * by)^2: the product is exact, so the difference is rounded once; the square is
 * rounded, then added. */
static ALWAYS float64x2_t add_square(float64x2_t sum, float64x2_t x, float64x2_t scale,
                                     float64x2_t by)
{
    const float64x2_t d = vfmsq_f64(x, scale, by);

    return vaddq_f64(sum, vmulq_f64(d, d));
}

struct encoding {
    float64x2_t rest6[REGISTERS], rest8[REGISTERS], norm[REGISTERS], abs[REGISTERS];
    int32x4_t code6, code8;
};

/* c8 - 128 of four elements, and their share of the float64 sums: registers r and r + 1. */
static ALWAYS int32x4_t encode_four(struct encoding *e, int r, float32x4_t x, float inverse,
                                    float64x2_t scale)
{
    const float32x4_t scaled =
        vminq_f32(vmaxq_f32(vmulq_n_f32(x, inverse), vdupq_n_f32(-128.0f)), vdupq_n_f32(127.0f));
    const int32x4_t c = vcvtmq_s32_f32(scaled);
    const int32x4_t four = vandq_s32(c, vdupq_n_s32(-4)); /* 4 c6 - 128 */

    UNROLL
    for (int high = 0; high < 2; high++) {
        const float64x2_t v = half_ps(x, high);
        const float64x2_t by8 = vaddq_f64(half_int(c, high), vdupq_n_f64(0.5));
        const float64x2_t by6 = vaddq_f64(half_int(four, high), vdupq_n_f64(2.0));

        e->rest8[r + high] = add_square(e->rest8[r + high], v, scale, by8);
        e->rest6[r + high] = add_square(e->rest6[r + high], v, scale, by6);
        e->norm[r + high] = vfmaq_f64(e->norm[r + high], v, v); /* the square is exact */
        e->abs[r + high] = vaddq_f64(e->abs[r + high], vabsq_f64(v));
    }
    return c;
}

/* The integer sums of eight codes: (2 c8 - 255)^2 = (2c + 1)^2 with c = c8 - 128, and likewise
 * (2 c6 - 63)^2 = (2 (c >> 2) + 1)^2. */
static ALWAYS void add_codes(struct encoding *e, int16x8_t c)
{
    const int16x8_t one = vdupq_n_s16(1);
    const int16x8_t w8 = vaddq_s16(vshlq_n_s16(c, 1), one);
    const int16x8_t w6 = vaddq_s16(vshlq_n_s16(vshrq_n_s16(c, 2), 1), one);

    e->code8 = vmlal_high_s16(vmlal_s16(e->code8, vget_low_s16(w8), vget_low_s16(w8)), w8, w8);
    e->code6 = vmlal_high_s16(vmlal_s16(e->code6, vget_low_s16(w6), vget_low_s16(w6)), w6, w6);
}

/* The planes of one group from its 256 codes c8. */
static ALWAYS void pack(const unsigned char *c8, unsigned char *bits, unsigned char *six,
                        unsigned char *low)
{
    for (int h = 0; h < QKERN_BITS; h += SIXTEEN) {
        uint8x16_t all = vdupq_n_u8(0);

        for (int t = 0; t < 8; t++) /* bit t arrives on top, and moves down as the next do */
            all = vsriq_n_u8(vld1q_u8(c8 + QKERN_BITS * t + h), all, 1);
        vst1q_u8(bits + h, all);
    }
    for (int j = 0; j < QUARTER; j += SIXTEEN) {
        const uint8x16_t a = vld1q_u8(c8 + j), b = vld1q_u8(c8 + QUARTER + j);
        const uint8x16_t c = vld1q_u8(c8 + 2 * QUARTER + j), d = vld1q_u8(c8 + 3 * QUARTER + j);

        /* vsli keeps the bits below: they go into the top two of byte, or above a pair */
        vst1q_u8(six + j, vsliq_n_u8(vshrq_n_u8(a, 2), vshrq_n_u8(d, 2), 6));
        vst1q_u8(six + QUARTER + j, vsliq_n_u8(vshrq_n_u8(b, 2), vshrq_n_u8(d, 4), 6));
        vst1q_u8(six + 2 * QUARTER + j, vsliq_n_u8(vshrq_n_u8(c, 2), vshrq_n_u8(d, 6), 6));
        vst1q_u8(low + j, vsliq_n_u8(vsliq_n_u8(vsliq_n_u8(a, b, 2), c, 4), d, 6));
    }
}

void qkern_neon_encode(const float *x, size_t groups, float s, unsigned char *bits,
                       unsigned char *six, unsigned char *low, struct qkern_sums *sums)
{
    const float64x2_t scale = vdupq_n_f64((double)s);
    const float inverse = 1.0f / s;
    struct encoding e;

    memset(&e, 0, sizeof e);
    for (size_t g = 0; g < groups; g++) {
        unsigned char c8[QKERN_GROUP];

        for (size_t i = 0; i < QKERN_GROUP; i += KERN_LANES)
            UNROLL
            for (int r = 0; r < REGISTERS; r += 4) {
                const float *at = x + g * QKERN_GROUP + i + (size_t)(2 * r);
                const int32x4_t a = encode_four(&e, r, vld1q_f32(at), inverse, scale);
                const int32x4_t b = encode_four(&e, r + 2, vld1q_f32(at + 4), inverse, scale);
                const int16x8_t c = vcombine_s16(vmovn_s32(a), vmovn_s32(b));

                add_codes(&e, c);
                vst1_u8(c8 + i + 2 * r, veor_u8(vreinterpret_u8_s8(vmovn_s16(c)),
                                                vdup_n_u8(0x80))); /* + 128 */
            }
        pack(c8, bits + g * QKERN_BITS, six + g * QKERN_SIX, low + g * QKERN_LOW);
    }
    *sums = (struct qkern_sums){.rest6 = sum_doubles(e.rest6),
                                .rest8 = sum_doubles(e.rest8),
                                .norm = sum_doubles(e.norm),
                                .abs = sum_doubles(e.abs),
                                .code6 = vaddlvq_s32(e.code6),
                                .code8 = vaddlvq_s32(e.code8)};
}

void qkern_neon_split(const float *u, size_t groups, float sq, int8_t *hi, int8_t *lo,
                      struct qkern_split *sums)
{
    const float32x4_t top = vdupq_n_f32(QKERN_Q_MAX), least = vdupq_n_f32(-QKERN_Q_MAX);
    const float64x2_t scale = vdupq_n_f64((double)sq);
    const float inverse = 1.0f / sq;
    float64x2_t rest[REGISTERS], rest_hi[REGISTERS];
    int32x4_t sum = vdupq_n_s32(0), sum_hi = sum;

    memset(rest, 0, sizeof rest);
    memset(rest_hi, 0, sizeof rest_hi);
    for (size_t i = 0; i < groups * QKERN_GROUP; i += KERN_LANES)
        for (int r = 0; r < REGISTERS; r += 4) {
            int32x4_t h[2], l[2];

            UNROLL
            for (int p = 0; p < 2; p++) {
                const int at = r + 2 * p;
                const float32x4_t v = vld1q_f32(u + i + (size_t)(2 * at));
                const int32x4_t q = vcvtnq_s32_f32(
                    vminq_f32(vmaxq_f32(vmulq_n_f32(v, inverse), least), top));
                const int32x4_t h128 =
                    vandq_s32(vaddq_s32(q, vdupq_n_s32(64)), vdupq_n_s32(-128));

                h[p] = vshrq_n_s32(h128, 7);
                l[p] = vsubq_s32(q, h128);
                sum = vaddq_s32(sum, q);
                sum_hi = vaddq_s32(sum_hi, h[p]);
                UNROLL
                for (int high = 0; high < 2; high++) {
                    const float64x2_t x = half_ps(v, high);

                    rest[at + high] = add_square(rest[at + high], x, scale, half_int(q, high));
                    rest_hi[at + high] =
                        add_square(rest_hi[at + high], x, scale, half_int(h128, high));
                }
            }
            vst1_s8(hi + i + (size_t)(2 * r),
                    vmovn_s16(vcombine_s16(vmovn_s32(h[0]), vmovn_s32(h[1]))));
            vst1_s8(lo + i + (size_t)(2 * r),
                    vmovn_s16(vcombine_s16(vmovn_s32(l[0]), vmovn_s32(l[1]))));
        }
    *sums = (struct qkern_split){.rest = sum_doubles(rest),
                                 .rest_hi = sum_doubles(rest_hi),
                                 .sum = vaddlvq_s32(sum),
                                 .sum_hi = vaddlvq_s32(sum_hi)};
}

const struct qkern qkern_neon = {.name = "neon",
                                 .dot_bits = dot_bits,
                                 .dot_six = dot_six,
                                 .dot_low = dot_low,
                                 .join = join,
                                 .base = QKERN_SIGNED,
                                 .dot_joined = dot_joined,
                                 .joined_from = 1,
                                 .fwht = qkern_neon_fwht,
                                 .flip = qkern_neon_flip,
                                 .max_abs = qkern_neon_max_abs,
                                 .encode = qkern_neon_encode,
                                 .split = qkern_neon_split};
#else
const struct qkern qkern_neon = {.name = "neon"}; /* qkern_supported is false: never called */
#endif
