/* qkern.h - the integer kernels of the tiered engine, in one const table per instruction set.
 *
 * They read and write the planes of a row's code (index/code.h) and rotate vectors; no bounds, no
 * scales of rows, no decisions. A vector has 256 * groups elements. The generic table
 * (qkern_generic.c) is the specification; every other table gives the same bits, float results
 * included: each output of fwht is one addition, each float64 sum runs in KERN_LANES lanes by the
 * rule of kern.h, products rounded before they are added. No call allocates or fails; pointers need
 * no alignment; nothing is read or written past the sizes stated. Any thread.
 *
 * Planes of 256 elements (one group), c8 the 8-bit code of element i, c6 = c8 >> 2:
 *   bits  32 bytes: bit t of byte b is c8(32t + b) >= 128 (so that 64 codes in order are one
 *        broadcast and one mask, whatever the width of a register)
 *   six  192 bytes: three bytes hold four codes. For j in 0..63: byte j is c6(j) | p << 6, byte
 *        64+j is c6(64+j) | q << 6, byte 128+j is c6(128+j) | r << 6, where c6(192+j) is
 *        r << 4 | q << 2 | p
 *   low   64 bytes: byte j is c2(j) | c2(64+j) << 2 | c2(128+j) << 4 | c2(192+j) << 6, where
 *        c2 = c8 & 3
 */
#ifndef INDEX_QKERN_H
#define INDEX_QKERN_H

#include <stddef.h>
#include <stdint.h>

enum {
    QKERN_GROUP = 256,    /* elements in a group */
    QKERN_BITS = 32,      /* bytes of one group in each plane */
    QKERN_SIX = 192,
    QKERN_LOW = 64,
    QKERN_Q_MAX = 127 * 128 + 63, /* greatest |Q| that split makes */
};

/* What encode says about the code it wrote (and x itself). s is the scale it was given;
 * x^6 = 2s (2 c6 - 63), x^8 = s/2 (2 c8 - 255). Sums over all elements; float64 sums as above. */
struct qkern_sums {
    double rest6, rest8; /* (x - x^6)^2, (x - x^8)^2: decoded exactly, difference rounded once */
    double norm;         /* x^2 */
    double abs;          /* |x|, which is <sign of code, x> but where x = 0 */
    int64_t code6, code8; /* (2 c6 - 63)^2, (2 c8 - 255)^2; so |x^6|^2 = 4 s^2 code6 */
};

/* What split says about the integers it made. */
struct qkern_split {
    double rest, rest_hi; /* (u - sq Q)^2, (u - 128 sq hi)^2: each difference rounded once */
    int64_t sum, sum_hi;  /* Q, hi */
};

/* Bytes of a code are less this in what `join` writes: as the table's multiplication wants them. */
enum { QKERN_UNSIGNED = 0, QKERN_SIGNED = 128 };

/* out[r * nq + j] = sum over i < 256 * groups of code(row r, i) * q[j][i], for `count` rows that
 * lie `stride` bytes apart. q: nq vectors of 256 * groups int8, any values, -128 included; nq >= 1.
 * Exact for groups <= 1040 (d = 266,240): 63 * 128 * 256 * groups < 2^31. */
typedef void qkern_dot(const unsigned char *rows, size_t stride, size_t count,
                       const int8_t *const *q, size_t nq, size_t groups, int32_t *out);

struct qkern {
    const char *name;    /* "generic", "avx2", "avx512", "avx512vnni", "neon", "neondot" */
    qkern_dot *dot_bits; /* code in 0..1 */
    qkern_dot *dot_six;  /* 0..63 */
    qkern_dot *dot_low;  /* 0..3 */

    /* A row's six and low planes into a byte for each element, in their order: c8 - base, modulo
     * 256. 256 * groups bytes. What is multiplied with many queries is worth it. */
    void (*join)(const unsigned char *six, const unsigned char *low, size_t groups,
                 unsigned char *out);
    int base; /* QKERN_UNSIGNED or QKERN_SIGNED */
    /* Of rows that join wrote: sum of (c8 - base) q modulo 2^32. q: no -128. */
    qkern_dot *dot_joined;
    /* Groups from which on many queries are cheaper this way than by six first: the products take
     * longer where an instruction wants one factor unsigned and small. */
    size_t joined_from;

    /* Fast Walsh-Hadamard transform in place, not normalised; n a power of two >= 256. Stages
     * h = 1, 2, 4, ..., n/2; each makes (a, b) = (x[i], x[i + h]) into (a + b, a - b), float32. */
    void (*fwht)(float *x, size_t n);

    /* x[i] *= scale, and its sign turns where bit i%64 of word i/64 of signs is set: one rounding,
     * none when scale is a power of two (but for underflow). n a multiple of 64. */
    void (*flip)(float *x, const uint64_t *signs, float scale, size_t n);

    /* Greatest |x[i]|, 0 when n = 0; x finite. n a multiple of 64. */
    float (*max_abs)(const float *x, size_t n);

    /* c8 = floor(x * (1/s)) + 128, clamped to 0..255 (1/s and the product rounded to float32), its
     * three planes, and the sums. s in [2^-126, 2^126], x finite. */
    void (*encode)(const float *x, size_t groups, float s, unsigned char *bits, unsigned char *six,
                   unsigned char *low, struct qkern_sums *sums);

    /* Q = u * (1/sq) rounded to nearest even and clamped to +-QKERN_Q_MAX; hi = (Q + 64) >> 7 in
     * -127..127, lo = Q - 128 hi in -64..63. sq in [2^-126, 2^126], u finite. */
    void (*split)(const float *u, size_t groups, float sq, int8_t *hi, int8_t *lo,
                  struct qkern_split *sums);
};

extern const struct qkern qkern_generic, qkern_avx2, qkern_avx512, qkern_avx512vnni, qkern_neon,
    qkern_neondot;

/* The table in use: kern_init (index/kern.h) sets it with the other. Before, the generic one. */
extern const struct qkern *qkern;

/* True when this processor (and kernel) can run the table. */
int qkern_supported(const struct qkern *k);

#endif
