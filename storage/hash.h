/* hash.h - XXH3-128 over several pieces, and a 32-bit check of ledger records.
 * Detects damage, not malice: the content of a batch is identified by what the server passes in. */
#ifndef STORAGE_HASH_H
#define STORAGE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <xxhash.h>

#include "storage/base/spare.h"

enum { HASH_BYTES = 16, HASH_STATE = 576 /* about; for a person */ };

struct hash {
    XXH3_state_t *state; /* the library's to allocate: its size belongs to its version */
};

static inline void hash_begin(struct hash *h)
{
    h->state = XXH3_createState();
    if (!h->state) {
        spare_spend();
        h->state = XXH3_createState();
    }
    if (!h->state)
        spare_end(HASH_STATE);
    (void)XXH3_128bits_reset(h->state);
}

static inline void hash_add(struct hash *h, const void *bytes, size_t len)
{
    (void)XXH3_128bits_update(h->state, bytes, len);
}

static inline void hash_end(struct hash *h, unsigned char out[HASH_BYTES])
{
    XXH128_canonical_t canonical;

    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(h->state));
    (void)XXH3_freeState(h->state);
    memcpy(out, canonical.digest, HASH_BYTES);
}

/* Of a record with its place (table, key) inside, so that a record under another key is caught. */
static inline uint32_t hash_record(uint32_t table, const void *key, size_t key_len,
                                   const void *value, size_t value_len)
{
    uint64_t h = XXH3_64bits_withSeed(key, key_len, table);

    return (uint32_t)XXH3_64bits_withSeed(value, value_len, h);
}

#endif
