/* rotate.h - the rotation every code is made in: rounds of signs and a fast Hadamard transform.
 *
 * A round runs over P coordinates, P the largest power of two that fits. When all fit there are
 * two. Else there are four, over the first P, the last P, the first, the last: they overlap and
 * cover, and every coordinate is mixed at least twice. Signs come from Philox under a key of the
 * format's own, so all machines rotate alike. In real arithmetic the rotation is orthogonal;
 * what float32 makes of it is bounded by rotate_slack. Any thread.
 */
#ifndef INDEX_ROTATE_H
#define INDEX_ROTATE_H

#include <stddef.h>

enum { ROTATE_MAX = 266240 }; /* coordinates */

/* Rotates x in place; n a multiple of 256 up to ROTATE_MAX. The same bits on every machine. */
void rotate(float *x, size_t n);

/* |rotate(x) - R x| <= rotate_slack(n) |x| for every x whose length is in 2^-64 ... 2^64, even
 * where a thread flushes denormals. */
double rotate_slack(size_t n);

#endif
