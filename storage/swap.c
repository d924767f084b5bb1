/* swap.c - see swap.h. Readers keep the views they hold, and those their shards. */
#include "storage/swap.h"

#include <stdlib.h>
#include <string.h>

#include "storage/annex_record.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/base/plant.h"
#include "storage/snapshot.h"

struct work {
    const struct swap *s;
    struct store *store;
    struct corpus *c;
    struct annex *state; /* of the new view; one reference, or NULL */
    struct view *to;     /* the new view, in the making: ours alone */
    struct ledger_counts counts;
    struct txn txn;
    uint64_t bytes;
};

static bool goes(const struct swap *s, size_t i)
{
    return i < s->then_count && s->then[i];
}

/* The latest view's chunks, with what was written in the place of those that go. */
static struct view *build_view(const struct work *x)
{
    const struct view *now = x->c->view;
    const struct writer *w = x->s->writer;
    struct view_chunk *all = mem_new(now->chunk_count + w->chunk_count, sizeof *all);
    struct view *made;
    size_t count = 0, next = 0;

    for (size_t i = 0; i < now->chunk_count; i++) {
        const struct view_chunk *c = &now->chunks[i];

        if (goes(x->s, i)) {
            require(c->id == x->s->then[i]->id);
            continue;
        }
        while (next < w->chunk_count && w->chunks[next].record.first_sequence < c->first_sequence)
            all[count++] = writer_view_chunk(&w->chunks[next++]);
        all[count++] = *c;
    }
    while (next < w->chunk_count)
        all[count++] = writer_view_chunk(&w->chunks[next++]);
    made = snapshot_of_state(x->c, x->state, all, count);
    free(all);
    return made;
}

/* A row that died while its chunk was being copied is dead in the new place too. */
static int carry_tombstone(struct work *x, uint64_t sequence, struct err *e)
{
    struct ledger_tombstone d = {.sequence = sequence};
    struct err why = ERR_INIT;
    struct view *next;
    size_t at;

    if (!view_locate(x->to, sequence, &at, &d.row, &why)) {
        if (why.code == ERR_OK)
            (void)err_set(&why, ERR_CORRUPT, "corpus %s: a rewrite lost sequence %llu",
                          x->c->def.name, (unsigned long long)sequence);
        *e = why;
        return (int)e->code;
    }
    d.chunk = x->to->chunks[at].id;
    ledger_put_tombstone(&x->txn, x->c->id, &d);
    next = snapshot_kill(x->to, at, d.row);
    snapshot_release(x->to);
    x->to = next;
    return 0;
}

/* Rows dead when the copying began were left out, and their tombstones go. */
static int swap_tombstones(struct work *x, size_t i, struct err *e)
{
    const struct view_chunk *then = x->s->then[i], *now = &x->c->view->chunks[i];
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
            ledger_delete_tombstone(&x->txn, x->c->id, sequence);
            x->counts.tombstones--;
        } else if (view_row_dead(now, r) && !planted(TOMBSTONE_LEFT)) {
            rc = carry_tombstone(x, sequence, e);
        }
    }
    block_close(&rows);
    return rc;
}

/* The ledger's record of a chunk that goes; false also when the transaction has failed. */
static bool old_record(struct work *x, uint64_t id, struct ledger_chunk *out)
{
    struct key key = key_u32_u64(x->c->id, id);
    struct span value;

    return ledger_get(&x->txn, LEDGER_CHUNKS, &key, &value) &&
           ledger_parse_chunk((struct span){key.bytes, key.len}, value, out);
}

static int remove_old(struct work *x, struct err *e)
{
    const struct view *now = x->c->view;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < now->chunk_count; i++) {
        struct ledger_chunk record;

        if (!goes(x->s, i))
            continue;
        rc = swap_tombstones(x, i, e);
        if (old_record(x, now->chunks[i].id, &record))
            x->bytes -= record.bytes;
        ledger_delete_chunk(&x->txn, x->c->id, now->chunks[i].id);
        ledger_delete_shard(&x->txn, now->chunks[i].shard->id);
    }
    return rc;
}

static void record_new(struct work *x)
{
    const struct writer *w = x->s->writer;
    struct ledger_meta meta = x->store->meta;

    for (size_t i = 0; i < w->made_count; i++)
        ledger_put_shard(&x->txn,
                         &(struct ledger_shard){w->made[i]->id, x->c->id, LEDGER_SHARD_SEALED});
    for (size_t i = 0; i < w->chunk_count; i++) {
        ledger_put_chunk(&x->txn, x->c->id, &w->chunks[i].record);
        x->bytes += w->chunks[i].record.bytes;
    }
    ledger_put_counts(&x->txn, x->c->id, &x->counts);
    if (x->s->state)
        annex_record_put(&x->txn, x->c->id, x->state);
    ledger_raise_format(&meta, LEDGER_FORMAT_CODES);
    ledger_put_meta(&x->txn, &meta);
}

/* Everything durable: memory follows the ledger. */
static void publish(struct work *x)
{
    struct corpus *c = x->c;
    const struct view *old = corpus_view(c); /* until its shards are marked */

    for (size_t i = 0; i < old->chunk_count; i++)
        if (goes(x->s, i))
            atomic_store(&old->chunks[i].shard->doomed, true);
    if (c->active && atomic_load(&c->active->doomed)) {
        shard_release(c->active);
        c->active = NULL;
    }
    ledger_raise_format(&x->store->meta, LEDGER_FORMAT_CODES);
    if (x->s->state) {
        if (c->state)
            annex_doom(c->state);
        annex_adopt(x->state);
        annex_release(c->state);
        c->state = x->state;
        annex_retain(x->state);
    }
    catalog_publish(c, x->to, &x->counts, x->bytes);
    view_release(old);
    writer_keep(x->s->writer);
}

static struct annex *state_after(const struct swap *s)
{
    if (s->state)
        return annex_new(s->state, strlen(s->state->text));
    if (s->c->state)
        annex_retain(s->c->state);
    return s->c->state;
}

int swap_chunks(const struct swap *s, struct err *e)
{
    struct work x = {.s = s, .c = s->c, .store = s->c->store, .counts = s->c->counts,
                     .bytes = s->c->bytes};
    int rc = catalog_may_write(x.store, e);
    uint64_t room;

    if (rc)
        return rc;
    if (atomic_load(&x.c->dropped))
        return err_set(e, ERR_UNKNOWN_CORPUS, "corpus %s was dropped meanwhile", x.c->def.name);
    room = (s->writer->chunk_count + s->then_count) * UINT64_C(4096) + (UINT64_C(2) << 20);
    if (db_make_room(&x.store->ledger, room, e))
        return (int)e->code;
    x.state = state_after(s);
    x.to = build_view(&x);
    txn_begin_write(&x.txn, &x.store->ledger);
    rc = remove_old(&x, e);
    record_new(&x);
    if (rc)
        txn_abort(&x.txn);
    else
        rc = txn_commit(&x.txn, e);
    if (rc == 0)
        publish(&x);
    else
        snapshot_release(x.to);
    annex_release(x.state);
    return rc;
}
