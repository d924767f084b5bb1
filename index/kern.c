/* kern.c - which table of kernels is in use. See kern.h.
 *
 * Written once at start, before threads; read by all. Decides by what the processor has and by what
 * the operating system saves of it (wide registers that are not saved must not be touched).
 */
#include "index/kern.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

const struct kern *kern = &kern_generic;

/* Best first. */
static const struct kern *const tables[] = {&kern_avx512, &kern_avx2, &kern_generic};

enum { TABLE_COUNT = sizeof tables / sizeof tables[0] };

#if defined(__x86_64__)
/* XCR0, the register states the operating system saves: bits 1-2 are SSE and AVX, 5-7 AVX-512.
 * Intel SDM vol. 1, 13.3. */
static unsigned saved_states(void)
{
    unsigned a, b, c, d, low, high;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static int has_f16c(void)
{
    unsigned a, b, c, d;

    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static int has_avx2(void)
{
    return (saved_states() & 0x6) == 0x6 && has_f16c() && __builtin_cpu_supports("avx2") &&
           __builtin_cpu_supports("fma");
}

static int has_avx512(void)
{
    return has_avx2() && (saved_states() & 0xe6) == 0xe6 && __builtin_cpu_supports("avx512f");
}
#else
static int has_avx2(void)
{
    return 0;
}

static int has_avx512(void)
{
    return 0;
}
#endif

int kern_supported(const struct kern *k)
{
    if (k == &kern_avx512)
        return has_avx512();
    if (k == &kern_avx2)
        return has_avx2();
    return k == &kern_generic;
}

const char *kern_init(const char *force)
{
    const struct kern *best = NULL, *named = NULL;

    if (!force)
        force = getenv("ASCRIBE_SIMD");
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        if (!kern_supported(tables[i]))
            continue;
        if (!best)
            best = tables[i];
        if (force && strcmp(force, tables[i]->name) == 0)
            named = tables[i];
    }
    kern = named ? named : best;
    return kern->name;
}
