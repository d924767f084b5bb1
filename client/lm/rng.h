/* rng.h - seeded choices: start values, shuffles, samples. Philox with a stream for each use, so
 * that one choice never shifts another. Not the projection's numbers: those are index/philox.h
 * alone. */
#ifndef CLIENT_LM_RNG_H
#define CLIENT_LM_RNG_H

#include <stddef.h>
#include <stdint.h>

enum rng_use { RNG_SHUFFLE = 1, RNG_SAMPLE = 2 }; /* keeps the streams apart */

struct rng {
    uint32_t key[2], counter[4], word[4];
    unsigned left; /* unused words */
};

void rng_init(struct rng *r, uint64_t seed, enum rng_use use, uint32_t stream);
uint32_t rng_next(struct rng *r);
uint32_t rng_below(struct rng *r, uint32_t n); /* uniform in 0 .. n-1, n > 0 */
double rng_unit(struct rng *r);                /* uniform in [0, 1) */
void rng_shuffle(struct rng *r, uint32_t *list, uint32_t count);

#endif
