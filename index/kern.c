/* kern.c - which tables of kernels are in use: this one and, by the same name, the integer ones'.
 *
 * Written once at start, before threads; read by all. See kern.h and qkern.h.
 */
#include "index/kern.h"

#include <stdlib.h>
#include <string.h>

#include "index/cpu.h"
#include "index/qkern.h"

const struct kern *kern = &kern_generic;

/* Best first. */
static const struct level {
    const char *name;
    const struct kern *kern;
    const struct qkern *qkern;
} levels[] = {
    {"avx512vnni", &kern_avx512, &qkern_avx512vnni},
    {"avx512", &kern_avx512, &qkern_avx512},
    {"avx2", &kern_avx2, &qkern_avx2},
    {"neondot", &kern_neon, &qkern_neondot},
    {"neon", &kern_neon, &qkern_neon},
    {"generic", &kern_generic, &qkern_generic},
};

enum { LEVELS = sizeof levels / sizeof levels[0] };

static const struct level *in_use = &levels[LEVELS - 1];

int kern_supported(const struct kern *k)
{
    if (k == &kern_avx512)
        return cpu_has(CPU_AVX512);
    if (k == &kern_avx2)
        return cpu_has(CPU_AVX2);
    if (k == &kern_neon)
        return cpu_has(CPU_NEON);
    return k == &kern_generic;
}

const char *kern_level(void)
{
    return in_use->name;
}

const char *kern_init(const char *force)
{
    const struct level *best = NULL, *named = NULL;

    if (!force)
        force = getenv("ASCRIBE_SIMD");
    for (size_t i = 0; i < LEVELS; i++) {
        if (!kern_supported(levels[i].kern) || !qkern_supported(levels[i].qkern))
            continue;
        if (!best)
            best = &levels[i];
        if (force && strcmp(force, levels[i].name) == 0)
            named = &levels[i];
    }
    in_use = named ? named : best;
    kern = in_use->kern;
    qkern = in_use->qkern;
    return in_use->name;
}
