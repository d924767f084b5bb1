/* rng.c - see rng.h. */
#include "client/lm/rng.h"

#include "index/philox.h"

void rng_init(struct rng *r, uint64_t seed, enum rng_use use, uint32_t stream)
{
    *r = (struct rng){.key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
                      .counter = {0, 0, (uint32_t)use << 24, stream}};
}

uint32_t rng_next(struct rng *r)
{
    if (r->left == 0) {
        philox_block(r->counter, r->key, r->word);
        r->left = 4;
        if (++r->counter[0] == 0)
            r->counter[1]++;
    }
    return r->word[4 - r->left--];
}

/* Lemire, "Fast random integer generation in an interval", 2019: a product's high half, and words
 * that would favour some results thrown away. */
uint32_t rng_below(struct rng *r, uint32_t n)
{
    const uint32_t unfair = (uint32_t)(-n) % n;
    uint64_t product;

    do
        product = (uint64_t)rng_next(r) * n;
    while ((uint32_t)product < unfair);
    return (uint32_t)(product >> 32);
}

double rng_unit(struct rng *r)
{
    return rng_next(r) * 0x1p-32;
}

void rng_shuffle(struct rng *r, uint32_t *list, uint32_t count)
{
    for (uint32_t i = count; i > 1; i--) {
        uint32_t j = rng_below(r, i), kept = list[i - 1];
        list[i - 1] = list[j];
        list[j] = kept;
    }
}
