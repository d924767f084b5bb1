/* rotate.c - see rotate.h. The table of signs is made once; no other state. */
#include "index/rotate.h"

#include <math.h>
#include <pthread.h>
#include <stdint.h>

#include "index/philox.h"
#include "index/qkern.h"
#include "storage/base/check.h"

enum { ROUNDS = 4, WORD = 64, SIGN_WORDS = ROTATE_MAX / WORD };

/* Part of the disk format: codes made under other signs are other codes. */
static const uint32_t format_key[2] = {0x61736372, 0x69626532};

static uint64_t signs[ROUNDS][SIGN_WORDS];

/* Word w of round r is half w%2 of Philox block {w/2, r, 0, 0}: it does not depend on n. */
static void make_signs(void)
{
    for (uint32_t r = 0; r < ROUNDS; r++)
        for (uint32_t w = 0; w < SIGN_WORDS; w += 2) {
            const uint32_t counter[4] = {w / 2, r, 0, 0};
            uint32_t out[4];

            philox_block(counter, format_key, out);
            signs[r][w] = out[0] | (uint64_t)out[1] << 32;
            signs[r][w + 1] = out[2] | (uint64_t)out[3] << 32;
        }
}

static size_t power_within(size_t n)
{
    size_t p = 1;

    while (p <= n / 2)
        p *= 2;
    return p;
}

static int rounds_of(size_t n)
{
    return power_within(n) == n ? 2 : ROUNDS;
}

static int log2_of(size_t p)
{
    int m = 0;

    while (p >>= 1)
        m++;
    return m;
}

/* 2^(-m/2): its square root of two, for odd m, is rounded once to float32. */
static float scale_of(int m)
{
    return ldexpf(m % 2 ? 0x1.6a09e6p-1f : 1.0f, -(m / 2));
}

void rotate(float *x, size_t n)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const size_t p = power_within(n);
    const float scale = scale_of(log2_of(p));

    require(n % QKERN_GROUP == 0 && n > 0 && n <= ROTATE_MAX);
    pthread_once(&once, make_signs);
    for (int r = 0; r < rounds_of(n); r++) {
        float *at = r % 2 ? x + n - p : x;

        qkern->flip(at, signs[r], scale, p);
        qkern->fwht(at, p);
    }
}

/* A round is one product and m additions an element, one after the other, each within u = 2^-24 of
 * its exact result, and a scale within u of 2^(-m/2). docs/exactness.md has the sum, and why 2^-36
 * is enough for denormals. */
double rotate_slack(size_t n)
{
    const double steps = rounds_of(n) * (log2_of(power_within(n)) + 2.0);

    return steps * 0x1p-24 * (1.0 + 0x1p-10) + 0x1p-36;
}
