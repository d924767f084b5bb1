/* verify_chunk.c - see verify_part.h: every checksum, row, id and text of one chunk, and its codes.
 * What was deleted since the view was taken is asked about again before it counts as a fault. */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "storage/catalog.h"
#include "storage/chunk.h"
#include "storage/damage.h"
#include "storage/text.h"
#include "storage/verify_codes.h"
#include "storage/verify_part.h"
#include "storage/warm.h"

enum { PATIENCE_MS = 50 }; /* between a ledger commit and its view lie microseconds */

/* Names an example that a damaged block holds. */
struct naming {
    struct check *k;
    const char *what;
    uint64_t count;
};

static bool name_one(void *arg, const char *id, size_t len)
{
    struct naming *n = arg;

    n->count++;
    verify_say(n->k, "corpus %s: example \"%.*s\": its %s are damaged", verify_name(n->k), (int)len,
               id, n->what);
    return true;
}

/* Was the row deleted since the view was taken? A takedown is in the ledger a moment before it is
 * in the latest view; so a row that still seems live is asked about again for a while. */
static bool died_meanwhile(struct check *k, uint64_t sequence)
{
    struct err ignored = ERR_INIT;
    bool is_live = true;

    for (int i = 0; is_live && i < PATIENCE_MS; i++) {
        const struct view *now = corpus_view(k->corpus);
        size_t chunk;
        uint32_t row;

        is_live = view_locate(now, sequence, &chunk, &row, &ignored);
        view_release(now);
        if (is_live)
            usleep(1000);
    }
    return !is_live;
}

/* A live row's id must lead back to the row. */
static void check_id(struct check *k, struct txn *t, const struct view_chunk *c, uint32_t row,
                     const struct block *rows)
{
    uint64_t expected = block_row_sequence(rows, row), sequence = 0;
    size_t len;
    const char *id = block_row_id(rows, row, &len);

    if (len > 0 && len <= CORPUS_ID_MAX && ledger_get_id(t, k->corpus->id, id, len, &sequence) &&
        sequence == expected)
        return;
    if (t->err.code != ERR_OK && t->err.code != ERR_CORRUPT)
        return; /* it was not read: check_rows says so */
    if (!died_meanwhile(k, expected))
        ledger_fault(k, "corpus %s: chunk %llu: id \"%.*s\" of sequence %llu is not in the ledger",
                     verify_name(k), (unsigned long long)c->id, (int)len, id,
                     (unsigned long long)expected);
}

static int check_rows(struct check *k, const struct view_chunk *c, const struct block *rows,
                      struct err *e)
{
    uint64_t last = c->first_sequence;
    struct txn t;

    if (block_row_sequence(rows, 0) != c->first_sequence ||
        block_row_sequence(rows, c->rows - 1) != c->last_sequence)
        ledger_fault(k, "corpus %s: chunk %llu: its sequences are not those of the ledger",
                     verify_name(k), (unsigned long long)c->id);
    txn_begin_read(&t, &k->s->ledger);
    for (uint32_t r = 0; r < c->rows; r++) {
        uint64_t sequence = block_row_sequence(rows, r);

        if ((r > 0 && sequence <= last) || !isfinite(block_row_norm(rows, r)))
            ledger_fault(k, "corpus %s: chunk %llu: row %u has a wrong sequence or norm",
                         verify_name(k), (unsigned long long)c->id, (unsigned)r);
        last = sequence;
        if (!view_row_dead(c, r))
            check_id(k, &t, c, r, rows);
    }
    txn_abort(&t);
    k->report.rows += c->rows;
    k->report.examples += c->rows - c->dead_count;
    if (t.err.code == ERR_OK || t.err.code == ERR_CORRUPT)
        return 0;
    *e = t.err;
    return (int)e->code;
}

static int check_texts(struct check *k, const struct view_chunk *c, const struct block *texts,
                       struct err *e)
{
    struct text_reader r;
    int rc = text_reader_open(&r, texts->bytes, texts->len, c->rows, e);

    for (uint32_t row = 0; rc == 0 && row < c->rows; row++) {
        const char *text, *meta;
        size_t text_len, meta_len;

        rc = text_reader_row(&r, row, &text, &text_len, &meta, &meta_len, e);
        k->report.texts += rc == 0 && text != NULL;
    }
    if (r.bytes)
        text_reader_close(&r);
    if (rc)
        err_wrap(e, "corpus %s: shard %06u: chunk %llu: texts: ", verify_name(k),
                 (unsigned)c->shard->id, (unsigned long long)c->id);
    return rc;
}

/* Reads a block with its checksum, whether it was seen before or not. `cold`: it was not in
 * memory. */
static int open_checked(const struct view_chunk *c, enum block_kind kind, struct block *out,
                        struct err *e)
{
    bool cold = false;

    struct key key = key_block(c->id, (unsigned char)kind);
    struct span value, payload;
    struct txn t;
    int rc;

    shard_begin_read(c->shard, &t);
    if (txn_get(&t, 0, &key, &value)) {
        cold = !warm_is(value.bytes, value.len);
        warm_range(value.bytes, value.len);
        rc = chunk_check(value, c, kind, true, &payload, e);
    } else {
        *e = t.err;
        if (e->code == ERR_OK)
            (void)err_set(e, ERR_CORRUPT,
                          "corpus %s: shard %06u: chunk %llu: %s: the block is missing",
                          c->shard->corpus.name, (unsigned)c->shard->id, (unsigned long long)c->id,
                          chunk_kind_name(kind));
        value = (struct span){0};
        rc = (int)e->code;
    }
    if (rc == ERR_CORRUPT) {
        struct err known = *e; /* readers shall know of it; here it is told in any case */

        (void)damage_met(c, kind, &t, value, &payload, &known);
    }
    if (rc) {
        txn_abort(&t);
        return rc;
    }
    *out = (struct block){
        .bytes = payload.bytes, .len = payload.len, .cold = cold, .txn = t.handle};
    return 0;
}

/* One chunk under check: the blocks that were sound stay open until its end. */
struct sound {
    struct block block[CHUNK_KINDS];
    bool is[CHUNK_KINDS];
    uint64_t counted; /* of its examples, among the damaged */
};

static void report_damage(struct check *k, const struct view_chunk *c, struct sound *s,
                          enum block_kind kind, const struct err *e)
{
    struct naming n = {.k = k, .what = chunk_kind_name(kind)};
    unsigned plane;

    k->report.damaged_blocks++;
    verify_say(k, "%s (%u examples, sequences %llu to %llu)", e->text,
               (unsigned)(c->rows - c->dead_count), (unsigned long long)c->first_sequence,
               (unsigned long long)c->last_sequence);
    if (kind == BLOCK_SUMS)
        shard_sums_doubt(c->shard, c->id);
    else if (chunk_kind_is_code(kind, &plane))
        shard_codes_doubt(c->shard, c->id);
    if (kind == BLOCK_SUMS || chunk_kind_is_code(kind, &plane)) /* no example is lost with it */
        return;
    damage_name(c, k->corpus,
                kind == BLOCK_ENCODINGS ? shard_damage(c->shard, c->id).bad : NULL, name_one, &n);
    if (n.count > s->counted) {
        k->report.damaged_ids += n.count - s->counted;
        s->counted = n.count;
    }
}

static int check_block(struct check *k, const struct view_chunk *c, struct sound *s,
                       enum block_kind kind, struct err *e)
{
    unsigned bit = chunk_kind_bit(kind);
    int rc = open_checked(c, kind, &s->block[bit], e);

    s->is[bit] = rc == 0;
    if (rc == 0 && kind == BLOCK_ROWS)
        rc = check_rows(k, c, &s->block[bit], e);
    if (rc == 0 && kind == BLOCK_TEXTS)
        rc = check_texts(k, c, &s->block[bit], e);
    return rc;
}

/* Sound blocks against each other: what is made from the encodings must be what they give. */
static int check_derived(struct check *k, const struct view_chunk *c, struct sound *s)
{
    unsigned encodings = chunk_kind_bit(BLOCK_ENCODINGS), sums = chunk_kind_bit(BLOCK_SUMS);
    unsigned bits = chunk_kind_bit(BLOCK_BITS);
    bool can_code = c->coded && c->shard->corpus.coder;
    struct err e = ERR_INIT;
    int rc = 0;

    for (unsigned p = 0; p <= CODER_PLANES; p++)
        can_code = can_code && s->is[bits + p];
    if (s->is[encodings] && s->is[sums] &&
        verify_sums(c, &s->block[encodings], &s->block[sums], &e))
        report_damage(k, c, s, BLOCK_SUMS, &e);
    if (s->is[encodings] && can_code)
        rc = verify_codes(c, &s->block[encodings], &s->block[bits], &e);
    if (rc == ERR_CORRUPT)
        report_damage(k, c, s, BLOCK_BITS, &e);
    else if (rc)
        *k->e = e;
    return rc == ERR_CORRUPT ? 0 : rc;
}

int verify_chunk(struct check *k, const struct view_chunk *c)
{
    static const enum block_kind order[CHUNK_KINDS] = {
        BLOCK_ROWS, BLOCK_TEXTS, BLOCK_ENCODINGS, BLOCK_SUMS,
        BLOCK_BITS, BLOCK_SIX,   BLOCK_LOW,       BLOCK_FACTORS};
    struct sound s = {0};
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < CHUNK_KINDS; i++) {
        struct err e = ERR_INIT;

        if (chunk_has(c, order[i]))
            rc = check_block(k, c, &s, order[i], &e);
        if (rc == ERR_CORRUPT)
            report_damage(k, c, &s, order[i], &e);
        else if (rc)
            *k->e = e;
        rc = rc == ERR_CORRUPT ? 0 : rc;
    }
    if (rc == 0)
        rc = check_derived(k, c, &s);
    for (unsigned i = 0; i < CHUNK_KINDS; i++)
        if (s.block[i].txn) {
            if (k->gentle && s.block[i].cold)
                warm_cool(s.block[i].bytes, s.block[i].len);
            block_close(&s.block[i]);
        }
    k->report.chunks += rc == 0;
    return rc;
}
