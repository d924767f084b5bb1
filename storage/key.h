/* key.h - the keys of the ledger and of shards. Numbers are big-endian, so that LMDB's byte order
 * is the number's order and everything of one corpus lies together. Layouts: docs/format.md. */
#ifndef STORAGE_KEY_H
#define STORAGE_KEY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "storage/base/bytes.h"
#include "storage/base/check.h"

enum { KEY_MAX = 511 }; /* LMDB's own limit */

struct key {
    unsigned char bytes[KEY_MAX];
    size_t len;
};

static inline struct key key_bytes(const void *bytes, size_t len)
{
    struct key k;

    require(len <= KEY_MAX);
    memcpy(k.bytes, bytes, len);
    k.len = len;
    return k;
}

static inline struct key key_text(const char *text)
{
    return key_bytes(text, strlen(text));
}

static inline struct key key_u32(uint32_t v)
{
    struct key k = {.len = 4};

    bytes_put_be32(k.bytes, v);
    return k;
}

/* corpus, then a number: chunk id or sequence */
static inline struct key key_u32_u64(uint32_t corpus, uint64_t v)
{
    struct key k = {.len = 12};

    bytes_put_be32(k.bytes, corpus);
    bytes_put_be64(k.bytes + 4, v);
    return k;
}

/* corpus, then bytes: example id or batch name */
static inline struct key key_u32_bytes(uint32_t corpus, const void *bytes, size_t len)
{
    struct key k;

    require(len <= KEY_MAX - 4);
    bytes_put_be32(k.bytes, corpus);
    memcpy(k.bytes + 4, bytes, len);
    k.len = 4 + len;
    return k;
}

/* chunk id, then block kind: the keys of a shard */
static inline struct key key_block(uint64_t chunk, unsigned char kind)
{
    struct key k = {.len = 9};

    bytes_put_be64(k.bytes, chunk);
    k.bytes[8] = kind;
    return k;
}

#endif
