/* qkern.c - the table of integer kernels in use. kern_init (index/kern.c) picks it; see qkern.h. */
#include "index/qkern.h"

#include "index/cpu.h"

const struct qkern *qkern = &qkern_generic;

int qkern_supported(const struct qkern *k)
{
    if (k == &qkern_avx512vnni)
        return cpu_has(CPU_AVX512VNNI);
    if (k == &qkern_avx512)
        return cpu_has(CPU_AVX512);
    if (k == &qkern_avx2)
        return cpu_has(CPU_AVX2);
    if (k == &qkern_neondot)
        return cpu_has(CPU_NEON_DOT);
    if (k == &qkern_neon)
        return cpu_has(CPU_NEON);
    return k == &qkern_generic;
}
