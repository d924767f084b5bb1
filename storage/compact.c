/* compact.c - compact_corpus of maintain.h: rewrites shards without their dead rows, joins small
 * chunks, and swaps in one ledger transaction.
 *
 * Three acts. On the lane: choose the shards, seal the active one if it is among them, reserve ids.
 * Beside everything: copy the live rows into new shards that nothing names yet. On the lane: swap;
 * rows deleted meanwhile are dead in the new chunks as well. Whatever happens before the swap's
 * commit leaves the store as it was. Readers keep the views they hold, and those their shards.
 */
#include <stdlib.h>

#include "storage/base/mem.h"
#include "storage/catalog.h"
#include "storage/maintain.h"
#include "storage/mover.h"
#include "storage/swap.h"

struct compact {
    struct corpus *c;
    struct store *s;
    const struct view *from; /* what is rewritten is what this view shows */
    bool *taken;             /* per chunk of the view */
    size_t taken_count;
    uint64_t taken_bytes, done_bytes;
    struct writer writer;
    bool writing;
    bool mends; /* for a repair: without damaged texts */
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

/* Written before the program made codes, or made these; or they were found damaged. */
static bool lacks_codes(const struct compact *k, const struct view_chunk *c)
{
    return shard_is_doubtful(c->shard, c->id) ||
           (k->mends && shard_damage(c->shard, c->id).textless) ||
           (k->c->shape.codes.version && !c->coded);
}

/* A shard is rewritten whole or not at all. */
static void take_shards(struct compact *k)
{
    const struct view *v = k->from;
    size_t first = 0;

    for (size_t i = 0; i < v->chunk_count; i++) {
        bool wanted = v->chunks[i].dead_count > 0 || lacks_codes(k, &v->chunks[i]) ||
                      (i + 1 < v->chunk_count && is_joinable(k, i));

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
    struct mover m = {.writer = &k->writer, .chunk_bytes = k->s->chunk_bytes,
                      .mends = k->mends};
    const struct view *v = k->from;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < v->chunk_count; i++) {
        if (!k->taken[i])
            continue;
        rc = mover_take(&m, &v->chunks[i], e);
        if (rc == 0) /* chunks must not overlap: nothing is joined across one that stays */
            rc = mover_flush(&m, i + 1 == v->chunk_count || !k->taken[i + 1], e);
        if (rc == 0)
            rc = advance(k, i, e);
    }
    if (rc == 0)
        rc = writer_finish(&k->writer, e);
    mover_free(&m);
    return rc;
}

/* ---- Third act: swap ------------------------------------------------------------------------- */

static int swap(void *arg, struct err *e)
{
    struct compact *k = arg;
    size_t count = k->from->chunk_count;
    const struct view_chunk **then = mem_new(count, sizeof *then);
    struct swap s = {.c = k->c, .then = then, .then_count = count, .writer = &k->writer};
    int rc;

    for (size_t i = 0; i < count; i++)
        then[i] = k->taken[i] ? &k->from->chunks[i] : NULL;
    rc = swap_chunks(&s, e);
    if (rc == 0)
        k->writing = false;
    free(then);
    return rc;
}

/* ---- All ------------------------------------------------------------------------------------- */

static int on_lane(const struct maintain_lane *lane, int (*work)(void *arg, struct err *e),
                   void *arg, struct err *e)
{
    return lane && lane->run ? lane->run(lane->arg, work, arg, e) : work(arg, e);
}

static int compact(struct corpus *c, bool mends, const struct maintain_lane *lane,
                   const struct maintain_progress *p, struct err *e)
{
    struct compact k = {.c = c, .s = c->store, .mends = mends, .progress = p};
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

int compact_corpus(struct corpus *c, const struct maintain_lane *lane,
                   const struct maintain_progress *p, struct err *e)
{
    return compact(c, false, lane, p, e);
}

int compact_mend(struct corpus *c, const struct maintain_progress *p, struct err *e)
{
    return compact(c, true, NULL, p, e);
}
