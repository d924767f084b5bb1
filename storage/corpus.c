/* corpus.c - references, numbers and the ledger's id lookup: corpus_* of corpus.h. Any thread. */
#include "storage/corpus.h"

#include <stdlib.h>

#include "storage/annex.h"
#include "storage/base/check.h"
#include "storage/catalog.h"
#include "storage/damage.h"
#include "storage/snapshot.h"

enum { CODES_AT_ONCE = 64 }; /* rows of one call of the coder */

void corpus_retain(struct corpus *c)
{
    atomic_fetch_add(&c->refs, 1);
}

void corpus_release(struct corpus *c)
{
    if (!c || atomic_fetch_sub(&c->refs, 1) != 1)
        return;
    shard_release(c->active);
    for (int i = 0; i < 2; i++)
        if (c->sound[i])
            snapshot_release(c->sound[i]);
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

const struct coder_shape *corpus_code_shape(const struct corpus *c)
{
    return &c->shape.codes;
}

int corpus_codes_new(const struct corpus *c, uint32_t count, struct arena *a, struct codes **out,
                     struct err *e)
{
    const struct coder_shape *shape = &c->shape.codes;
    void *memory = NULL;
    struct codes *made;
    size_t bytes;

    *out = NULL;
    if (!shape->version || count == 0)
        return 0;
    if (coder_bytes(shape, count, &bytes))
        memory = arena_big(a, bytes, 1);
    if (!memory)
        return err_set(e, ERR_BUSY, "no memory for the codes of %u rows", (unsigned)count);
    made = arena_new(a, 1, sizeof *made);
    *made = coder_layout(shape, count, memory);
    *out = made;
    return 0;
}

int corpus_codes_make(const struct corpus *c, const void *encodings, uint32_t first, uint32_t count,
                      struct codes *codes, struct err *e)
{
    const struct store_coder *k = c->shape.coder;
    const void *rows[CODES_AT_ONCE];

    require(codes->shape.version && first <= codes->count && count <= codes->count - first);
    for (uint32_t done = 0, n; done < count; done += n) {
        n = count - done < CODES_AT_ONCE ? count - done : CODES_AT_ONCE;
        for (uint32_t i = 0; i < n; i++)
            rows[i] = (const unsigned char *)encodings + (size_t)(done + i) * c->shape.row_bytes;
        if (k->encode(k->arg, c->shape.dim, (enum dtype)c->shape.dtype, rows, first + done, n,
                      codes,
                      e))
            return (int)e->code;
    }
    return 0;
}

void corpus_stats(struct corpus *c, struct corpus_stats *out)
{
    pthread_mutex_lock(&c->lock);
    *out = (struct corpus_stats){
        .examples = c->counts.examples,
        .tombstones = c->counts.tombstones,
        .coded = c->coded,
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

const struct view *corpus_view_sound(struct corpus *c, bool texts)
{
    return damage_view(c, texts);
}

bool corpus_is_hurt(const struct corpus *c)
{
    return store_damage(c->store) != 0;
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

int corpus_find_batch(struct corpus *c, const char *name, struct corpus_batch *out, struct err *e)
{
    struct ledger_batch record;
    struct txn t;
    bool found;

    if (!store_name_valid(name, strlen(name)) || atomic_load(&c->dropped))
        return err_set(e, ERR_UNKNOWN_BATCH, "corpus %s has no such batch", c->def.name);
    txn_begin_read(&t, &c->store->ledger);
    found = ledger_get_batch(&t, c->id, name, &record);
    txn_abort(&t);
    if (t.err.code != ERR_OK) {
        *e = t.err;
        return (int)e->code;
    }
    if (!found)
        return err_set(e, ERR_UNKNOWN_BATCH, "corpus %s has no batch \"%s\"", c->def.name, name);
    _Static_assert(sizeof out->content_hash == sizeof record.content_hash, "one hash");
    memcpy(out->content_hash, record.content_hash, sizeof out->content_hash);
    out->examples_new = record.examples_new;
    out->duplicates = record.duplicates;
    out->sequence = record.sequence;
    return 0;
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
