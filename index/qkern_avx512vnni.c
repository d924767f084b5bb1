/* qkern_avx512vnni.c - the dots for processors that multiply bytes in one instruction (Cascade Lake,
 * Zen 4 and later): the same bits as qkern_generic.c. The rest is AVX-512's. See qkern.h.
 */
#include <string.h>

#include "index/qkern.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "index/qkern_avx512.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))

/* By hand, not _mm512_dpbusd_epi32: that the sum is read and written in one place is then plain to
 * the compiler. GCC 12 else copies and spills sums (measured: 45 products a cycle, with this 57). */
static TARGET inline __m512i mac(__m512i sum, __m512i code, __m512i q)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(code), "v"(q));
    return sum;
}

#include "index/qkern_avx512_dot.inc"

const struct qkern qkern_avx512vnni = {.name = "avx512vnni",
                                       .dot_bits = dot_bits,
                                       .dot_six = dot_six,
                                       .dot_low = dot_low,
                                       .fwht = qkern_avx512_fwht,
                                       .flip = qkern_avx512_flip,
                                       .max_abs = qkern_avx512_max_abs,
                                       .encode = qkern_avx512_encode,
                                       .split = qkern_avx512_split};
#else
const struct qkern qkern_avx512vnni = {.name = "avx512vnni"}; /* never supported, never called */
#endif
