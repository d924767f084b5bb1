/* chunk.c - see chunk.h. Writing and checking of blocks; reading is storage/block.c. */
#include "storage/chunk.h"

#include <stdlib.h>
#include <string.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/base/plant.h"
#include "storage/hash.h"
#include "storage/text.h"

/* Header, little-endian: docs/format.md. */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_KIND = 5,
    AT_DTYPE = 6,
    AT_CODE = 7,
    AT_CORPUS = 8,
    AT_SHARD = 12,
    AT_CHUNK = 16,
    AT_ROWS = 24,
    AT_DIM = 28,
    AT_HASH = 32,
    VERSION = 1,
    PAGE = 4096,
    SUM_BYTES = 8,
    HASH_STEP = 128 << 10, /* copied, then hashed while it is in the cache */
};
static const unsigned char magic[4] = {'a', 's', 'c', 'b'};
_Static_assert(AT_HASH + HASH_BYTES == CHUNK_HEADER_BYTES, "the checksum ends the header");

const enum block_kind chunk_kinds[CHUNK_KINDS] = {BLOCK_ENCODINGS, BLOCK_ROWS, BLOCK_TEXTS,
                                                  BLOCK_SUMS,      BLOCK_BITS, BLOCK_SIX,
                                                  BLOCK_LOW,       BLOCK_FACTORS};
enum { FIRST_CODE = 4 }; /* of chunk_kinds: planes in the coder's order, then factors */
_Static_assert(FIRST_CODE + CODER_PLANES + 1 == CHUNK_KINDS, "a kind for each plane");

const char *chunk_kind_name(enum block_kind kind)
{
    static const char *const names[CHUNK_KINDS] = {"encodings",   "rows",      "texts",
                                                   "row sums",    "codes (1 bit)", "codes (6 bits)",
                                                   "codes (2 bits)", "factors of codes"};

    return names[chunk_kind_bit(kind)];
}

unsigned chunk_kind_bit(enum block_kind kind)
{
    unsigned i = 0;

    while (chunk_kinds[i] != kind)
        require(++i < CHUNK_KINDS);
    return i;
}

bool chunk_kind_is_code(enum block_kind kind, unsigned *out_plane)
{
    unsigned i = chunk_kind_bit(kind);

    if (i < FIRST_CODE)
        return false;
    *out_plane = i - FIRST_CODE;
    return true;
}

enum block_kind chunk_plane_kind(unsigned plane)
{
    require(plane <= CODER_PLANES);
    return chunk_kinds[FIRST_CODE + plane];
}

bool chunk_has(const struct view_chunk *c, enum block_kind kind)
{
    unsigned plane;

    if (kind == BLOCK_SUMS)
        return c->summed;
    return chunk_kind_is_code(kind, &plane) ? c->code_version != 0 : true;
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
uint64_t chunk_stored_bytes(uint64_t payload)
{
    return (payload + CHUNK_HEADER_BYTES + 16 + PAGE - 1) / PAGE * PAGE;
}

static bool all_coded(const struct chunk *c)
{
    for (uint32_t i = 0; i < c->count; i++)
        if (!c->rows[i].codes || c->rows[i].codes->shape.version != c->corpus->codes.version)
            return false;
    return true;
}

/* Rows that came without codes: all of the chunk's are made here. */
static int make_codes(struct chunk *c, struct err *e)
{
    const struct shard_corpus *k = c->corpus;
    const void **rows = mem_big(c->count, sizeof *rows);
    size_t bytes;
    int rc;

    if (coder_bytes(&k->codes, c->count, &bytes))
        c->code_memory = mem_big(bytes, 1);
    if (!rows || !c->code_memory) {
        free(rows);
        return err_set(e, ERR_BUSY, "no memory for the codes of %u rows", (unsigned)c->count);
    }
    c->made = coder_layout(&k->codes, c->count, c->code_memory);
    for (uint32_t i = 0; i < c->count; i++)
        rows[i] = c->rows[i].encoding;
    rc = k->coder->encode(k->coder->arg, k->dim, (enum dtype)k->dtype, rows, 0, c->count, &c->made,
                          e);
    free(rows);
    return rc;
}

static void add_up(struct chunk *c)
{
    c->bytes = chunk_stored_bytes((uint64_t)c->count * c->corpus->row_bytes) +
               chunk_stored_bytes(c->row_block.len) + chunk_stored_bytes(c->text_block.len) +
               chunk_stored_bytes((uint64_t)c->count * SUM_BYTES);
    for (unsigned p = 0; c->corpus->codes.version && p <= CODER_PLANES; p++)
        c->bytes += chunk_stored_bytes(coder_plane_bytes(&c->corpus->codes, p, c->count));
}

int chunk_build(struct chunk *c, const struct shard_corpus *corpus, const struct chunk_row *rows,
                uint32_t count, struct err *e)
{
    *c = (struct chunk){.corpus = corpus, .rows = rows, .count = count};
    build_rows(&c->row_block, rows, count);
    c->sums = mem_big(count, SUM_BYTES);
    if (c->row_block.failed || !c->sums)
        return err_set(e, ERR_BUSY, "no memory for the table of %u rows", (unsigned)count);
    if (text_build(rows, count, &c->text_block, e))
        return (int)e->code;
    if (corpus->codes.version && !all_coded(c) && make_codes(c, e))
        return (int)e->code;
    add_up(c);
    return 0;
}

void chunk_free(struct chunk *c)
{
    buf_free(&c->row_block);
    buf_free(&c->text_block);
    free(c->sums);
    free(c->code_memory);
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

static void fill_header(unsigned char *h, const struct shard_corpus *k, uint32_t shard, uint64_t id,
                        enum block_kind kind, uint32_t rows, uint32_t code_version)
{
    unsigned plane;

    memset(h, 0, CHUNK_HEADER_BYTES);
    memcpy(h + AT_MAGIC, magic, sizeof magic);
    h[AT_VERSION] = VERSION;
    h[AT_KIND] = (unsigned char)kind;
    h[AT_DTYPE] = (unsigned char)k->dtype;
    if (chunk_kind_is_code(kind, &plane))
        h[AT_CODE] = (unsigned char)code_version;
    bytes_put_le32(h + AT_CORPUS, k->id);
    bytes_put_le32(h + AT_SHARD, shard);
    bytes_put_le64(h + AT_CHUNK, id);
    bytes_put_le32(h + AT_ROWS, rows);
    bytes_put_le32(h + AT_DIM, k->dim);
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

uint64_t chunk_row_sum(uint64_t chunk, uint32_t row, const void *encoding, size_t row_bytes)
{
    return XXH3_64bits_withSeed(encoding, row_bytes, chunk * CHUNK_ROWS_MAX + row);
}

/* Row by row: each is summed, and hashed with its neighbours, while it is in the cache. */
static void copy_encodings(struct hash *h, unsigned char *to, const struct chunk *c, uint64_t id)
{
    size_t row_bytes = c->corpus->row_bytes, pending = 0;

    for (uint32_t i = 0; i < c->count; i++) {
        memcpy(to, c->rows[i].encoding, row_bytes);
        bytes_put_le64(c->sums + (size_t)i * SUM_BYTES, chunk_row_sum(id, i, to, row_bytes));
        to += row_bytes;
        pending += row_bytes;
        if (pending >= HASH_STEP || i + 1 == c->count) {
            hash_add(h, to - pending, pending);
            pending = 0;
        }
    }
}

/* Number code_row of the codes a row came with, or the row's own number in those made here. */
static const struct codes *codes_of(const struct chunk *c, uint32_t row, uint32_t *out_at)
{
    *out_at = c->code_memory ? row : c->rows[row].code_row;
    return c->code_memory ? &c->made : c->rows[row].codes;
}

/* How many rows from `row` on have their codes side by side. */
static uint32_t code_run(const struct chunk *c, uint32_t row, uint32_t at, const struct codes *from)
{
    uint32_t run = 1, next;

    while (row + run < c->count && codes_of(c, row + run, &next) == from && next == at + run)
        run++;
    return run;
}

static void copy_codes(struct hash *h, unsigned char *to, const struct chunk *c, unsigned plane)
{
    size_t each = c->corpus->codes.plane_bytes[plane];

    for (uint32_t i = 0, at, run; i < c->count; i += run) {
        const struct codes *from = codes_of(c, i, &at);

        run = code_run(c, i, at, from);
        copy_hashed(h, to, from->plane[plane] + at * each, run * each);
        to += run * each;
    }
}

static void copy_factors(struct hash *h, unsigned char *to, const struct chunk *c)
{
    for (uint32_t k = 0; k < c->corpus->codes.factors; k++)
        for (uint32_t i = 0, at, run; i < c->count; i += run) {
            const struct codes *from = codes_of(c, i, &at);
            const float *array = from->factors + (size_t)k * from->count;

            run = code_run(c, i, at, from);
            copy_hashed(h, to, (const unsigned char *)(array + at), run * sizeof *array);
            to += run * sizeof *array;
        }
}

static size_t payload_bytes(const struct chunk *c, enum block_kind kind)
{
    unsigned plane;

    if (chunk_kind_is_code(kind, &plane))
        return coder_plane_bytes(&c->corpus->codes, plane, c->count);
    if (kind == BLOCK_ENCODINGS)
        return c->count * c->corpus->row_bytes;
    if (kind == BLOCK_SUMS)
        return (size_t)c->count * SUM_BYTES;
    return kind == BLOCK_ROWS ? c->row_block.len : c->text_block.len;
}

static void put_block(struct chunk *c, struct txn *t, const struct shard *s, uint64_t id,
                      enum block_kind kind)
{
    size_t len = payload_bytes(c, kind);
    struct key k = key_block(id, (unsigned char)kind);
    unsigned char *room = txn_reserve(t, 0, &k, CHUNK_HEADER_BYTES + len), *to;
    unsigned plane;
    struct hash h;

    if (!room)
        return;
    to = room + CHUNK_HEADER_BYTES;
    fill_header(room, c->corpus, s->id, id, kind, c->count, c->corpus->codes.version);
    hash_begin(&h);
    hash_add(&h, room, AT_HASH);
    if (kind == BLOCK_ENCODINGS)
        copy_encodings(&h, to, c, id);
    else if (kind == BLOCK_SUMS)
        copy_hashed(&h, to, c->sums, len);
    else if (!chunk_kind_is_code(kind, &plane))
        copy_hashed(&h, to, kind == BLOCK_ROWS ? c->row_block.data : c->text_block.data, len);
    else if (plane < CODER_PLANES)
        copy_codes(&h, to, c, plane);
    else
        copy_factors(&h, to, c);
    hash_end(&h, room + AT_HASH);
}

/* Encodings before their sums, which are made on the way. */
void chunk_put(struct chunk *c, struct txn *t, const struct shard *s, uint64_t id)
{
    unsigned kinds = c->corpus->codes.version ? CHUNK_KINDS : FIRST_CODE;

    for (unsigned i = 0; i < kinds; i++)
        put_block(c, t, s, id, chunk_kinds[i]);
}

/* ---- Check ----------------------------------------------------------------------------------- */

static int damage(const struct view_chunk *c, enum block_kind kind, const char *what, struct err *e)
{
    return err_set(e, ERR_CORRUPT, "corpus %s: shard %06u: chunk %llu: %s: %s",
                   c->shard->corpus.name, (unsigned)c->shard->id, (unsigned long long)c->id,
                   chunk_kind_name(kind), what);
}

bool chunk_sum_is_right(struct span value)
{
    unsigned char sum[HASH_BYTES];
    struct hash h;

    if (value.len < CHUNK_HEADER_BYTES)
        return false;
    hash_begin(&h);
    hash_add(&h, value.bytes, AT_HASH);
    hash_add(&h, value.bytes + CHUNK_HEADER_BYTES, value.len - CHUNK_HEADER_BYTES);
    hash_end(&h, sum);
    return planted(SUM_UNCHECKED) || memcmp(sum, value.bytes + AT_HASH, HASH_BYTES) == 0;
}

static bool rows_fit(struct span p, uint32_t rows)
{
    uint64_t fixed = 8 + (uint64_t)rows * 20 + 4;

    return p.len >= fixed && bytes_get_le32(p.bytes) == rows &&
           bytes_get_le32(p.bytes + fixed - 4) == p.len - fixed;
}

bool chunk_belongs(struct span v, const struct shard *s, uint64_t id, enum block_kind kind)
{
    unsigned char expected[CHUNK_HEADER_BYTES];
    uint32_t rows = v.len < CHUNK_HEADER_BYTES ? 0 : bytes_get_le32(v.bytes + AT_ROWS);
    struct span p = {v.bytes + CHUNK_HEADER_BYTES, v.len - CHUNK_HEADER_BYTES};

    if (rows == 0 || rows > CHUNK_ROWS_MAX)
        return false;
    fill_header(expected, &s->corpus, s->id, id, kind, rows, 0);
    return memcmp(v.bytes, expected, AT_HASH) == 0 && (kind != BLOCK_ROWS || rows_fit(p, rows));
}

/* What only a program that makes these codes can say of their length, and it alone reads them. */
static bool length_fits(const struct view_chunk *c, enum block_kind kind, size_t len)
{
    const struct shard_corpus *k = &c->shard->corpus;
    unsigned plane;

    if (chunk_kind_is_code(kind, &plane))
        return !c->coded || len == coder_plane_bytes(&k->codes, plane, c->rows);
    if (kind == BLOCK_ENCODINGS)
        return len == c->rows * k->row_bytes;
    return kind != BLOCK_SUMS || len == (size_t)c->rows * SUM_BYTES;
}

int chunk_check(struct span v, const struct view_chunk *c, enum block_kind kind, bool check_sum,
                struct span *out_payload, struct err *e)
{
    unsigned char expected[CHUNK_HEADER_BYTES];
    struct span p;

    if (v.len < CHUNK_HEADER_BYTES || memcmp(v.bytes, magic, sizeof magic) != 0)
        return damage(c, kind, "is not a block", e);
    fill_header(expected, &c->shard->corpus, c->shard->id, c->id, kind, c->rows, c->code_version);
    if (check_sum && !chunk_sum_is_right(v))
        return damage(c, kind, "the checksum is wrong", e);
    if (memcmp(v.bytes, expected, AT_HASH) != 0 && !planted(PLACE_UNCHECKED))
        return damage(c, kind, "the block belongs elsewhere", e);
    p = (struct span){v.bytes + CHUNK_HEADER_BYTES, v.len - CHUNK_HEADER_BYTES};
    if (!length_fits(c, kind, p.len))
        return damage(c, kind, "the length is wrong", e);
    if (kind == BLOCK_ROWS && !rows_fit(p, c->rows))
        return damage(c, kind, "the table of rows does not fit", e);
    *out_payload = p;
    return 0;
}
