/* compact.c - compact_corpus of maintain.h: rewrites shards without their dead rows, joins small
 * chunks, and swaps in one ledger transaction.
 *
 * Three acts. On the lane: choose the shards, seal the active one if it is among them, reserve ids.
 * Beside everything: copy the live rows into new shards that nothing names yet. On the lane: swap;
 * rows deleted meanwhile are dead in the new chunks as well. Whatever happens before the swap's
 * commit leaves the store as it was. Readers keep the views they hold, and those their shards.
 */
#include <stdlib.h>
#include <string.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/catalog.h"
#include "storage/chunk.h"
#include "storage/maintain.h"
#include "storage/snapshot.h"
#include "storage/text.h"
#include "storage/writer.h"

struct compact {
    struct corpus *c;
    struct store *s;
    const struct view *from; /* what is rewritten is what this view shows */
    bool *taken;             /* per chunk of the view */
    size_t taken_count;
    uint64_t taken_bytes, done_bytes;
    struct writer writer;
    bool writing;
    const struct maintain_progress *progress;
};

/* ---- First act: choose ----------------------------------------------------------------------- */

/* Two neighbours of one shard that would fit into one chunk. */
static bool is_joinable(const struct compact *k, size_t i)
{
    const struct view_chunk *a = &k->from->chunks[i], *b = a + 1;
    uint64_t rows = (uint64_t)a->rows + b->rows;

    return a->shard == b->shard && rows <= CHUNK_ROWS_MAX &&
           rows * k->c->shape.row_bytes <= k->s->chunk_bytes;
}

/* A shard is rewritten whole or not at all. */
static void take_shards(struct compact *k)
{
    const struct view *v = k->from;
    size_t first = 0;

    for (size_t i = 0; i < v->chunk_count; i++) {
        bool wanted = v->chunks[i].dead_count > 0 || (i + 1 < v->chunk_count && is_joinable(k, i));

        if (!wanted || k->taken[i])
            continue;
        for (first = 0; first < v->chunk_count; first++)
            if (v->chunks[first].shard == v->chunks[i].shard)
                k->taken[first] = true;
    }
    for (size_t i = 0; i < v->chunk_count; i++)
        if (k->taken[i]) {
            k->taken_count++;
            k->taken_bytes += v->chunks[i].rows * k->c->shape.row_bytes;
        }
}

static bool active_is_taken(const struct compact *k)
{
    for (size_t i = 0; i < k->from->chunk_count; i++)
        if (k->taken[i] && k->from->chunks[i].shard == k->c->active)
            return true;
    return false;
}

/* Two new shards in a row hold more than one old one; texts compress to about what they were. */
static uint32_t shards_needed(const struct compact *k)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < k->from->chunk_count; i++)
        if (k->taken[i] && (i == 0 || k->from->chunks[i - 1].shard != k->from->chunks[i].shard))
            bytes += shard_file_bytes(k->from->chunks[i].shard);
    return (uint32_t)(4 * bytes / k->s->home.shard_bytes + k->taken_count + 8);
}

static int choose(void *arg, struct err *e)
{
    struct compact *k = arg;
    struct corpus *c = k->c;
    struct ledger_meta meta = k->s->meta;
    struct txn t;
    bool seal;

    if (catalog_may_write(k->s, e))
        return (int)e->code;
    k->from = corpus_view(c);
    k->taken = mem_new(k->from->chunk_count, sizeof *k->taken);
    take_shards(k);
    if (k->taken_count == 0)
        return 0;
    seal = active_is_taken(k);
    writer_begin(&k->writer, &k->s->home, &c->shape, NULL, meta.next_chunk, meta.next_shard, true);
    k->writing = true;
    meta.next_chunk += k->from->rows; /* a chunk has a row at least; ids are 64 bits wide */
    meta.next_shard += shards_needed(k);
    k->writer.shard_limit = meta.next_shard;
    txn_begin_write(&t, &k->s->ledger);
    ledger_put_meta(&t, &meta);
    if (seal)
        ledger_put_shard(&t, &(struct ledger_shard){c->active->id, c->id, LEDGER_SHARD_SEALED});
    if (txn_commit(&t, e))
        return (int)e->code;
    k->s->meta = meta;
    if (seal) {
        atomic_store(&c->active->sealed, true);
        shard_release(c->active);
        c->active = NULL;
    }
    return 0;
}

/* ---- Second act: copy ------------------------------------------------------------------------ */

/* Rows that wait until they fill a chunk. Every source chunk's rows are copied into an arena of its
 * own: no transaction stays open while the next is written. */
struct source {
    struct arena arena;
    size_t left; /* of its rows */
};

struct pending {
    struct chunk_row *rows;
    size_t count, cap;
    struct source *sources; /* in order; the first may be half used */
    size_t source_count, source_cap;
};

static int no_memory(struct err *e)
{
    return err_set(e, ERR_BUSY, "no memory to compact with");
}

static const char *keep(struct arena *a, const void *from, size_t len, bool *failed)
{
    char *copy = arena_big(a, len ? len : 1, 1);

    if (!copy)
        *failed = true;
    else if (len)
        memcpy(copy, from, len);
    return copy;
}

static int read_row(const struct view_chunk *c, uint32_t row, const struct block *rows,
                    const unsigned char *encodings, struct text_reader *texts, struct arena *a,
                    struct chunk_row *out, struct err *e)
{
    size_t row_bytes = c->shard->corpus.row_bytes, id_len, text_len, meta_len;
    const char *text, *meta, *id = block_row_id(rows, row, &id_len);
    bool failed = false;

    if (text_reader_row(texts, row, &text, &text_len, &meta, &meta_len, e))
        return (int)e->code;
    *out = (struct chunk_row){
        .sequence = block_row_sequence(rows, row),
        .norm = block_row_norm(rows, row),
        .encoding = encodings + row * row_bytes,
        .id = keep(a, id, id_len, &failed),
        .id_len = (uint32_t)id_len,
        .text = text ? keep(a, text, text_len, &failed) : NULL,
        .text_len = (uint32_t)text_len,
        .meta = meta ? keep(a, meta, meta_len, &failed) : NULL,
        .meta_len = (uint32_t)meta_len,
    };
    return failed ? no_memory(e) : 0;
}

static int reserve(struct pending *p, size_t rows, struct err *e)
{
    if (p->count + rows > p->cap) {
        size_t cap = p->count + rows > p->cap * 2 ? p->count + rows : p->cap * 2;
        struct chunk_row *grown = realloc(p->rows, cap * sizeof *grown);

        if (!grown)
            return no_memory(e);
        p->rows = grown;
        p->cap = cap;
    }
    if (p->source_count == p->source_cap) {
        size_t cap = p->source_cap ? p->source_cap * 2 : 16;
        struct source *grown = realloc(p->sources, cap * sizeof *grown);

        if (!grown)
            return no_memory(e);
        p->sources = grown;
        p->source_cap = cap;
    }
    return 0;
}

static int read_live(struct pending *p, const struct view_chunk *c, struct source *src,
                     const struct block *rows, const struct block *encodings,
                     struct text_reader *texts, struct err *e)
{
    unsigned char *copy = arena_big(&src->arena, encodings->len, 1);
    int rc = copy ? 0 : no_memory(e);

    if (rc == 0)
        memcpy(copy, encodings->bytes, encodings->len);
    for (uint32_t r = 0; rc == 0 && r < c->rows; r++) {
        if (view_row_dead(c, r))
            continue;
        rc = read_row(c, r, rows, copy, texts, &src->arena, &p->rows[p->count], e);
        if (rc == 0) {
            p->count++;
            src->left++;
        }
    }
    return rc;
}

static int read_chunk(struct pending *p, const struct view_chunk *c, struct err *e)
{
    struct block rows = {0}, texts = {0}, encodings = {0};
    struct text_reader reader = {0};
    struct source *src;
    int rc = reserve(p, c->rows, e);

    if (rc)
        return rc;
    src = &p->sources[p->source_count++];
    *src = (struct source){0};
    rc = block_open(c, BLOCK_ROWS, &rows, e);
    if (rc == 0)
        rc = block_open(c, BLOCK_TEXTS, &texts, e);
    if (rc == 0)
        rc = block_open(c, BLOCK_ENCODINGS, &encodings, e);
    if (rc == 0)
        rc = text_reader_open(&reader, texts.bytes, texts.len, c->rows, e);
    if (rc == 0)
        rc = read_live(p, c, src, &rows, &encodings, &reader, e);
    text_reader_close(&reader);
    block_close(&encodings);
    block_close(&texts);
    block_close(&rows);
    return rc;
}

/* Forgets the first `count` rows and the memory of sources that have none left. */
static void consume(struct pending *p, size_t count)
{
    size_t done = 0;

    memmove(p->rows, p->rows + count, (p->count - count) * sizeof *p->rows);
    p->count -= count;
    while (done < p->source_count && p->sources[done].left <= count) {
        count -= p->sources[done].left;
        arena_free(&p->sources[done++].arena);
    }
    if (done < p->source_count)
        p->sources[done].left -= count;
    memmove(p->sources, p->sources + done, (p->source_count - done) * sizeof *p->sources);
    p->source_count -= done;
}

/* Writes full chunks; at the end of a run of neighbours also what is left. */
static int flush(struct compact *k, struct pending *p, bool all, struct err *e)
{
    while (p->count > 0) {
        uint32_t n = chunk_cut(p->rows, p->count, k->c->shape.row_bytes, k->s->chunk_bytes);

        if (n == p->count && !all)
            return 0;
        if (writer_add(&k->writer, p->rows, n, e))
            return (int)e->code;
        consume(p, n);
    }
    return 0;
}

static int advance(struct compact *k, size_t i, struct err *e)
{
    const struct maintain_progress *p = k->progress;

    k->done_bytes += k->from->chunks[i].rows * k->c->shape.row_bytes;
    if (atomic_load(&k->c->dropped))
        return err_set(e, ERR_UNKNOWN_CORPUS, "corpus %s was dropped meanwhile", k->c->def.name);
    if (p && p->report && !p->report(p->arg, k->done_bytes, k->taken_bytes))
        return err_set(e, ERR_CANCELLED, "compaction of corpus %s was cancelled", k->c->def.name);
    return 0;
}

static int copy_rows(struct compact *k, struct err *e)
{
    const struct view *v = k->from;
    struct pending p = {0};
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < v->chunk_count; i++) {
        if (!k->taken[i])
            continue;
        rc = read_chunk(&p, &v->chunks[i], e);
        if (rc == 0) /* chunks must not overlap: nothing is joined across one that stays */
            rc = flush(k, &p, i + 1 == v->chunk_count || !k->taken[i + 1], e);
        if (rc == 0)
            rc = advance(k, i, e);
    }
    if (rc == 0)
        rc = writer_finish(&k->writer, e);
    for (size_t i = 0; i < p.source_count; i++)
        arena_free(&p.sources[i].arena);
    free(p.sources);
    free(p.rows);
    return rc;
}

/* ---- Third act: swap ------------------------------------------------------------------------- */

struct swap {
    struct compact *k;
    struct view *to; /* the new view, in the making: ours alone */
    struct ledger_counts counts;
    struct txn txn;
    uint64_t bytes;
};

/* The latest view's chunks, with the taken ones replaced by what was written for them. Nothing else
 * removes chunks, and commits append: so the latest view starts with the chunks of ours. */
static struct view *build_view(struct compact *k)
{
    const struct view *now = k->c->view, *from = k->from;
    const struct writer *w = &k->writer;
    struct view_chunk *all = mem_new(now->chunk_count + w->chunk_count, sizeof *all);
    struct view *made;
    size_t count = 0, next = 0;

    for (size_t i = 0; i < now->chunk_count; i++) {
        const struct view_chunk *c = &now->chunks[i];

        if (i < from->chunk_count) {
            require(c->id == from->chunks[i].id);
            if (k->taken[i])
                continue;
        }
        while (next < w->chunk_count && w->chunks[next].record.first_sequence < c->first_sequence)
            all[count++] = writer_view_chunk(&w->chunks[next++]);
        all[count++] = *c;
    }
    while (next < w->chunk_count)
        all[count++] = writer_view_chunk(&w->chunks[next++]);
    made = snapshot_new(k->c, all, count);
    free(all);
    return made;
}

/* A row that died while its chunk was being copied is dead in the new place too. */
static int carry_tombstone(struct swap *x, uint64_t sequence, struct err *e)
{
    struct ledger_tombstone d = {.sequence = sequence};
    struct err why = ERR_INIT;
    struct view *next;
    size_t at;

    if (!view_locate(x->to, sequence, &at, &d.row, &why)) {
        if (why.code == ERR_OK)
            (void)err_set(&why, ERR_CORRUPT, "corpus %s: compaction lost sequence %llu",
                          x->k->c->def.name, (unsigned long long)sequence);
        *e = why;
        return (int)e->code;
    }
    d.chunk = x->to->chunks[at].id;
    ledger_put_tombstone(&x->txn, x->k->c->id, &d);
    next = snapshot_kill(x->to, at, d.row);
    snapshot_release(x->to);
    x->to = next;
    return 0;
}

/* Rows dead when the copying began were left out, and their tombstones go. */
static int swap_tombstones(struct swap *x, size_t i, struct err *e)
{
    const struct view_chunk *then = &x->k->from->chunks[i], *now = &x->k->c->view->chunks[i];
    struct block rows;
    int rc;

    if (now->dead_count == 0)
        return 0;
    rc = block_open(then, BLOCK_ROWS, &rows, e);
    if (rc)
        return rc;
    for (uint32_t r = 0; rc == 0 && r < then->rows; r++) {
        uint64_t sequence = block_row_sequence(&rows, r);

        if (view_row_dead(then, r)) {
            ledger_delete_tombstone(&x->txn, x->k->c->id, sequence);
            x->counts.tombstones--;
        } else if (view_row_dead(now, r)) {
            rc = carry_tombstone(x, sequence, e);
        }
    }
    block_close(&rows);
    return rc;
}

static int record_swap(struct swap *x, struct err *e)
{
    struct compact *k = x->k;
    const struct view *from = k->from;
    const struct writer *w = &k->writer;
    uint32_t corpus = k->c->id;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < from->chunk_count; i++) {
        if (!k->taken[i])
            continue;
        rc = swap_tombstones(x, i, e);
        ledger_delete_chunk(&x->txn, corpus, from->chunks[i].id);
        ledger_delete_shard(&x->txn, from->chunks[i].shard->id);
    }
    for (size_t i = 0; i < w->made_count; i++)
        ledger_put_shard(&x->txn,
                         &(struct ledger_shard){w->made[i]->id, corpus, LEDGER_SHARD_SEALED});
    for (size_t i = 0; i < w->chunk_count; i++)
        ledger_put_chunk(&x->txn, corpus, &w->chunks[i].record);
    ledger_put_counts(&x->txn, corpus, &x->counts);
    return rc;
}

/* Bytes of the chunks that go, from the ledger: the view does not carry them. */
static uint64_t bytes_after(struct swap *x)
{
    struct compact *k = x->k;
    uint64_t bytes = k->c->bytes;

    for (size_t i = 0; i < k->from->chunk_count; i++) {
        struct key key = key_u32_u64(k->c->id, k->from->chunks[i].id);
        struct ledger_chunk record;
        struct span value;

        if (k->taken[i] && ledger_get(&x->txn, LEDGER_CHUNKS, &key, &value) &&
            ledger_parse_chunk((struct span){key.bytes, key.len}, value, &record))
            bytes -= record.bytes;
    }
    for (size_t i = 0; i < k->writer.chunk_count; i++)
        bytes += k->writer.chunks[i].record.bytes;
    return bytes;
}

static int swap(void *arg, struct err *e)
{
    struct compact *k = arg;
    struct swap x = {.k = k, .counts = k->c->counts};
    int rc;

    if (catalog_may_write(k->s, e))
        return (int)e->code;
    if (atomic_load(&k->c->dropped))
        return err_set(e, ERR_UNKNOWN_CORPUS, "corpus %s was dropped meanwhile", k->c->def.name);
    x.to = build_view(k);
    txn_begin_write(&x.txn, &k->s->ledger);
    x.bytes = bytes_after(&x);
    rc = record_swap(&x, e);
    if (rc)
        txn_abort(&x.txn);
    else
        rc = txn_commit(&x.txn, e);
    if (rc) {
        snapshot_release(x.to);
        return rc;
    }
    for (size_t i = 0; i < k->from->chunk_count; i++)
        if (k->taken[i])
            atomic_store(&k->from->chunks[i].shard->doomed, true);
    catalog_publish(k->c, x.to, &x.counts, x.bytes);
    writer_keep(&k->writer);
    k->writing = false;
    return 0;
}

/* ---- All ------------------------------------------------------------------------------------- */

static int on_lane(const struct maintain_lane *lane, int (*work)(void *arg, struct err *e),
                   void *arg, struct err *e)
{
    return lane && lane->run ? lane->run(lane->arg, work, arg, e) : work(arg, e);
}

int compact_corpus(struct corpus *c, const struct maintain_lane *lane,
                   const struct maintain_progress *p, struct err *e)
{
    struct compact k = {.c = c, .s = c->store, .progress = p};
    int rc;

    if (atomic_exchange(&c->compacting, true))
        return err_set(e, ERR_BUSY, "corpus %s is being compacted", c->def.name);
    rc = on_lane(lane, choose, &k, e);
    if (rc == 0 && k.taken_count > 0) {
        rc = copy_rows(&k, e);
        if (rc == 0)
            rc = on_lane(lane, swap, &k, e);
    }
    if (k.writing)
        writer_abandon(&k.writer);
    view_release(k.from);
    free(k.taken);
    atomic_store(&c->compacting, false);
    return rc;
}
