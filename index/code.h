/* code.h - the code of a stored row: three planes of bits and eight factors, from which a scan
 * learns between which bounds the row's score lies without reading the row (docs/exactness.md).
 *
 * The row is rotated (index/rotate.h) and cut into 256 levels, c8, of one scale s. The planes
 * hold its sign bit, its upper six bits and its lowest two, in the order that the kernels want
 * (index/qkern.h). The factors are computed from the decoded code, never from the input alone,
 * in float64, and rounded outwards, with all that rotation may have rounded: a bound made of
 * them holds for the row that is stored. Nothing here allocates or fails; any thread.
 */
#ifndef INDEX_CODE_H
#define INDEX_CODE_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "storage/base/dtype.h"

/* Of the planes, the factors and the rotation: another number, other bytes. */
enum { CODE_VERSION = 1 };

enum { CODE_DIM_MAX = 266240 }; /* 1,040 groups: what the kernels sum without overflow */

/* Factors of one row, float32, little-endian. In a block they lie side by side: factor f of row
 * r is number f * rows + r. "Length" is an upper bound on a Euclidean norm. A row that has no
 * code (not finite, or its length outside 2^-64 ... 2^64) has zero planes, scale and gain, and
 * all else infinite: no bound drops it. */
enum code_factor {
    CODE_SCALE,   /* s */
    CODE_REST6,   /* length of what 6 bits leave: R x - x^6, R exact, and more: below */
    CODE_REST8,   /* the same of 8 bits */
    CODE_LENGTH6, /* |x^6| */
    CODE_LENGTH8, /* |x^8| */
    CODE_GAIN1,   /* g of the 1-bit estimate g <sign, R u> */
    CODE_SPREAD1, /* h of its error h Z |u|; infinite, and g 0, where one bit says little */
    CODE_LENGTH,  /* |x| */
    CODE_FACTORS
};
/* REST6 and REST8 also hold the row's share of every other rounding between the real product of the
 * decoded vectors and the exact kernel's score: |score - <u^, x^>| <= |u| REST + |R u - u^| LENGTH,
 * |u|, |R u - u^| upper bounds, u^ as index/bound.h makes it. */

/* Bytes of `rows` rows in each plane. dim in 1 .. CODE_DIM_MAX. Dimensions are padded with zeros to
 * a multiple of 256. */
size_t code_padded(size_t dim);
size_t code_groups(size_t dim);
size_t code_bits_bytes(size_t dim, size_t rows);    /* padded / 8 a row */
size_t code_six_bytes(size_t dim, size_t rows);     /* 3 padded / 4 a row */
size_t code_low_bytes(size_t dim, size_t rows);     /* padded / 4 a row */
size_t code_factors_bytes(size_t rows);             /* 32 a row */

/* One block's planes, to be written: of `rows` rows, bytes as above, any alignment. */
struct code_planes {
    unsigned char *bits, *six, *low, *factors;
    uint32_t rows;
};

/* Codes rows first .. first+count-1 of the block from encodings `stride` bytes from each other, dim
 * elements of type t each, any alignment. scratch: code_padded(dim) floats, the caller's. The same
 * bytes on every machine, whatever the instruction set and however rows are split into calls. */
void code_rows(enum dtype t, size_t dim, const void *encodings, size_t stride, uint32_t first,
               uint32_t count, const struct code_planes *out, float *scratch);

/* Factor f of row r in the factors of a block of `rows` rows. */
static inline float code_factor(const unsigned char *factors, uint32_t rows, enum code_factor f,
                                uint32_t r)
{
    uint32_t word;
    float v;

    memcpy(&word, factors + ((size_t)f * rows + r) * sizeof word, sizeof word);
    word = le32toh(word);
    memcpy(&v, &word, sizeof v);
    return v;
}

#endif
