/* corpus.c - references, numbers and the ledger's id lookup: corpus_* of corpus.h. Any thread. */
#include "storage/corpus.h"

#include <stdlib.h>

#include "storage/annex.h"
#include "storage/base/check.h"
#include "storage/catalog.h"
#include "storage/snapshot.h"

void corpus_retain(struct corpus *c)
{
    atomic_fetch_add(&c->refs, 1);
}

void corpus_release(struct corpus *c)
{
    if (!c || atomic_fetch_sub(&c->refs, 1) != 1)
        return;
    shard_release(c->active);
    snapshot_release(c->view);
    annex_release(c->state);
    for (size_t i = 0; i < c->annex_count; i++)
        annex_release(c->annexes[i]);
    free(c->annexes);
    pthread_mutex_destroy(&c->lock);
    free((void *)(uintptr_t)c->def.manifest);
    free(c);
}

const struct corpus_def *corpus_def(const struct corpus *c)
{
    return &c->def;
}

size_t corpus_row_bytes(const struct corpus *c)
{
    return c->shape.row_bytes;
}

uint32_t corpus_id(const struct corpus *c)
{
    return c->id;
}

void corpus_stats(struct corpus *c, struct corpus_stats *out)
{
    pthread_mutex_lock(&c->lock);
    *out = (struct corpus_stats){
        .examples = c->counts.examples,
        .tombstones = c->counts.tombstones,
        .batches = c->counts.batches,
        .chunks = c->view->chunk_count,
        .shards = c->shards,
        .bytes = c->bytes,
        .next_sequence = c->counts.next_sequence,
        .generation = c->view->generation,
    };
    pthread_mutex_unlock(&c->lock);
}

const struct view *corpus_view(struct corpus *c)
{
    struct view *v;

    pthread_mutex_lock(&c->lock);
    v = c->view;
    snapshot_retain(v);
    pthread_mutex_unlock(&c->lock);
    corpus_retain(c);
    return v;
}

void view_release(const struct view *v)
{
    struct corpus *c;

    if (!v)
        return;
    c = snapshot_corpus(v);
    snapshot_release((struct view *)(uintptr_t)v);
    corpus_release(c);
}

int corpus_find_id(struct corpus *c, const char *id, size_t id_len, uint64_t *out_sequence,
                   struct err *e)
{
    uint64_t sequence = 0;
    struct txn t;
    bool found;

    if (id_len == 0 || id_len > CORPUS_ID_MAX || atomic_load(&c->dropped))
        return err_set(e, ERR_UNKNOWN_EXAMPLE, "corpus %s has no such example", c->def.name);
    txn_begin_read(&t, &c->store->ledger);
    found = ledger_get_id(&t, c->id, id, id_len, &sequence);
    txn_abort(&t);
    if (t.err.code != ERR_OK) {
        *e = t.err;
        return (int)e->code;
    }
    if (!found)
        return err_set(e, ERR_UNKNOWN_EXAMPLE, "corpus %s has no example \"%.*s\"", c->def.name,
                       (int)id_len, id);
    *out_sequence = sequence;
    return 0;
}
