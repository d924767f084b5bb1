/* repair.c - repair_store of maintain.h: drops what is damaged, makes again what follows from the
 * rest, and names what was lost. For a store that nobody else has open.
 *
 * A walk by verify notes what is damaged (storage/damage.h). Then, corpus by corpus: chunks whose
 * table of rows is gone leave the ledger with all ids that led there; ids and rows are made to
 * agree; rows whose encodings are wrong are taken down like any other; and a compaction rewrites
 * every shard that held something damaged. Each step is one ledger transaction or a chain of them,
 * so a repair that is cut off is simply run again.
 */
#include <stdlib.h>
#include <string.h>

#include "storage/annex_record.h"
#include "storage/base/mem.h"
#include "storage/catalog.h"
#include "storage/chunk.h"
#include "storage/commit.h"
#include "storage/damage.h"
#include "storage/maintain.h"
#include "storage/snapshot.h"

struct repair {
    struct store *s;
    struct corpus *c;
    repair_lost *lost;
    void *arg;
    struct repair_report *report;
    struct err *e;
};

/* Ids that are to go. */
struct ids {
    struct arena arena;
    struct view_damage_id *list;
    size_t count, cap;
};

static bool add_id(void *arg, const char *id, size_t len)
{
    struct ids *ids = arg;

    if (ids->count == ids->cap) {
        size_t cap = ids->cap ? ids->cap * 2 : 64;
        struct view_damage_id *grown = mem_new(cap, sizeof *grown);

        if (ids->count)
            memcpy(grown, ids->list, ids->count * sizeof *grown);
        free(ids->list);
        ids->list = grown;
        ids->cap = cap;
    }
    ids->list[ids->count++] = (struct view_damage_id){arena_copy(&ids->arena, id, len), len};
    return true;
}

static void ids_free(struct ids *ids)
{
    arena_free(&ids->arena);
    free(ids->list);
    *ids = (struct ids){0};
}

static void tell(struct repair *r, const struct ids *ids, const char *what, uint64_t *count)
{
    for (size_t i = 0; i < ids->count; i++)
        if (r->lost)
            r->lost(r->arg, r->c->def.name, ids->list[i].id, ids->list[i].len, what);
    *count += ids->count;
}

/* A record found damaged on the way is what is being mended: the transaction itself is whole. */
static void forgive(struct txn *t)
{
    if (t->err.code == ERR_CORRUPT)
        err_clear(&t->err);
}

static int commit(struct repair *r, struct txn *t)
{
    forgive(t);
    return txn_commit(t, r->e);
}

static void begin(struct repair *r, struct txn *t)
{
    txn_begin_write(t, &r->s->ledger);
}

/* ---- Chunks that nothing can be read of ------------------------------------------------------ */

static bool is_lost(const struct view_chunk *c)
{
    return shard_damage(c->shard, c->id).lost;
}

static size_t drop_tombstones(struct txn *t, uint32_t corpus, const struct view_chunk *c)
{
    struct key prefix = key_u32(corpus), from = key_u32_u64(corpus, c->first_sequence);
    struct span key, value;
    struct cursor at;
    size_t count = 0;
    bool more;

    cursor_open(&at, t, LEDGER_TOMBSTONES);
    for (more = cursor_seek(&at, &from, &key, &value);
         more && span_starts(key, prefix.bytes, prefix.len) && key.len == 12 &&
         bytes_get_be64(key.bytes + 4) <= c->last_sequence;
         more = cursor_next(&at, &key, &value)) {
        cursor_delete(&at);
        count++;
    }
    cursor_close(&at);
    return count;
}

static bool keeps_a_chunk(const struct view *v, const struct shard *s)
{
    for (size_t i = 0; i < v->chunk_count; i++)
        if (v->chunks[i].shard == s && !is_lost(&v->chunks[i])) {
            shard_doubt(v->chunks[i].shard, v->chunks[i].id); /* the compaction takes the shard */
            return true;
        }
    return false;
}

static void drop_shard(struct repair *r, struct txn *t, struct shard *s)
{
    ledger_delete_shard(t, s->id);
    atomic_store(&s->doomed, true);
    if (r->c->active == s) {
        shard_release(s);
        r->c->active = NULL;
    }
}

/* The ledger forgets the lost chunks; `kept` gets the others. */
static int forget_lost(struct repair *r, const struct view *v, const struct ids *ids,
                       struct ledger_counts *counts, struct view_chunk *kept, size_t *kept_count)
{
    struct shard *last = NULL;
    struct txn t;

    begin(r, &t);
    for (size_t i = 0; i < v->chunk_count; i++) {
        const struct view_chunk *c = &v->chunks[i];

        if (!is_lost(c)) {
            kept[(*kept_count)++] = *c;
            continue;
        }
        counts->tombstones -= drop_tombstones(&t, r->c->id, c);
        ledger_delete_chunk(&t, r->c->id, c->id);
        if (c->shard != last && !keeps_a_chunk(v, c->shard))
            drop_shard(r, &t, c->shard);
        last = c->shard;
        r->report->chunks++;
    }
    for (size_t i = 0; i < ids->count; i++)
        (void)ledger_delete_id(&t, r->c->id, ids->list[i].id, ids->list[i].len);
    counts->examples -= ids->count;
    ledger_put_counts(&t, r->c->id, counts);
    return commit(r, &t);
}

static int drop_chunks(struct repair *r)
{
    const struct view *v = corpus_view(r->c);
    struct view_chunk *kept = mem_new(v->chunk_count, sizeof *kept);
    struct ledger_counts counts = r->c->counts;
    size_t lost = 0, kept_count = 0;
    struct ids ids = {0};
    int rc = 0;

    for (size_t i = 0; i < v->chunk_count; i++)
        if (is_lost(&v->chunks[i])) {
            damage_name(&v->chunks[i], r->c, NULL, add_id, &ids);
            lost++;
        }
    if (lost)
        rc = forget_lost(r, v, &ids, &counts, kept, &kept_count);
    if (lost && rc == 0) {
        catalog_publish(r->c, snapshot_new(r->c, kept, kept_count), &counts, r->c->bytes);
        tell(r, &ids, "example", &r->report->examples);
    }
    ids_free(&ids);
    free(kept);
    view_release(v);
    return rc;
}

/* ---- Ids and rows that do not agree ---------------------------------------------------------- */

/* Every live row is named by its id. */
static int relink_chunk(struct repair *r, struct txn *t, const struct view_chunk *c)
{
    struct block rows;

    if (c->dead_count == c->rows)
        return 0;
    if (block_open(c, BLOCK_ROWS, &rows, r->e))
        return (int)r->e->code;
    for (uint32_t i = 0; i < c->rows; i++) {
        size_t len;
        const char *id = block_row_id(&rows, i, &len);
        uint64_t sequence;

        if (view_row_dead(c, i) || len == 0 || len > CORPUS_ID_MAX)
            continue;
        if (!ledger_get_id(t, r->c->id, id, len, &sequence)) {
            forgive(t);
            ledger_put_id(t, r->c->id, id, len, block_row_sequence(&rows, i));
            r->report->records++;
        }
    }
    block_close(&rows);
    return 0;
}

/* Records whose key nobody needs and whose value nobody can read; ids that lead nowhere. */
static void find_dangling(struct repair *r, struct txn *t, const struct view *v, struct ids *out)
{
    struct key prefix = key_u32(r->c->id);
    struct err ignored = ERR_INIT;
    struct ledger_walk w;
    struct span key, value;
    uint64_t sequence;
    size_t chunk;
    uint32_t row;

    ledger_walk_begin(&w, t, LEDGER_IDS, &prefix);
    w.lenient = true;
    while (ledger_walk_next(&w, &key, &value))
        if (w.damaged || !ledger_parse_u64(value, &sequence) ||
            !view_locate(v, sequence, &chunk, &row, &ignored))
            (void)add_id(out, (const char *)key.bytes + 4, key.len - 4);
    ledger_walk_end(&w);
}

static void find_batches(struct repair *r, struct txn *t, struct ids *out, uint64_t *all)
{
    struct key prefix = key_u32(r->c->id);
    struct ledger_batch b;
    struct ledger_walk w;
    struct span key, value;

    ledger_walk_begin(&w, t, LEDGER_BATCHES, &prefix);
    w.lenient = true;
    for (*all = 0; ledger_walk_next(&w, &key, &value); ++*all)
        if (w.damaged || !ledger_parse_batch(value, &b))
            (void)add_id(out, (const char *)key.bytes + 4, key.len - 4);
    ledger_walk_end(&w);
}

static uint64_t count_records(struct repair *r, struct txn *t, enum ledger_table table)
{
    struct key prefix = key_u32(r->c->id);
    struct ledger_walk w;
    struct span key, value;
    uint64_t count = 0;

    ledger_walk_begin(&w, t, table, &prefix);
    w.lenient = true;
    while (ledger_walk_next(&w, &key, &value))
        count++;
    ledger_walk_end(&w);
    return count;
}

static int relink(struct repair *r)
{
    const struct view *v = corpus_view(r->c);
    struct ledger_counts counts = r->c->counts;
    struct ids dangling = {0}, batches = {0};
    struct txn t;
    int rc = 0;

    begin(r, &t);
    for (size_t i = 0; rc == 0 && i < v->chunk_count; i++)
        rc = relink_chunk(r, &t, &v->chunks[i]);
    find_dangling(r, &t, v, &dangling);
    for (size_t i = 0; i < dangling.count; i++)
        (void)ledger_delete_id(&t, r->c->id, dangling.list[i].id, dangling.list[i].len);
    find_batches(r, &t, &batches, &counts.batches);
    for (size_t i = 0; i < batches.count; i++) {
        struct key k = key_u32_bytes(r->c->id, batches.list[i].id, batches.list[i].len);

        (void)ledger_delete(&t, LEDGER_BATCHES, &k);
    }
    counts.batches -= batches.count;
    counts.tombstones = count_records(r, &t, LEDGER_TOMBSTONES);
    counts.examples = v->live;
    ledger_put_counts(&t, r->c->id, &counts);
    if (rc)
        txn_abort(&t);
    else
        rc = commit(r, &t);
    if (rc == 0) {
        catalog_publish(r->c, snapshot_new(r->c, v->chunks, v->chunk_count), &counts, r->c->bytes);
        tell(r, &dangling, "example", &r->report->examples);
        tell(r, &batches, "batch", &r->report->batches);
    }
    ids_free(&dangling);
    ids_free(&batches);
    view_release(v);
    return rc;
}

/* ---- Rows and texts -------------------------------------------------------------------------- */

static int drop_rows(struct repair *r)
{
    const struct view *v = corpus_view(r->c);
    struct ids rows = {0}, texts = {0};
    int rc = 0;

    for (size_t i = 0; i < v->chunk_count; i++) {
        struct shard_damage d = shard_damage(v->chunks[i].shard, v->chunks[i].id);

        if (d.bad)
            damage_name(&v->chunks[i], r->c, d.bad, add_id, &rows);
        if (d.textless)
            damage_name(&v->chunks[i], r->c, NULL, add_id, &texts);
    }
    for (size_t i = 0; rc == 0 && i < rows.count; i++)
        rc = commit_delete(r->c, rows.list[i].id, rows.list[i].len, r->e);
    if (rc == 0) {
        tell(r, &rows, "example", &r->report->examples);
        tell(r, &texts, "texts", &r->report->texts);
    }
    ids_free(&rows);
    ids_free(&texts);
    view_release(v);
    return rc;
}

/* ---- Records of no corpus, and those that stand twice ---------------------------------------- */

static void find_damaged(struct txn *t, enum ledger_table table, struct ids *out)
{
    struct ledger_walk w;
    struct span key, value;

    ledger_walk_begin(&w, t, table, NULL);
    w.lenient = true;
    while (ledger_walk_next(&w, &key, &value))
        if (w.damaged)
            (void)add_id(out, (const char *)key.bytes, key.len);
    ledger_walk_end(&w);
}

/* What opening could not make again goes; what stands twice is written twice. */
static int mend_records(struct repair *r, struct corpus *const *list, size_t count)
{
    static const enum ledger_table tables[] = {LEDGER_META, LEDGER_RECORDS};
    struct ids gone = {0};
    struct txn t;

    begin(r, &t);
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        find_damaged(&t, tables[i], &gone);
        for (size_t n = 0; n < gone.count; n++) {
            struct key k = key_bytes(gone.list[n].id, gone.list[n].len);

            (void)ledger_delete(&t, tables[i], &k);
        }
        r->report->records += gone.count;
        ids_free(&gone);
    }
    ledger_put_meta(&t, &r->s->meta);
    for (size_t i = 0; i < count; i++) {
        const struct corpus *c = list[i];

        ledger_put_corpus(&t, c->id, &c->def);
        if (c->state)
            annex_record_put(&t, c->id, c->state);
        for (size_t n = 0; n < c->annex_count; n++)
            annex_record_put(&t, c->id, c->annexes[n]);
    }
    return commit(r, &t);
}

/* ---- All ------------------------------------------------------------------------------------- */

static int mend(struct repair *r, const struct maintain_progress *p)
{
    int rc = drop_chunks(r);

    if (rc == 0)
        rc = relink(r);
    if (rc == 0)
        rc = drop_rows(r);
    return rc ? rc : compact_mend(r->c, p, r->e);
}

static bool is_sound(const struct verify_report *v)
{
    return !v->damaged_blocks && !v->damaged_ids && !v->ledger_faults;
}

int repair_store(struct store *s, repair_lost *lost, void *arg,
                 void (*finding)(void *arg, const char *line), const struct maintain_progress *p,
                 struct repair_report *out, struct err *e)
{
    struct verify_report before = {0};
    struct corpus **list;
    size_t count;
    int rc = catalog_may_write(s, e);

    *out = (struct repair_report){.records = store_healed(s)};
    if (rc == 0)
        rc = verify_store(s, NULL, NULL, p, &before, e);
    if (rc)
        return rc;
    count = store_corpus_list(s, &list);
    if (rc == 0 && !is_sound(&before))
        rc = mend_records(&(struct repair){.s = s, .report = out, .e = e}, list, count);
    for (size_t i = 0; i < count; i++) {
        struct repair r = {s, list[i], lost, arg, out, e};

        if (rc == 0 && !is_sound(&before))
            rc = mend(&r, p);
        corpus_release(list[i]);
    }
    free(list);
    if (rc == 0)
        rc = verify_store(s, finding, arg, p, &out->after, e);
    return rc;
}
