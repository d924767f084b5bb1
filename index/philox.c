/* philox.c - Philox4x32-10 and the normal deviates drawn from it. See philox.h.
 *
 * Everything here is + - * / sqrt on IEEE float64 in the order written, and integer operations: the
 * build forbids contraction (-ffp-contract=off), so every machine computes the same bits. Pure
 * functions; any thread. docs/projection.md states the same steps for other languages.
 */
#include "index/philox.h"

#include <math.h>
#include <string.h>

enum { ROUNDS = 10, WORDS = 4 };

static void round_once(uint32_t c[4], const uint32_t key[2])
{
    uint64_t a = (uint64_t)0xD2511F53u * c[0];
    uint64_t b = (uint64_t)0xCD9E8D57u * c[2];
    uint32_t c0 = (uint32_t)(b >> 32) ^ c[1] ^ key[0];
    uint32_t c2 = (uint32_t)(a >> 32) ^ c[3] ^ key[1];

    c[0] = c0;
    c[1] = (uint32_t)b;
    c[2] = c2;
    c[3] = (uint32_t)a;
}

/* One block of 128 random bits. Salmon et al. 2011, section 4.3; the key schedule adds the golden
 * ratio and sqrt(3) - 1 as 32-bit fractions. `out` may be `counter`. */
void philox_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]};
    uint32_t k[2] = {key[0], key[1]};

    for (int i = 0; i < ROUNDS; i++) {
        round_once(c, k);
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
    memcpy(out, c, sizeof c);
}

/* Natural logarithm of a positive normal number, within 1e-16 relative near the range in use.
 * x = 2^e m, m in [sqrt(1/2), sqrt(2)); log m = 2 artanh(s), s = (m - 1)/(m + 1), |s| < 0.1716, by
 * its Taylor series to s^23 (the next term is below 2^-60 of the sum); ln 2 in two parts, the
 * first with trailing zeros so that e * HIGH is exact (Cody and Waite). */
static double log_stated(double x)
{
    static const double ln2_high = 0x1.62e42fee00000p-1, ln2_low = 0x1.a39ef35793c76p-33;
    uint64_t bits;
    double m, s, z, sum, e;
    int exponent;

    memcpy(&bits, &x, sizeof bits);
    exponent = (int)(bits >> 52) - 1022;
    bits = (bits & UINT64_C(0x000FFFFFFFFFFFFF)) | UINT64_C(0x3FE0000000000000); /* m in [1/2, 1) */
    memcpy(&m, &bits, sizeof m);
    if (m < 0x1.6a09e667f3bcdp-1) {
        m = m * 2.0;
        exponent -= 1;
    }
    e = (double)exponent;
    s = (m - 1.0) / (m + 1.0);
    z = s * s;
    sum = 1.0 / 23.0;
    for (int n = 21; n >= 1; n -= 2)
        sum = sum * z + 1.0 / (double)n;
    return e * ln2_high + (e * ln2_low + 2.0 * s * sum);
}

/* c[0] + c[1] x + ... + c[7] x^7 by Horner's rule, from the highest power down. */
static double poly7(const double c[8], double x)
{
    double v = c[7];

    for (int i = 6; i >= 0; i--)
        v = v * x + c[i];
    return v;
}

/* Coefficients of AS 241, routine PPND16: numerator and denominator for the centre, the near tail
 * and the far tail. M. J. Wichura, Applied Statistics 37 (1988), 477-484. */
static const double centre[2][8] = {
    {3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
     1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
     3.3430575583588128105e4, 2.5090809287301226727e3},
    {1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4,
     5.2264952788528545610e3},
};
static const double near_tail[2][8] = {
    {1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
     3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1,
     2.27238449892691845833e-2, 7.74545014278341407640e-4},
    {1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
     1.05075007164441684324e-9},
};
static const double far_tail[2][8] = {
    {6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0,
     2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
     2.71155556874348757815e-5, 2.01033439929228813265e-7},
    {1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
     2.04426310338993978564e-15},
};

/* The normal deviate whose lower tail is u, 0 < u < 1. */
static double normal_of(double u)
{
    double q = u - 0.5, r, v;

    if (fabs(q) <= 0.425) {
        r = 0.180625 - q * q;
        return q * poly7(centre[0], r) / poly7(centre[1], r);
    }
    r = sqrt(-log_stated(q < 0.0 ? u : 1.0 - u));
    if (r <= 5.0) {
        r = r - 1.6;
        v = poly7(near_tail[0], r) / poly7(near_tail[1], r);
    } else {
        r = r - 5.0;
        v = poly7(far_tail[0], r) / poly7(far_tail[1], r);
    }
    return q < 0.0 ? -v : v;
}

void philox_normals(uint64_t seed, uint32_t block, enum philox_side side, uint64_t first,
                    size_t count, double *out)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t words[WORDS];

    for (size_t i = 0; i < count; i++) {
        uint64_t n = first + i;

        if (i == 0 || n % WORDS == 0) {
            uint64_t quad = n / WORDS;
            uint32_t counter[4] = {(uint32_t)quad, (uint32_t)(quad >> 32), block, (uint32_t)side};

            philox_block(counter, key, words);
        }
        out[i] = normal_of(((double)words[n % WORDS] + 0.5) * 0x1p-32);
    }
}
