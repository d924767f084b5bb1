/* cpu.h - what the processor has, and the operating system saves, of what the kernels need.
 *
 * Names sets of instructions, not single ones: each is all that one kind of kernel file is compiled
 * for. Reads registers of the machine only; any thread.
 */
#ifndef INDEX_CPU_H
#define INDEX_CPU_H

enum cpu_set {
    CPU_AVX2,       /* AVX2, FMA, F16C */
    CPU_AVX512,     /* the above and AVX-512 F, BW, DQ, VL: every server core since Skylake */
    CPU_AVX512VNNI, /* the above and VNNI: dot products of bytes */
    CPU_NEON,       /* Advanced SIMD: every 64-bit ARM */
    CPU_NEON_DOT,   /* the above and SDOT: optional from ARMv8.2 on */
};

/* True when kernels of this set can run here. */
int cpu_has(enum cpu_set set);

#endif
