/* chunk.h - a chunk: an immutable group of rows, as blocks, each one LMDB value: encodings, rows,
 * texts and sums of rows always, codes when the store's coder makes some.
 *
 * Every block starts with a 48-byte header that says what it is and where it belongs, and a
 * XXH3-128 over that and the payload: a flipped bit is caught, and so is a whole and sound block
 * that stands in another's place. 48 bytes after LMDB's own 16 put the first row on a 64-byte
 * boundary.
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

enum { CHUNK_HEADER_BYTES = 48, CHUNK_KINDS = 8, CHUNK_ROWS_MAX = 65536 };

/* One row on its way to the disk; all pointers are the caller's. */
struct chunk_row {
    uint64_t sequence;
    double norm;
    const void *encoding;
    const char *id, *text, *meta; /* text, meta: NULL when there is none */
    uint32_t id_len, text_len, meta_len;
    const struct codes *codes; /* this row's are number code_row of them; NULL: to be made */
    uint32_t code_row;
};

/* What is made before the room is known. chunk_free on every path. */
struct chunk {
    const struct shard_corpus *corpus;
    const struct chunk_row *rows;
    uint32_t count;
    struct buf row_block, text_block;
    unsigned char *sums; /* filled while the encodings are put; owned */
    void *code_memory;   /* owned; NULL when the rows came with their codes, or get none */
    struct codes made;   /* in it */
    uint64_t bytes;      /* of all blocks as stored, headers included, pages rounded up */
};
int chunk_build(struct chunk *c, const struct shard_corpus *corpus, const struct chunk_row *rows,
                uint32_t count, struct err *e);
void chunk_free(struct chunk *c);

/* How many of the `count` rows go into the next chunk: until the encodings reach chunk_bytes, the
 * raw texts do, or CHUNK_ROWS_MAX is reached; at least one. */
uint32_t chunk_cut(const struct chunk_row *rows, size_t count, size_t row_bytes,
                   uint64_t chunk_bytes);

/* Puts the blocks into the shard as chunk `id`; errors are sticky in t. */
void chunk_put(struct chunk *c, struct txn *t, const struct shard *s, uint64_t id);

/* What a stored value must be to be this block; with `check_sum` its checksum as well. On success
 * the payload. CORRUPT names corpus, shard, chunk and kind. */
int chunk_check(struct span value, const struct view_chunk *c, enum block_kind kind, bool check_sum,
                struct span *out_payload, struct err *e);

/* For who does not know the chunk yet: is the checksum right; is it this block of this chunk, of as
 * many rows as it says (no codes). */
bool chunk_sum_is_right(struct span value);
bool chunk_belongs(struct span value, const struct shard *s, uint64_t id, enum block_kind kind);
uint64_t chunk_stored_bytes(uint64_t payload); /* as LMDB stores it, with the header */

/* The sum of one row's encoding, its place inside. */
uint64_t chunk_row_sum(uint64_t chunk, uint32_t row, const void *encoding, size_t row_bytes);

const char *chunk_kind_name(enum block_kind kind);
unsigned chunk_kind_bit(enum block_kind kind); /* below CHUNK_KINDS */
bool chunk_kind_is_code(enum block_kind kind, unsigned *out_plane); /* CODER_PLANES: factors */
enum block_kind chunk_plane_kind(unsigned plane); /* the other way round */
/* Is the block there? Not asked of the disk: the ledger says it. */
bool chunk_has(const struct view_chunk *c, enum block_kind kind);
extern const enum block_kind chunk_kinds[CHUNK_KINDS];

#endif
