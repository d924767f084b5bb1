/* chunk.c - see chunk.h. Writing and checking of blocks; reading is storage/block.c. */
#include "storage/chunk.h"

#include <stdio.h>
#include <string.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/hash.h"
#include "storage/text.h"

/* Header, little-endian: docs/format.md. */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_KIND = 5,
    AT_DTYPE = 6,
    AT_CORPUS = 8,
    AT_SHARD = 12,
    AT_CHUNK = 16,
    AT_ROWS = 24,
    AT_DIM = 28,
    AT_HASH = 32,
    VERSION = 1,
    PAGE = 4096,
    HASH_STEP = 128 << 10, /* copied, then hashed while it is in the cache */
};
static const unsigned char magic[4] = {'a', 's', 'c', 'b'};
_Static_assert(AT_HASH + HASH_BYTES == CHUNK_HEADER_BYTES, "the checksum ends the header");

const enum block_kind chunk_kinds[CHUNK_KINDS] = {BLOCK_ENCODINGS, BLOCK_ROWS, BLOCK_TEXTS};

const char *chunk_kind_name(enum block_kind kind)
{
    return kind == BLOCK_ENCODINGS ? "encodings" : kind == BLOCK_ROWS ? "rows" : "texts";
}

unsigned chunk_kind_bit(enum block_kind kind)
{
    return kind == BLOCK_ENCODINGS ? 0 : kind == BLOCK_ROWS ? 1 : 2;
}

/* ---- Build ----------------------------------------------------------------------------------- */

/* Payload of the ROWS block: u32 rows, u32 0; sequences; norms; rows + 1 id offsets (u32); ids. */
static void build_rows(struct buf *out, const struct chunk_row *rows, uint32_t count)
{
    size_t fixed = 8 + (size_t)count * 20 + 4, ids = 0;
    unsigned char *sequence, *norm, *offset;

    for (uint32_t i = 0; i < count; i++)
        ids += rows[i].id_len;
    if (!buf_reserve(out, fixed + ids))
        return;
    bytes_put_le32(out->data, count);
    bytes_put_le32(out->data + 4, 0);
    sequence = out->data + 8;
    norm = sequence + (size_t)count * 8;
    offset = norm + (size_t)count * 8;
    out->len = fixed;
    for (uint32_t i = 0; i < count; i++) {
        bytes_put_le64(sequence + (size_t)i * 8, rows[i].sequence);
        memcpy(norm + (size_t)i * 8, &rows[i].norm, 8);
        bytes_put_le32(offset + (size_t)i * 4, (uint32_t)(out->len - fixed));
        buf_add(out, rows[i].id, rows[i].id_len);
    }
    bytes_put_le32(offset + (size_t)count * 4, (uint32_t)(out->len - fixed));
}

/* As LMDB stores it: 16 bytes in front, whole pages. */
static uint64_t stored_bytes(uint64_t payload)
{
    return (payload + CHUNK_HEADER_BYTES + 16 + PAGE - 1) / PAGE * PAGE;
}

int chunk_build(struct chunk *c, const struct chunk_row *rows, uint32_t count, size_t row_bytes,
                struct err *e)
{
    *c = (struct chunk){.rows = rows, .count = count};
    build_rows(&c->row_block, rows, count);
    if (c->row_block.failed)
        return err_set(e, ERR_BUSY, "no memory for the table of %u rows", (unsigned)count);
    if (text_build(rows, count, &c->text_block, e))
        return (int)e->code;
    c->bytes = stored_bytes((uint64_t)count * row_bytes) + stored_bytes(c->row_block.len) +
               stored_bytes(c->text_block.len);
    return 0;
}

void chunk_free(struct chunk *c)
{
    buf_free(&c->row_block);
    buf_free(&c->text_block);
}

uint32_t chunk_cut(const struct chunk_row *rows, size_t count, size_t row_bytes,
                   uint64_t chunk_bytes)
{
    uint64_t encodings = 0, texts = 0;
    uint32_t n = 0;

    while (n < count && n < CHUNK_ROWS_MAX) {
        uint64_t text = (uint64_t)(rows[n].text ? rows[n].text_len : 0) +
                        (rows[n].meta ? rows[n].meta_len : 0);

        if (n > 0 && (encodings + row_bytes > chunk_bytes || texts + text > chunk_bytes))
            break;
        encodings += row_bytes;
        texts += text;
        n++;
    }
    return n;
}

/* ---- Put ------------------------------------------------------------------------------------- */

static void fill_header(unsigned char *h, const struct shard *s, uint64_t id, enum block_kind kind,
                        uint32_t rows)
{
    memset(h, 0, CHUNK_HEADER_BYTES);
    memcpy(h + AT_MAGIC, magic, sizeof magic);
    h[AT_VERSION] = VERSION;
    h[AT_KIND] = (unsigned char)kind;
    h[AT_DTYPE] = (unsigned char)s->corpus.dtype;
    bytes_put_le32(h + AT_CORPUS, s->corpus.id);
    bytes_put_le32(h + AT_SHARD, s->id);
    bytes_put_le64(h + AT_CHUNK, id);
    bytes_put_le32(h + AT_ROWS, rows);
    bytes_put_le32(h + AT_DIM, s->corpus.dim);
}

static void copy_hashed(struct hash *h, unsigned char *to, const unsigned char *from, size_t len)
{
    while (len > 0) {
        size_t step = len < HASH_STEP ? len : HASH_STEP;

        memcpy(to, from, step);
        hash_add(h, to, step);
        to += step;
        from += step;
        len -= step;
    }
}

/* Rows whose encodings lie side by side in the caller's memory are copied as one. */
static void copy_encodings(struct hash *h, unsigned char *to, const struct chunk *c,
                           size_t row_bytes)
{
    uint32_t i = 0;

    while (i < c->count) {
        const unsigned char *from = c->rows[i].encoding;
        uint32_t run = 1;

        while (i + run < c->count && c->rows[i + run].encoding == from + run * row_bytes)
            run++;
        copy_hashed(h, to, from, run * row_bytes);
        to += run * row_bytes;
        i += run;
    }
}

static void put_block(const struct chunk *c, struct txn *t, const struct shard *s, uint64_t id,
                      enum block_kind kind)
{
    const struct buf *b = kind == BLOCK_ROWS ? &c->row_block : &c->text_block;
    size_t len = kind == BLOCK_ENCODINGS ? c->count * s->corpus.row_bytes : b->len;
    struct key k = key_block(id, (unsigned char)kind);
    unsigned char *room = txn_reserve(t, 0, &k, CHUNK_HEADER_BYTES + len);
    struct hash h;

    if (!room)
        return;
    fill_header(room, s, id, kind, c->count);
    hash_begin(&h);
    hash_add(&h, room, AT_HASH);
    if (kind == BLOCK_ENCODINGS)
        copy_encodings(&h, room + CHUNK_HEADER_BYTES, c, s->corpus.row_bytes);
    else
        copy_hashed(&h, room + CHUNK_HEADER_BYTES, b->data, b->len);
    hash_end(&h, room + AT_HASH);
}

void chunk_put(const struct chunk *c, struct txn *t, const struct shard *s, uint64_t id)
{
    for (unsigned i = 0; i < CHUNK_KINDS; i++)
        put_block(c, t, s, id, chunk_kinds[i]);
}

/* ---- Check ----------------------------------------------------------------------------------- */

static int damage(const struct shard *s, uint64_t id, enum block_kind kind, const char *what,
                  struct err *e)
{
    return err_set(e, ERR_CORRUPT, "corpus %s: shard %06u: chunk %llu: %s: %s", s->corpus.name,
                   (unsigned)s->id, (unsigned long long)id, chunk_kind_name(kind), what);
}

static bool sum_is_right(struct span value)
{
    unsigned char sum[HASH_BYTES];
    struct hash h;

    hash_begin(&h);
    hash_add(&h, value.bytes, AT_HASH);
    hash_add(&h, value.bytes + CHUNK_HEADER_BYTES, value.len - CHUNK_HEADER_BYTES);
    hash_end(&h, sum);
    return memcmp(sum, value.bytes + AT_HASH, HASH_BYTES) == 0;
}

static bool rows_fit(struct span p, uint32_t rows)
{
    uint64_t fixed = 8 + (uint64_t)rows * 20 + 4;

    return p.len >= fixed && bytes_get_le32(p.bytes) == rows &&
           bytes_get_le32(p.bytes + fixed - 4) == p.len - fixed;
}

int chunk_check(struct span v, const struct shard *s, uint64_t id, enum block_kind kind,
                uint32_t rows, bool check_sum, struct span *out_payload, struct err *e)
{
    unsigned char expected[CHUNK_HEADER_BYTES];
    struct span p;

    if (v.len < CHUNK_HEADER_BYTES || memcmp(v.bytes, magic, sizeof magic) != 0)
        return damage(s, id, kind, "is not a block", e);
    fill_header(expected, s, id, kind, rows);
    if (check_sum && !sum_is_right(v))
        return damage(s, id, kind, "the checksum is wrong", e);
    if (memcmp(v.bytes, expected, AT_HASH) != 0)
        return damage(s, id, kind, "the block belongs elsewhere", e);
    p = (struct span){v.bytes + CHUNK_HEADER_BYTES, v.len - CHUNK_HEADER_BYTES};
    if (kind == BLOCK_ENCODINGS && p.len != rows * s->corpus.row_bytes)
        return damage(s, id, kind, "the length is wrong", e);
    if (kind == BLOCK_ROWS && !rows_fit(p, rows))
        return damage(s, id, kind, "the table of rows does not fit", e);
    *out_payload = p;
    return 0;
}
