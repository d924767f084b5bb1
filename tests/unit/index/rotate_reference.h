/* rotate_reference.h - the rotation of index/rotate.h once more, in float64 and by the book:
 * what its tests compare with. Signs are read from Philox as docs/exactness.md says. */
#ifndef TESTS_ROTATE_REFERENCE_H
#define TESTS_ROTATE_REFERENCE_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "index/philox.h"

static uint64_t test_random_state;

static inline uint64_t test_random(void) /* splitmix64 */
{
    uint64_t z = test_random_state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static inline double test_plus_minus_one(void)
{
    return (double)(int64_t)test_random() * 0x1p-63;
}

/* Close to normal: the sum of twelve uniform variates less six. */
static inline double test_normal(void)
{
    double sum = 0.0;

    for (int i = 0; i < 12; i++)
        sum += test_plus_minus_one();
    return 0.5 * sum;
}

/* -1 or 1: sign i of a round. */
static inline double reference_sign(uint32_t round, size_t i)
{
    const uint32_t counter[4] = {(uint32_t)(i / 128), round, 0, 0};
    const uint32_t key[2] = {0x61736372, 0x69626532};
    uint32_t out[4];

    philox_block(counter, key, out);
    return out[i % 128 / 32] >> (i % 32) & 1 ? -1.0 : 1.0;
}

/* Natural order of Sylvester: y[i] = sum of (-1)^popcount(i & j) x[j], here by halves. */
static inline void reference_hadamard(double *x, size_t n)
{
    const size_t half = n / 2;

    if (n == 1)
        return;
    reference_hadamard(x, half);
    reference_hadamard(x + half, half);
    for (size_t i = 0; i < half; i++) {
        double a = x[i], b = x[i + half];

        x[i] = a + b;
        x[i + half] = a - b;
    }
}

static inline void reference_rotate(double *x, size_t n)
{
    size_t p = 256;

    while (2 * p <= n)
        p *= 2;
    for (uint32_t round = 0; round < (p == n ? 2 : 4); round++) {
        double *at = round % 2 ? x + n - p : x;

        for (size_t i = 0; i < p; i++)
            at[i] *= reference_sign(round, i) / sqrt((double)p);
        reference_hadamard(at, p);
    }
}

/* Undoes it: rounds from the last to the first, the transform its own inverse. */
static inline void reference_rotate_back(double *x, size_t n)
{
    size_t p = 256;

    while (2 * p <= n)
        p *= 2;
    for (uint32_t round = p == n ? 2 : 4; round-- > 0;) {
        double *at = round % 2 ? x + n - p : x;

        reference_hadamard(at, p);
        for (size_t i = 0; i < p; i++)
            at[i] *= reference_sign(round, i) / sqrt((double)p);
    }
}

#endif
