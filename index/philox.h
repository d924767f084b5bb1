/* philox.h - the numbers of the random projection: the same on every machine, in C and in Python.
 *
 * Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC
 * 2011). Normal deviates by Wichura's AS 241 (PPND16, 1988) from u = (word + 0.5) / 2^32, with a
 * logarithm of our own made of + - * / and sqrt in a stated order, so no libm decides a bit.
 * docs/projection.md has the construction, and golden values that every implementation must meet.
 */
#ifndef INDEX_PHILOX_H
#define INDEX_PHILOX_H

#include <stddef.h>
#include <stdint.h>

void philox_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

enum philox_side { PHILOX_LEFT = 0, PHILOX_RIGHT = 1 }; /* P_b and Q_b of the design */

/* Standard normal deviates number first .. first+count-1 of the stream (seed, block, side),
 * float64. Word n of the stream is lane n%4 of philox_block(counter = {n/4 low, n/4 high, block,
 * side}, key = {seed low, seed high}). */
void philox_normals(uint64_t seed, uint32_t block, enum philox_side side, uint64_t first,
                    size_t count, double *out);

#endif
