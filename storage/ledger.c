/* ledger.c - see ledger.h. */
#include "storage/ledger.h"

#include <stdlib.h>
#include <string.h>

#include "storage/base/mem.h"
#include "storage/base/plant.h"
#include "storage/coder.h"

const char *const ledger_names[LEDGER_TABLES] = {
    [LEDGER_META] = "meta",     [LEDGER_CORPORA] = "corpora", [LEDGER_COUNTS] = "counts",
    [LEDGER_BATCHES] = "batches", [LEDGER_IDS] = "ids",       [LEDGER_CHUNKS] = "chunks",
    [LEDGER_TOMBSTONES] = "tombstones", [LEDGER_SHARDS] = "shards", [LEDGER_RECORDS] = "records",
    [LEDGER_DROPPED] = "dropped",
};

enum { CHECK_BYTES = 4 };

/* Address space, not disk. 64 GiB holds some 600 million examples and is small enough for
 * sanitizers and for `ulimit -v` users; a ledger that is half full gets twice its size at the next
 * open. */
#define LEDGER_MAP_BYTES (UINT64_C(64) << 30)

int ledger_open(struct db *db, const char *dir, bool read_only, struct db_latch *latch,
                struct err *e)
{
    char *data = fs_join(dir, "data.mdb");
    uint64_t map = LEDGER_MAP_BYTES;
    struct db_options o = {.tables = ledger_names, .table_count = LEDGER_TABLES};

    while (map / 2 < fs_size(data))
        map *= 2;
    free(data);
    o.map_bytes = map;
    o.read_only = read_only;
    return db_open(db, dir, &o, latch, e);
}

/* ---- Any record ------------------------------------------------------------------------------ */

void ledger_put(struct txn *t, enum ledger_table table, const struct key *k, const void *value,
                size_t len)
{
    unsigned char *room = txn_reserve(t, table, k, len + CHECK_BYTES);

    if (!room)
        return;
    if (len)
        memcpy(room, value, len);
    bytes_put_le32(room + len, hash_record(table, k->bytes, k->len, value, len));
}

static bool record_is_sound(enum ledger_table table, struct span key, struct span *value)
{
    size_t len;

    if (value->len < CHECK_BYTES)
        return false;
    len = value->len - CHECK_BYTES;
    if (bytes_get_le32(value->bytes + len) !=
            hash_record(table, key.bytes, key.len, value->bytes, len) &&
        !planted(RECORD_UNCHECKED))
        return false;
    value->len = len;
    return true;
}

static void damaged(struct txn *t, enum ledger_table table, struct span key)
{
    struct err e = ERR_INIT;
    char hex[2 * 24 + 1];

    bytes_hex(key.bytes, key.len < 24 ? key.len : 24, hex);
    (void)err_set(&e, ERR_CORRUPT, "%s: table %s: the record of key %s is damaged", t->db->dir,
                  ledger_names[table], hex);
    txn_fail(t, &e);
}

bool ledger_get(struct txn *t, enum ledger_table table, const struct key *k, struct span *out)
{
    struct span key = {k->bytes, k->len}, value;

    if (!txn_get(t, table, k, &value))
        return false;
    if (!record_is_sound(table, key, &value)) {
        damaged(t, table, key);
        return false;
    }
    *out = value;
    return true;
}

bool ledger_delete(struct txn *t, enum ledger_table table, const struct key *k)
{
    return txn_delete(t, table, k);
}

/* No other key of `meta` begins like that. */
static struct key second_key(enum ledger_table table, const struct key *k)
{
    struct key second = {.bytes = {'2', (unsigned char)table}, .len = 2 + k->len};

    require(second.len <= KEY_MAX);
    memcpy(second.bytes + 2, k->bytes, k->len);
    return second;
}

void ledger_put_twice(struct txn *t, enum ledger_table table, const struct key *k,
                      const void *value, size_t len)
{
    struct key second = second_key(table, k);

    ledger_put(t, table, k, value, len);
    ledger_put(t, LEDGER_META, &second, value, len);
}

bool ledger_get_second(struct txn *t, enum ledger_table table, const struct key *k,
                       struct span *out)
{
    struct key second = second_key(table, k);
    bool found = t->err.code == ERR_OK && ledger_get(t, LEDGER_META, &second, out);

    if (!found && t->err.code == ERR_CORRUPT)
        err_clear(&t->err);
    return found;
}

void ledger_delete_twice(struct txn *t, enum ledger_table table, const struct key *k)
{
    struct key second = second_key(table, k);

    (void)txn_delete(t, table, k);
    (void)txn_delete(t, LEDGER_META, &second);
}

void ledger_walk_begin(struct ledger_walk *w, struct txn *t, enum ledger_table table,
                       const struct key *prefix)
{
    *w = (struct ledger_walk){.table = table};
    if (prefix)
        w->prefix = w->start = *prefix;
    cursor_open(&w->cursor, t, table);
}

void ledger_walk_after(struct ledger_walk *w, const struct key *k)
{
    w->start = *k;
    w->start.bytes[w->start.len++] = 0; /* no key lies between k and k with a zero behind it */
}

bool ledger_walk_next(struct ledger_walk *w, struct span *out_key, struct span *out_value)
{
    struct span key, value;
    bool found = w->started ? cursor_next(&w->cursor, &key, &value)
                            : cursor_seek(&w->cursor, &w->start, &key, &value);

    w->started = true;
    if (!found || !span_starts(key, w->prefix.bytes, w->prefix.len))
        return false;
    w->damaged = !record_is_sound(w->table, key, &value);
    if (w->damaged && !w->lenient) {
        damaged(w->cursor.txn, w->table, key);
        return false;
    }
    if (w->damaged)
        value.len = 0;
    *out_key = key;
    *out_value = value;
    return true;
}

void ledger_walk_end(struct ledger_walk *w)
{
    cursor_close(&w->cursor);
}

/* A record whose check is right but whose length is not was written by something else. */
static bool shaped(struct txn *t, enum ledger_table table, const struct key *k, bool fits)
{
    if (!fits)
        damaged(t, table, (struct span){k->bytes, k->len});
    return fits;
}

/* ---- Meta ------------------------------------------------------------------------------------ */

enum { META_BYTES = 24 };

bool ledger_get_meta(struct txn *t, struct ledger_meta *out)
{
    struct key k = key_text("state");
    struct span v;

    if (!ledger_get(t, LEDGER_META, &k, &v) || !shaped(t, LEDGER_META, &k, v.len == META_BYTES))
        return false;
    out->format = bytes_get_le32(v.bytes);
    out->next_corpus = bytes_get_le32(v.bytes + 4);
    out->next_shard = bytes_get_le32(v.bytes + 8);
    out->next_chunk = bytes_get_le64(v.bytes + 16);
    return true;
}

void ledger_put_meta(struct txn *t, const struct ledger_meta *m)
{
    struct key k = key_text("state");
    unsigned char v[META_BYTES] = {0};

    bytes_put_le32(v, m->format);
    bytes_put_le32(v + 4, m->next_corpus);
    bytes_put_le32(v + 8, m->next_shard);
    bytes_put_le64(v + 16, m->next_chunk);
    ledger_put(t, LEDGER_META, &k, v, sizeof v);
}

void ledger_raise_format(struct ledger_meta *m, uint32_t format)
{
    if (m->format < format)
        m->format = format;
}

/* ---- Corpora --------------------------------------------------------------------------------- */

enum { CORPUS_HEAD = 4 + 4 + STORE_FINGERPRINT_BYTES + 1 };

void ledger_put_corpus(struct txn *t, uint32_t corpus, const struct corpus_def *def)
{
    struct key k = key_u32(corpus);
    unsigned char head[CORPUS_HEAD];
    struct buf v = {0};

    bytes_put_le32(head, def->dim);
    bytes_put_le32(head + 4, def->dtype);
    memcpy(head + 8, def->fingerprint, STORE_FINGERPRINT_BYTES);
    head[CORPUS_HEAD - 1] = (unsigned char)strlen(def->name);
    buf_add(&v, head, sizeof head);
    buf_add_text(&v, def->name);
    buf_add_text(&v, def->manifest);
    if (v.failed) {
        struct err e = ERR_INIT;

        (void)err_set(&e, ERR_BUSY, "no memory for the manifest");
        txn_fail(t, &e);
    } else {
        ledger_put_twice(t, LEDGER_CORPORA, &k, v.data, v.len);
    }
    buf_free(&v);
}

bool ledger_parse_corpus(struct span v, struct corpus_def *out, struct span *out_manifest)
{
    size_t name_len;

    if (v.len < CORPUS_HEAD)
        return false;
    name_len = v.bytes[CORPUS_HEAD - 1];
    if (name_len > STORE_NAME_MAX || v.len < CORPUS_HEAD + name_len)
        return false;
    *out = (struct corpus_def){.dim = bytes_get_le32(v.bytes),
                               .dtype = bytes_get_le32(v.bytes + 4)};
    memcpy(out->fingerprint, v.bytes + 8, STORE_FINGERPRINT_BYTES);
    memcpy(out->name, v.bytes + CORPUS_HEAD, name_len);
    *out_manifest = (struct span){v.bytes + CORPUS_HEAD + name_len, v.len - CORPUS_HEAD - name_len};
    return true;
}

enum { COUNTS_BYTES = 32 };

bool ledger_get_counts(struct txn *t, uint32_t corpus, struct ledger_counts *out)
{
    struct key k = key_u32(corpus);
    struct span v;

    if (!ledger_get(t, LEDGER_COUNTS, &k, &v) ||
        !shaped(t, LEDGER_COUNTS, &k, v.len == COUNTS_BYTES))
        return false;
    out->next_sequence = bytes_get_le64(v.bytes);
    out->examples = bytes_get_le64(v.bytes + 8);
    out->tombstones = bytes_get_le64(v.bytes + 16);
    out->batches = bytes_get_le64(v.bytes + 24);
    return true;
}

void ledger_put_counts(struct txn *t, uint32_t corpus, const struct ledger_counts *c)
{
    struct key k = key_u32(corpus);
    unsigned char v[COUNTS_BYTES];

    bytes_put_le64(v, c->next_sequence);
    bytes_put_le64(v + 8, c->examples);
    bytes_put_le64(v + 16, c->tombstones);
    bytes_put_le64(v + 24, c->batches);
    ledger_put(t, LEDGER_COUNTS, &k, v, sizeof v);
}

/* ---- Batches and ids ------------------------------------------------------------------------- */

enum { BATCH_BYTES = HASH_BYTES + 24 };

bool ledger_parse_batch(struct span v, struct ledger_batch *out)
{
    if (v.len != BATCH_BYTES)
        return false;
    memcpy(out->content_hash, v.bytes, HASH_BYTES);
    out->examples_new = bytes_get_le64(v.bytes + HASH_BYTES);
    out->duplicates = bytes_get_le64(v.bytes + HASH_BYTES + 8);
    out->sequence = bytes_get_le64(v.bytes + HASH_BYTES + 16);
    return true;
}

bool ledger_get_batch(struct txn *t, uint32_t corpus, const char *name, struct ledger_batch *out)
{
    struct key k = key_u32_bytes(corpus, name, strlen(name));
    struct span v;

    return ledger_get(t, LEDGER_BATCHES, &k, &v) &&
           shaped(t, LEDGER_BATCHES, &k, ledger_parse_batch(v, out));
}

void ledger_put_batch(struct txn *t, uint32_t corpus, const char *name,
                      const struct ledger_batch *b)
{
    struct key k = key_u32_bytes(corpus, name, strlen(name));
    unsigned char v[BATCH_BYTES];

    memcpy(v, b->content_hash, HASH_BYTES);
    bytes_put_le64(v + HASH_BYTES, b->examples_new);
    bytes_put_le64(v + HASH_BYTES + 8, b->duplicates);
    bytes_put_le64(v + HASH_BYTES + 16, b->sequence);
    ledger_put(t, LEDGER_BATCHES, &k, v, sizeof v);
}

bool ledger_parse_u64(struct span v, uint64_t *out)
{
    if (v.len != 8)
        return false;
    *out = bytes_get_le64(v.bytes);
    return true;
}

bool ledger_get_id(struct txn *t, uint32_t corpus, const char *id, size_t len, uint64_t *out)
{
    struct key k = key_u32_bytes(corpus, id, len);
    struct span v;

    return ledger_get(t, LEDGER_IDS, &k, &v) &&
           shaped(t, LEDGER_IDS, &k, ledger_parse_u64(v, out));
}

void ledger_put_id(struct txn *t, uint32_t corpus, const char *id, size_t len, uint64_t sequence)
{
    struct key k = key_u32_bytes(corpus, id, len);
    unsigned char v[8];

    bytes_put_le64(v, sequence);
    ledger_put(t, LEDGER_IDS, &k, v, sizeof v);
}

bool ledger_delete_id(struct txn *t, uint32_t corpus, const char *id, size_t len)
{
    struct key k = key_u32_bytes(corpus, id, len);

    return txn_delete(t, LEDGER_IDS, &k);
}

/* ---- Chunks, tombstones, shards -------------------------------------------------------------- */

/* A chunk of formats 1 and 2 says nothing of codes and sums: it has none. */
enum { CHUNK_OLD_BYTES = 32, CHUNK_BYTES = 40, CHUNK_SUMMED = 1 };
enum { TOMBSTONE_BYTES = 12, SHARD_BYTES = 8 };

void ledger_put_chunk(struct txn *t, uint32_t corpus, const struct ledger_chunk *c)
{
    struct key k = key_u32_u64(corpus, c->id);
    unsigned char v[CHUNK_BYTES];

    bytes_put_le32(v, c->shard);
    bytes_put_le32(v + 4, c->rows);
    bytes_put_le64(v + 8, c->first_sequence);
    bytes_put_le64(v + 16, c->last_sequence);
    bytes_put_le64(v + 24, c->bytes);
    bytes_put_le32(v + 32, c->code_version);
    bytes_put_le32(v + 36, c->summed ? CHUNK_SUMMED : 0);
    ledger_put(t, LEDGER_CHUNKS, &k, v, sizeof v);
}

void ledger_delete_chunk(struct txn *t, uint32_t corpus, uint64_t chunk)
{
    struct key k = key_u32_u64(corpus, chunk);

    (void)txn_delete(t, LEDGER_CHUNKS, &k);
}

bool ledger_parse_chunk(struct span key, struct span v, struct ledger_chunk *out)
{
    if (key.len != 12 || (v.len != CHUNK_BYTES && v.len != CHUNK_OLD_BYTES))
        return false;
    *out = (struct ledger_chunk){
        .id = bytes_get_be64(key.bytes + 4),
        .shard = bytes_get_le32(v.bytes),
        .rows = bytes_get_le32(v.bytes + 4),
        .first_sequence = bytes_get_le64(v.bytes + 8),
        .last_sequence = bytes_get_le64(v.bytes + 16),
        .bytes = bytes_get_le64(v.bytes + 24),
    };
    if (v.len == CHUNK_BYTES) {
        out->code_version = bytes_get_le32(v.bytes + 32);
        out->summed = bytes_get_le32(v.bytes + 36) & CHUNK_SUMMED;
    }
    return out->rows > 0 && out->code_version <= CODER_VERSION_MAX &&
           out->first_sequence <= out->last_sequence &&
           out->last_sequence - out->first_sequence >= out->rows - 1;
}

void ledger_put_tombstone(struct txn *t, uint32_t corpus, const struct ledger_tombstone *d)
{
    struct key k = key_u32_u64(corpus, d->sequence);
    unsigned char v[TOMBSTONE_BYTES];

    bytes_put_le64(v, d->chunk);
    bytes_put_le32(v + 8, d->row);
    ledger_put(t, LEDGER_TOMBSTONES, &k, v, sizeof v);
}

void ledger_delete_tombstone(struct txn *t, uint32_t corpus, uint64_t sequence)
{
    struct key k = key_u32_u64(corpus, sequence);

    (void)txn_delete(t, LEDGER_TOMBSTONES, &k);
}

bool ledger_parse_tombstone(struct span key, struct span v, struct ledger_tombstone *out)
{
    if (key.len != 12 || v.len != TOMBSTONE_BYTES)
        return false;
    out->sequence = bytes_get_be64(key.bytes + 4);
    out->chunk = bytes_get_le64(v.bytes);
    out->row = bytes_get_le32(v.bytes + 8);
    return true;
}

void ledger_put_shard(struct txn *t, const struct ledger_shard *s)
{
    struct key k = key_u32(s->id);
    unsigned char v[SHARD_BYTES];

    bytes_put_le32(v, s->corpus);
    bytes_put_le32(v + 4, s->state);
    ledger_put(t, LEDGER_SHARDS, &k, v, sizeof v);
}

void ledger_delete_shard(struct txn *t, uint32_t shard)
{
    struct key k = key_u32(shard);

    (void)txn_delete(t, LEDGER_SHARDS, &k);
}

bool ledger_parse_shard(struct span key, struct span v, struct ledger_shard *out)
{
    if (key.len != 4 || v.len != SHARD_BYTES)
        return false;
    out->id = bytes_get_be32(key.bytes);
    out->corpus = bytes_get_le32(v.bytes);
    out->state = bytes_get_le32(v.bytes + 4);
    return out->state == LEDGER_SHARD_ACTIVE || out->state == LEDGER_SHARD_SEALED;
}

/* ---- Removal of a dropped corpus ------------------------------------------------------------- */

static size_t purge_table(struct txn *t, enum ledger_table table, const struct key *prefix,
                          size_t limit)
{
    struct cursor c;
    struct span k, v;
    size_t count = 0;
    bool more;

    cursor_open(&c, t, table);
    for (more = cursor_seek(&c, prefix, &k, &v);
         more && count < limit && span_starts(k, prefix->bytes, prefix->len);
         more = cursor_next(&c, &k, &v)) {
        cursor_delete(&c);
        count++;
    }
    cursor_close(&c);
    return count;
}

bool ledger_purge(struct txn *t, uint32_t corpus, size_t limit)
{
    static const enum ledger_table tables[] = {LEDGER_COUNTS, LEDGER_BATCHES, LEDGER_IDS,
                                               LEDGER_CHUNKS, LEDGER_TOMBSTONES};
    struct key prefix = key_u32(corpus);

    for (size_t i = 0; i < sizeof tables / sizeof tables[0] && limit > 0; i++)
        limit -= purge_table(t, tables[i], &prefix, limit);
    if (limit == 0 || t->err.code != ERR_OK)
        return false;
    (void)txn_delete(t, LEDGER_DROPPED, &prefix);
    return true;
}
