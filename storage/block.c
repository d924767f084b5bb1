/* block.c - reading one block of a chunk: block_* of corpus.h. Any thread. */
#include <string.h>

#include "storage/base/bytes.h"
#include "storage/chunk.h"
#include "storage/corpus.h"
#include "storage/shard.h"
#include "storage/txn.h"

static int missing(const struct view_chunk *c, enum block_kind kind, struct err *e)
{
    return err_set(e, ERR_CORRUPT, "corpus %s: shard %06u: chunk %llu: %s: the block is missing",
                   c->shard->corpus.name, (unsigned)c->shard->id, (unsigned long long)c->id,
                   chunk_kind_name(kind));
}

/* Marks the block as seen only after its sum was right, so damage is reported at every touch. */
static int check_value(const struct view_chunk *c, enum block_kind kind, struct span value,
                       struct span *out, struct err *e)
{
    unsigned bit = chunk_kind_bit(kind);
    bool seen = shard_block_seen(c->shard, c->id, bit);
    int rc = chunk_check(value, c->shard, c->id, kind, c->rows, !seen, out, e);

    if (rc == 0 && !seen)
        shard_block_note(c->shard, c->id, bit);
    return rc;
}

int block_open(const struct view_chunk *c, enum block_kind kind, struct block *out, struct err *e)
{
    struct key k = key_block(c->id, (unsigned char)kind);
    struct span value, payload;
    struct txn t;
    int rc;

    shard_begin_read(c->shard, &t);
    if (txn_get(&t, 0, &k, &value)) {
        rc = check_value(c, kind, value, &payload, e);
    } else if (t.err.code != ERR_OK) {
        *e = t.err;
        rc = (int)e->code;
    } else {
        rc = missing(c, kind, e);
    }
    if (rc) {
        txn_abort(&t);
        return rc;
    }
    *out = (struct block){.bytes = payload.bytes, .len = payload.len, .txn = t.handle};
    return 0;
}

void block_close(struct block *b)
{
    struct txn t = {.handle = b->txn};

    txn_abort(&t);
    *b = (struct block){0};
}

/* ---- The ROWS block (layout: storage/chunk.c). Its shape was checked when it was opened. ----- */

static uint32_t row_count(const struct block *b)
{
    return bytes_get_le32(b->bytes);
}

uint64_t block_row_sequence(const struct block *b, uint32_t row)
{
    return bytes_get_le64(b->bytes + 8 + (size_t)row * 8);
}

double block_row_norm(const struct block *b, uint32_t row)
{
    double norm;

    memcpy(&norm, b->bytes + 8 + ((size_t)row_count(b) + row) * 8, sizeof norm);
    return norm;
}

const char *block_row_id(const struct block *b, uint32_t row, size_t *out_len)
{
    size_t rows = row_count(b);
    const unsigned char *offset = b->bytes + 8 + rows * 16;
    const unsigned char *ids = offset + (rows + 1) * 4;
    size_t total = b->len - (size_t)(ids - b->bytes);
    uint32_t from = bytes_get_le32(offset + (size_t)row * 4);
    uint32_t to = bytes_get_le32(offset + (size_t)row * 4 + 4);

    if (from > to || to > total)
        from = to = 0;
    *out_len = to - from;
    return (const char *)ids + from;
}
