/* cpu.c - see cpu.h. Wide registers that the operating system does not save must not be touched, so
 * XCR0 is asked as well as the processor.
 */
#include "index/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>

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
    return has_avx2() && (saved_states() & 0xe6) == 0xe6 && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}

int cpu_has(enum cpu_set set)
{
    switch (set) {
    case CPU_AVX2:
        return has_avx2();
    case CPU_AVX512:
        return has_avx512();
    case CPU_AVX512VNNI:
        return has_avx512() && __builtin_cpu_supports("avx512vnni");
    default:
        return 0;
    }
}
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

/* Bits of AT_HWCAP: Linux, Documentation/arch/arm64/elf_hwcaps.rst. */
enum { HAS_ASIMD = 1 << 1, HAS_ASIMDDP = 1 << 20 };

int cpu_has(enum cpu_set set)
{
    const unsigned long has = getauxval(AT_HWCAP);

    if (set == CPU_NEON)
        return (has & HAS_ASIMD) != 0;
    return set == CPU_NEON_DOT && (has & HAS_ASIMD) && (has & HAS_ASIMDDP);
}
#else
int cpu_has(enum cpu_set set)
{
    (void)set;
    return 0;
}
#endif
