/* block.c - reading one block of a chunk: block_* of corpus.h. Any thread. */
#include <string.h>

#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/chunk.h"
#include "storage/corpus.h"
#include "storage/damage.h"
#include "storage/shard.h"
#include "storage/txn.h"
#include "storage/warm.h"

static int absent(const struct view_chunk *c, enum block_kind kind, enum err_code code,
                  const char *what, struct err *e)
{
    return err_set(e, code, "corpus %s: shard %06u: chunk %llu: %s: %s", c->shard->corpus.name,
                   (unsigned)c->shard->id, (unsigned long long)c->id, chunk_kind_name(kind), what);
}

/* Small blocks are read here and there, and then only the pages touched are wanted. */
static bool is_read_whole(enum block_kind kind)
{
    unsigned plane;

    return kind == BLOCK_ENCODINGS || chunk_kind_is_code(kind, &plane);
}

/* How much of a block its reader wants: all of it; places in it, when it was summed; places in it,
 * and what was right in an older round is not read from the disk to be summed again. */
enum reach { WHOLE, PLACES, SPARSE };

/* Marks the block as seen only after its sum was right, so damage is reported at every touch. */
static int check_value(const struct view_chunk *c, enum block_kind kind, enum reach reach,
                       struct span value, struct span *out, struct err *e)
{
    unsigned bit = chunk_kind_bit(kind);
    uint64_t round;
    enum shard_mark mark = shard_block_mark(c->shard, c->id, bit, &round);
    bool stays_cold = mark == SHARD_STALE && reach == SPARSE && !warm_is(value.bytes, value.len);
    bool summed = mark != SHARD_RIGHT && !stays_cold;
    int rc;

    if (summed || reach == WHOLE)
        warm_range(value.bytes, value.len);
    rc = chunk_check(value, c, kind, summed, out, e);
    if (rc == 0 && summed)
        shard_block_note(c->shard, c->id, bit, round);
    return rc;
}

/* The stored value, in a transaction that is left open on success. */
static int find_value(const struct view_chunk *c, enum block_kind kind, struct txn *t,
                      struct span *out, struct err *e)
{
    struct key k = key_block(c->id, (unsigned char)kind);

    *out = (struct span){0};
    if (txn_get(t, 0, &k, out))
        return 0;
    if (t->err.code == ERR_OK)
        return absent(c, kind, ERR_CORRUPT, "the block is missing", e);
    *e = t->err;
    return (int)e->code;
}

static int open_value(const struct view_chunk *c, enum block_kind kind, enum reach reach,
                      struct block *out, struct err *e)
{
    struct span value, payload;
    unsigned plane;
    struct txn t;
    int rc;

    if (chunk_kind_is_code(kind, &plane) && !c->coded)
        return absent(c, kind, ERR_INTERNAL, "the chunk has none that this program reads", e);
    shard_begin_read(c->shard, &t);
    rc = find_value(c, kind, &t, &value, e);
    if (rc == 0)
        rc = check_value(c, kind, reach, value, &payload, e);
    if (rc == ERR_CORRUPT)
        rc = damage_met(c, kind, &t, value, &payload, e);
    if (rc) {
        txn_abort(&t);
        return rc;
    }
    *out = (struct block){.bytes = payload.bytes, .len = payload.len, .txn = t.handle};
    return 0;
}

int block_open(const struct view_chunk *c, enum block_kind kind, struct block *out, struct err *e)
{
    return open_value(c, kind, is_read_whole(kind) ? WHOLE : PLACES, out, e);
}

int block_open_sparse(const struct view_chunk *c, enum block_kind kind, struct block *out,
                      struct err *e)
{
    int rc = open_value(c, kind, SPARSE, out, e);

    if (rc == 0)
        out->cold = !warm_is(out->bytes, out->len);
    return rc;
}

void block_ahead(const struct block *b, size_t from, size_t len)
{
    require(from <= b->len && len <= b->len - from);
    if (b->cold)
        warm_range(b->bytes + from, len);
}

void block_prefetch(const struct view_chunk *c, enum block_kind kind)
{
    struct key k = key_block(c->id, (unsigned char)kind);
    struct span value;
    struct txn t;

    shard_begin_read(c->shard, &t);
    if (txn_get(&t, 0, &k, &value))
        warm_range(value.bytes, value.len);
    txn_abort(&t);
}

int block_stored_bytes(const struct view_chunk *c, enum block_kind kind, uint64_t *out,
                       struct err *e)
{
    struct span value;
    struct txn t;
    int rc;

    shard_begin_read(c->shard, &t);
    rc = find_value(c, kind, &t, &value, e);
    if (rc == 0)
        *out = value.len;
    txn_abort(&t);
    return rc;
}

/* ---- Single rows ----------------------------------------------------------------------------- */

int block_open_rows(const struct view_chunk *c, struct block *out, struct err *e)
{
    struct span value, payload;
    struct txn t;
    int rc;

    if (!c->summed || shard_sums_doubted(c->shard, c->id))
        return block_open(c, BLOCK_ENCODINGS, out, e);
    shard_begin_read(c->shard, &t);
    rc = find_value(c, BLOCK_ENCODINGS, &t, &value, e);
    if (rc == 0)
        rc = chunk_check(value, c, BLOCK_ENCODINGS, false, &payload, e);
    if (rc == ERR_CORRUPT)
        rc = damage_met(c, BLOCK_ENCODINGS, &t, value, &payload, e);
    if (rc) {
        txn_abort(&t);
        return rc;
    }
    *out = (struct block){.bytes = payload.bytes, .len = payload.len, .txn = t.handle};
    return 0;
}

/* The table of sums is read in the transaction of the block whose row is checked. */
static int check_row(const struct view_chunk *c, const struct block *b, uint32_t row, struct err *e)
{
    size_t row_bytes = c->shard->corpus.row_bytes;
    struct txn t = {.db = &c->shard->db, .handle = b->txn};
    struct span value, sums;
    int rc = find_value(c, BLOCK_SUMS, &t, &value, e);

    if (rc == 0)
        rc = check_value(c, BLOCK_SUMS, PLACES, value, &sums, e);
    if (rc == ERR_CORRUPT)
        return damage_met(c, BLOCK_SUMS, &t, value, &sums, e);
    if (rc)
        return rc;
    if (chunk_row_sum(c->id, row, b->bytes + row * row_bytes, row_bytes) !=
        bytes_get_le64(sums.bytes + (size_t)row * sizeof(uint64_t))) {
        damage_rows(c, b->bytes, sums.bytes);
        return err_set(e, ERR_CORRUPT,
                       "corpus %s: shard %06u: chunk %llu: encodings: row %u: the checksum is "
                       "wrong",
                       c->shard->corpus.name, (unsigned)c->shard->id, (unsigned long long)c->id,
                       (unsigned)row);
    }
    return 0;
}

int block_row(const struct view_chunk *c, const struct block *b, uint32_t row,
              const unsigned char **out, struct err *e)
{
    uint64_t round;
    int rc;

    require(row < c->rows);
    warm_range(b->bytes + row * c->shard->corpus.row_bytes, c->shard->corpus.row_bytes);
    if (c->summed && !shard_row_seen(c->shard, c->id, row, &round)) {
        rc = check_row(c, b, row, e);
        if (rc)
            return rc;
        shard_row_note(c->shard, c->id, row, c->rows, round);
    }
    *out = b->bytes + row * c->shard->corpus.row_bytes;
    return 0;
}

int block_open_row(const struct view_chunk *c, uint32_t row, struct block *out, struct err *e)
{
    struct block b;
    int rc = block_open_rows(c, &b, e);

    if (rc)
        return rc;
    rc = block_row(c, &b, row, &b.bytes, e);
    if (rc) {
        block_close(&b);
        return rc;
    }
    b.len = c->shard->corpus.row_bytes;
    *out = b;
    return 0;
}

int block_distrust(const struct view_chunk *c, struct err *e)
{
    static const enum block_kind kinds[] = {BLOCK_ENCODINGS, BLOCK_ROWS};
    struct block b;
    int rc = 0;

    shard_distrust(c->shard, c->id);
    for (size_t i = 0; rc == 0 && i < sizeof kinds / sizeof *kinds; i++) {
        rc = block_open(c, kinds[i], &b, e);
        if (rc == 0)
            block_close(&b);
    }
    return rc;
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
