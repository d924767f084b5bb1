/* kern.h - the kernels, in one const table per instruction set, picked once at start.
 *
 * The generic table (kern_generic.c) is the specification. Every other table gives the same bits.
 * "Exact" (docs/exactness.md): products of float32 values are exact in float64; they are summed in
 * KERN_LANES lanes, element i into lane i mod KERN_LANES in ascending i, starting from +0; then
 * lane j and lane j + w are added for w = KERN_LANES/2, ..., 1. f16 and bf16 widen to float32
 * exactly. Since each product is exact, fused multiply-add changes nothing. The two multiplications
 * are another matter: float32, every step one fused multiply-add (IEEE 754's, rounded once), which
 * a processor without it imitates. No call allocates or fails; pointers need no alignment; d is any
 * size.
 */
#ifndef INDEX_KERN_H
#define INDEX_KERN_H

#include <stddef.h>
#include <stdint.h>

#include "storage/base/dtype.h"

enum { KERN_LANES = 32, KERN_TALL = 8, KERN_WIDE = 48 };

struct kern {
    const char *name; /* "generic", "avx2", "avx512", "neon" */
    /* sum over i of q[i] * x[i], both of d elements */
    double (*dot_f32)(const float *q, const float *x, size_t d);
    double (*dot_f16)(const float *q, const uint16_t *x, size_t d);
    double (*dot_bf16)(const float *q, const uint16_t *x, size_t d);
    /* Four rows at `stride` bytes from each other against one query: the same bits as four dots. */
    void (*dot4_f32)(const float *q, const float *x, size_t stride, size_t d, double out[4]);
    /* c[r][j] = +0, then fma(a[k][r], b[k][j], c[r][j]) for k = 0, 1, ..., depth - 1. a is depth x
     * KERN_TALL, b is depth x KERN_WIDE, c is KERN_TALL x KERN_WIDE. */
    void (*multiply)(const float *a, const float *b, size_t depth, float *c);
    /* The same for one row, added to: acc[j] = fma(x[k], m[k][j], acc[j]) for j < count; rows of m
     * lie `stride` bytes apart. Both: aligned as floats are. */
    void (*multiply_row)(const float *x, const float *m, size_t stride, size_t depth, size_t count,
                         float *acc);
    /* Widening, element by element, exact. NaN stays NaN. */
    void (*widen_f16)(const uint16_t *in, size_t count, float *out);
    void (*widen_bf16)(const uint16_t *in, size_t count, float *out);
    /* Index of the first element that is NaN or infinite, or count. */
    size_t (*first_bad_f32)(const float *x, size_t count);
    /* out[i] = (float)((double)x[i] / norm): round to nearest even */
    void (*scale_f32)(const float *x, size_t count, double norm, float *out);
};

extern const struct kern kern_generic, kern_avx2, kern_avx512, kern_neon;

/* The table in use. Before kern_init it is the generic one. */
extern const struct kern *kern;

/* Picks the best level this processor can run, and with it both tables: this one and the integer
 * kernels' (index/qkern.h). `force` lowers it: "generic", "avx2", "avx512", "avx512vnni", "neon",
 * "neondot", or NULL for what the environment's ASCRIBE_SIMD says. An unknown or unsupported name
 * falls back to the best one. Call once, before threads start. Returns kern_level(). */
const char *kern_init(const char *force);

/* Name of the level in use; "generic" before kern_init. A level may share this table with the one
 * below it, so kern->name says less. */
const char *kern_level(void);

/* True when this processor (and kernel) can run the table. */
int kern_supported(const struct kern *k);

/* dot of q with one stored row of type t. */
static inline double kern_dot(enum dtype t, const float *q, const void *row, size_t d)
{
    if (t == DTYPE_F32)
        return kern->dot_f32(q, row, d);
    return t == DTYPE_F16 ? kern->dot_f16(q, row, d) : kern->dot_bf16(q, row, d);
}

#endif
