/* chunk.h - a chunk: an immutable group of rows, as three blocks, each one LMDB value.
 *
 * Every block starts with a 48-byte header that says what it is and where it belongs, and a XXH3-128
 * over that and the payload: a flipped bit is caught, and so is a whole and sound block that stands
 * in another's place. 48 bytes after LMDB's own 16 put the first row on a 64-byte boundary.
 */
#ifndef STORAGE_CHUNK_H
#define STORAGE_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"
#include "storage/corpus.h"
#include "storage/shard.h"
#include "storage/txn.h"

enum { CHUNK_HEADER_BYTES = 48, CHUNK_KINDS = 3, CHUNK_ROWS_MAX = 65536 };

/* One row on its way to the disk; all pointers are the caller's. */
struct chunk_row {
    uint64_t sequence;
    double norm;
    const void *encoding;
    const char *id, *text, *meta; /* text, meta: NULL when there is none */
    uint32_t id_len, text_len, meta_len;
};

/* The two variable blocks, built before the room is known. chunk_free on every path. */
struct chunk {
    const struct chunk_row *rows;
    uint32_t count;
    struct buf row_block, text_block;
    uint64_t bytes; /* of the three blocks as stored, headers included, pages rounded up */
};
int chunk_build(struct chunk *c, const struct chunk_row *rows, uint32_t count, size_t row_bytes,
                struct err *e);
void chunk_free(struct chunk *c);

/* How many of the `count` rows go into the next chunk: until the encodings reach chunk_bytes, the raw
 * texts do, or CHUNK_ROWS_MAX is reached; at least one. */
uint32_t chunk_cut(const struct chunk_row *rows, size_t count, size_t row_bytes,
                   uint64_t chunk_bytes);

/* Puts the blocks into the shard as chunk `id`; errors are sticky in t. */
void chunk_put(const struct chunk *c, struct txn *t, const struct shard *s, uint64_t id);

/* What a stored value must be to be this block; with `check_sum` its checksum as well. On success
 * the payload. CORRUPT names corpus, shard, chunk and kind. */
int chunk_check(struct span value, const struct shard *s, uint64_t id, enum block_kind kind,
                uint32_t rows, bool check_sum, struct span *out_payload, struct err *e);

const char *chunk_kind_name(enum block_kind kind);
unsigned chunk_kind_bit(enum block_kind kind); /* 0, 1, 2 */
extern const enum block_kind chunk_kinds[CHUNK_KINDS];

#endif
