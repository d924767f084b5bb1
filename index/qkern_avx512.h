/* qkern_avx512.h - what the two AVX-512 tables share: everything but the three dots, which differ
 * by how bytes are multiplied. Included by qkern_avx512.c and qkern_avx512vnni.c only; see qkern.h.
 */
#ifndef INDEX_QKERN_AVX512_H
#define INDEX_QKERN_AVX512_H

#include "index/qkern.h"

void qkern_avx512_fwht(float *x, size_t n);
void qkern_avx512_flip(float *x, const uint64_t *signs, float scale, size_t n);
float qkern_avx512_max_abs(const float *x, size_t n);
void qkern_avx512_encode(const float *x, size_t groups, float s, unsigned char *bits,
                         unsigned char *six, unsigned char *low, struct qkern_sums *sums);
void qkern_avx512_split(const float *u, size_t groups, float sq, int8_t *hi, int8_t *lo,
                        struct qkern_split *sums);

#endif
