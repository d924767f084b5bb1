/* rotate.h - the rotation every code is made in: two rounds of signs and a fast Hadamard transform.
 *
 * Round one runs over the first P coordinates, round two over the last P, P the largest power of two
 * that fits; they overlap and cover all. Signs come from Philox under a key of the format's own, so
 * all machines rotate alike; the same number of coordinates, the same rotation. In real arithmetic it
 * is orthogonal; what float32 makes of it is bounded by rotate_slack. Any thread.
 */
#ifndef INDEX_ROTATE_H
#define INDEX_ROTATE_H

#include <stddef.h>

enum { ROTATE_MAX = 266240 }; /* coordinates */

/* Rotates x in place; n a multiple of 256 up to ROTATE_MAX. The same bits on every machine. */
void rotate(float *x, size_t n);

/* |rotate(x) - R x| <= rotate_slack(n) |x| for every x whose length is in 2^-64 ... 2^64, even where
 * a thread flushes denormals. */
double rotate_slack(size_t n);

#endif
