/* qkern_neondot.c - the dots for ARM processors with SDOT (Neoverse N1, Apple M1 and later): the
 * same bits as qkern_generic.c. The rest is qkern_neon.c's. See qkern.h.
 */
#include "index/qkern.h"

#if defined(__aarch64__)
#if defined(__clang__)
#define TARGET __attribute__((target("dotprod")))
#else
#define TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#endif

#include <arm_neon.h>

#include "index/qkern_neon.h"
#include "index/unroll.h"

static TARGET inline int32x4_t mac(int32x4_t sum, int8x16_t code, int8x16_t q)
{
    __asm__("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(code), "w"(q));
    return sum;
}

#include "index/qkern_neon_dot.inc"

const struct qkern qkern_neondot = {.name = "neondot",
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
const struct qkern qkern_neondot = {.name = "neondot"}; /* never supported, never called */
#endif
