/* commit.c - see commit.h. Chunks, then the ledger, then the views, then the answer. */
#include "storage/commit.h"

#include <stdlib.h>
#include <string.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/base/plant.h"
#include "storage/catalog.h"
#include "storage/chunk.h"
#include "storage/define.h"
#include "storage/group.h"
#include "storage/snapshot.h"
#include "storage/writer.h"

/* What the ledger may grow by in one commit: a leaf page for every id, at worst. */
#define LEDGER_ROOM_MIN (UINT64_C(1) << 20)
#define LEDGER_ROOM_MAX (UINT64_C(64) << 20)

/* ---- First: chunks into shards, durable ------------------------------------------------------ */

static int write_corpus(struct store *s, struct group_corpus *gc, uint64_t *next_chunk,
                        uint32_t *next_shard, struct err *e)
{
    struct corpus *c = gc->corpus;
    size_t done = 0;
    int rc = 0;

    writer_begin(&gc->writer, &s->home, &c->shape, c->active, *next_chunk, *next_shard, false);
    while (rc == 0 && done < gc->row_count) {
        uint32_t n = chunk_cut(gc->rows + done, gc->row_count - done, c->shape.row_bytes,
                               s->chunk_bytes);

        rc = writer_add(&gc->writer, gc->rows + done, n, e);
        done += n;
    }
    if (rc == 0)
        rc = writer_finish(&gc->writer, e);
    *next_chunk = gc->writer.next_chunk;
    *next_shard = gc->writer.next_shard;
    return rc;
}

/* ---- Second: the ledger ---------------------------------------------------------------------- */

static void record_shards(struct txn *t, const struct group_corpus *gc)
{
    const struct writer *w = &gc->writer;
    struct ledger_shard r = {.corpus = gc->corpus->id, .state = LEDGER_SHARD_SEALED};

    if (w->given && w->given != writer_last(w)) {
        r.id = w->given->id;
        ledger_put_shard(t, &r);
    }
    for (size_t i = 0; i < w->made_count; i++) {
        r.id = w->made[i]->id;
        if (w->made[i] == writer_last(w))
            r.state = LEDGER_SHARD_ACTIVE;
        ledger_put_shard(t, &r);
    }
}

static void record_corpus(struct txn *t, const struct group_corpus *gc)
{
    uint32_t id = gc->corpus->id;

    record_shards(t, gc);
    for (size_t i = 0; i < gc->writer.chunk_count; i++)
        ledger_put_chunk(t, id, &gc->writer.chunks[i].record);
    for (size_t i = 0; i < gc->row_count; i++)
        ledger_put_id(t, id, gc->rows[i].id, gc->rows[i].id_len, gc->rows[i].sequence);
    ledger_put_counts(t, id, &gc->counts);
}

static int record_group(struct store *s, const struct group *g, const struct ledger_meta *meta,
                        struct err *e)
{
    uint64_t room = LEDGER_ROOM_MIN;
    struct txn t;

    for (size_t i = 0; i < g->corpus_count; i++)
        room += g->corpora[i].row_count * UINT64_C(4096);
    if (db_make_room(&s->ledger, room < LEDGER_ROOM_MAX ? room : LEDGER_ROOM_MAX, e))
        return (int)e->code;
    txn_begin_write(&t, &s->ledger);
    for (size_t i = 0; i < g->corpus_count; i++)
        record_corpus(&t, &g->corpora[i]);
    for (size_t i = 0; i < g->batch_count; i++)
        if (g->batches[i].is_new)
            ledger_put_batch(&t, g->batches[i].batch->corpus->id, g->batches[i].batch->name,
                             &g->batches[i].record);
    ledger_put_meta(&t, meta);
    if (planted(ACKED_EARLY))
        return txn_abort(&t), 0;
    return txn_commit(&t, e);
}

/* ---- Third: what readers see ----------------------------------------------------------------- */

static void publish(struct group_corpus *gc)
{
    struct corpus *c = gc->corpus;
    struct writer *w = &gc->writer;
    struct view_chunk *added = mem_new(w->chunk_count, sizeof *added);
    uint64_t bytes = c->bytes;

    for (size_t i = 0; i < w->chunk_count; i++) {
        added[i] = writer_view_chunk(&w->chunks[i]);
        bytes += w->chunks[i].record.bytes;
    }
    if (w->given && w->given != writer_last(w))
        atomic_store(&w->given->sealed, true);
    for (size_t i = 0; i < w->made_count; i++)
        if (w->made[i] != writer_last(w))
            atomic_store(&w->made[i]->sealed, true);
    if (writer_last(w) != c->active) {
        shard_retain(writer_last(w));
        shard_release(c->active);
        c->active = writer_last(w);
    }
    catalog_publish(c, snapshot_append(c->view, added, w->chunk_count), &gc->counts, bytes);
    free(added);
}

static void answer_batches(const struct group *g)
{
    for (size_t i = 0; i < g->batch_count; i++) {
        struct commit_batch *b = g->batches[i].batch;

        if (!g->batches[i].is_new)
            continue;
        b->examples_new = g->batches[i].record.examples_new;
        b->duplicates = g->batches[i].record.duplicates;
        b->sequence = g->batches[i].record.sequence;
    }
}

/* ---- All of it ------------------------------------------------------------------------------- */

static int write_group(struct store *s, struct group *g, struct err *e)
{
    struct ledger_meta meta = s->meta;
    size_t started = 0;
    int rc = 0;

    ledger_raise_format(&meta, LEDGER_FORMAT_CODES);
    while (rc == 0 && started < g->corpus_count) {
        rc = write_corpus(s, &g->corpora[started], &meta.next_chunk, &meta.next_shard, e);
        started++;
    }
    for (size_t i = 0; rc == 0 && planted(PUBLISHED_EARLY) && i < g->corpus_count; i++)
        publish(&g->corpora[i]);
    if (rc == 0)
        rc = record_group(s, g, &meta, e);
    if (rc) {
        for (size_t i = 0; i < started; i++)
            writer_abandon(&g->corpora[i].writer);
        return rc;
    }
    s->meta = meta;
    for (size_t i = 0; i < g->corpus_count; i++) {
        if (!planted(PUBLISHED_EARLY))
            publish(&g->corpora[i]);
        writer_keep(&g->corpora[i].writer);
    }
    return 0;
}

int commit_group(struct store *s, struct commit_batch *const *batches, size_t count, struct err *e)
{
    struct group g = {0};
    int rc = catalog_may_write(s, e);

    if (rc == 0)
        rc = group_plan(&g, s, batches, count, e);
    if (rc == 0 && g.corpus_count > 0)
        rc = write_group(s, &g, e);
    if (rc == 0)
        answer_batches(&g);
    for (size_t i = 0; rc != 0 && i < count; i++) {
        batches[i]->err = *e;
        batches[i]->already = false;
        batches[i]->examples_new = batches[i]->duplicates = batches[i]->sequence = 0;
    }
    group_free(&g);
    if (rc == 0)
        define_purge_step(s);
    return rc;
}

/* ---- Takedown -------------------------------------------------------------------------------- */

static int record_delete(struct corpus *c, const char *id, size_t id_len,
                         const struct ledger_tombstone *d, const struct ledger_counts *counts,
                         struct err *e)
{
    struct txn t;

    if (db_make_room(&c->store->ledger, LEDGER_ROOM_MIN, e))
        return (int)e->code;
    txn_begin_write(&t, &c->store->ledger);
    (void)ledger_delete_id(&t, c->id, id, id_len);
    if (!planted(DELETE_FORGOTTEN))
        ledger_put_tombstone(&t, c->id, d);
    ledger_put_counts(&t, c->id, counts);
    return txn_commit(&t, e);
}

int commit_delete(struct corpus *c, const char *id, size_t id_len, struct err *e)
{
    struct ledger_counts counts = c->counts;
    struct ledger_tombstone d = {0};
    struct err why = ERR_INIT;
    size_t chunk;

    if (catalog_may_write(c->store, e) || corpus_find_id(c, id, id_len, &d.sequence, e))
        return (int)e->code;
    if (!view_locate(c->view, d.sequence, &chunk, &d.row, &why)) {
        if (why.code == ERR_OK)
            (void)err_set(&why, ERR_CORRUPT,
                          "corpus %s: the ledger names sequence %llu, no chunk holds it",
                          c->def.name, (unsigned long long)d.sequence);
        *e = why;
        return (int)e->code;
    }
    d.chunk = c->view->chunks[chunk].id;
    counts.examples--;
    counts.tombstones++;
    if (record_delete(c, id, id_len, &d, &counts, e))
        return (int)e->code;
    catalog_publish(c, snapshot_kill(c->view, chunk, d.row), &counts, c->bytes);
    return 0;
}
