/* qkern_neon.h - what the two tables for 64-bit ARM share: everything but the three dots, which
 * differ by how bytes are multiplied. Included by qkern_neon.c and qkern_neondot.c only.
 */
#ifndef INDEX_QKERN_NEON_H
#define INDEX_QKERN_NEON_H

#include "index/qkern.h"

void qkern_neon_fwht(float *x, size_t n);
void qkern_neon_flip(float *x, const uint64_t *signs, float scale, size_t n);
float qkern_neon_max_abs(const float *x, size_t n);
void qkern_neon_encode(const float *x, size_t groups, float s, unsigned char *bits,
                       unsigned char *six, unsigned char *low, struct qkern_sums *sums);
void qkern_neon_split(const float *u, size_t groups, float sq, int8_t *hi, int8_t *lo,
                      struct qkern_split *sums);

#endif
