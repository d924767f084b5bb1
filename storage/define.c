/* define.c - creating, finding, listing and dropping corpora: store_corpus_* of store.h. */
#include <stdlib.h>
#include <string.h>

#include "storage/annex_record.h"
#include "storage/base/dtype.h"
#include "storage/base/mem.h"
#include "storage/catalog.h"
#include "storage/define.h"
#include "storage/store.h"

/* One row must fit into one chunk comfortably; the server's own limit is lower. */
#define ROW_BYTES_MAX (UINT64_C(256) << 20)
#define MANIFEST_BYTES_MAX ((size_t)4 << 20)

/* Records removed in one transaction: some 10 MiB of dirty pages, a few milliseconds. */
enum { PURGE_STEP = 20000 };

static int check_def(const struct corpus_def *def, struct err *e)
{
    if (!store_name_valid(def->name, strnlen(def->name, sizeof def->name))) {
        (void)err_set(e, ERR_INVALID, "a corpus name is [a-z0-9][a-z0-9_-]{0,62}");
        return err_at_field(e, "name");
    }
    if (def->dtype < DTYPE_F32 || def->dtype > DTYPE_BF16)
        return err_set(e, ERR_WRONG_DTYPE, "dtype number %u is not known", (unsigned)def->dtype);
    if (def->dim == 0 || def->dim * (uint64_t)dtype_size((enum dtype)def->dtype) > ROW_BYTES_MAX) {
        (void)err_set(e, ERR_INVALID, "dimension %u is not between 1 and 67108864",
                      (unsigned)def->dim);
        return err_at_field(e, "dim");
    }
    if (!def->manifest || strlen(def->manifest) > MANIFEST_BYTES_MAX)
        return err_set(e, ERR_TOO_LARGE, "a manifest is at most 4 MiB of text");
    return 0;
}

/* The same definition again is fine; another one under the name is not. */
static int check_same(const struct corpus *c, const struct corpus_def *def, struct err *e)
{
    char have[2 * STORE_FINGERPRINT_BYTES + 1], given[2 * STORE_FINGERPRINT_BYTES + 1];

    if (c->def.dim == def->dim && c->def.dtype == def->dtype &&
        memcmp(c->def.fingerprint, def->fingerprint, STORE_FINGERPRINT_BYTES) == 0)
        return 0;
    bytes_hex(c->def.fingerprint, STORE_FINGERPRINT_BYTES, have);
    bytes_hex(def->fingerprint, STORE_FINGERPRINT_BYTES, given);
    return err_set(e, ERR_CORPUS_CONFLICT, "corpus %s has fingerprint %.16s, the request %.16s",
                   def->name, have, given);
}

int store_corpus_create(struct store *s, const struct corpus_def *def, bool *out_created,
                        struct corpus **out_corpus, struct err *e)
{
    struct ledger_counts none = {0};
    struct ledger_meta meta = s->meta;
    struct corpus *c;
    struct txn t;

    if (check_def(def, e))
        return (int)e->code;
    c = store_corpus_find(s, def->name);
    if (c) {
        if (check_same(c, def, e)) {
            corpus_release(c);
            return (int)e->code;
        }
        *out_created = false;
        *out_corpus = c;
        return 0;
    }
    if (catalog_may_write(s, e))
        return (int)e->code;
    txn_begin_write(&t, &s->ledger);
    ledger_put_corpus(&t, meta.next_corpus, def);
    ledger_put_counts(&t, meta.next_corpus, &none);
    meta.next_corpus++;
    ledger_put_meta(&t, &meta);
    if (txn_commit(&t, e))
        return (int)e->code;
    c = catalog_corpus_new(s, s->meta.next_corpus, def, def->manifest, strlen(def->manifest));
    s->meta = meta;
    corpus_retain(c);
    catalog_add(s, c);
    *out_created = true;
    *out_corpus = c;
    return 0;
}

struct corpus *store_corpus_find(struct store *s, const char *name)
{
    return catalog_find(s, name);
}

size_t store_corpus_list(struct store *s, struct corpus ***out_list)
{
    struct corpus **list;
    size_t count;

    pthread_mutex_lock(&s->lock);
    count = s->corpus_count;
    list = mem_new(count, sizeof *list);
    for (size_t i = 0; i < count; i++) {
        list[i] = s->corpora[i];
        corpus_retain(list[i]);
    }
    pthread_mutex_unlock(&s->lock);
    *out_list = list;
    return count;
}

/* ---- Drop ------------------------------------------------------------------------------------ */

/* Every shard of the corpus, each once, in the order of its view and then the active one. */
static void each_shard(struct corpus *c, void (*visit)(struct txn *t, struct shard *s),
                       struct txn *t)
{
    const struct view *v = corpus_view(c);

    for (size_t i = 0; i < v->chunk_count; i++)
        if (i == 0 || v->chunks[i].shard != v->chunks[i - 1].shard)
            visit(t, v->chunks[i].shard);
    if (c->active)
        visit(t, c->active);
    view_release(v);
}

static void forget_shard(struct txn *t, struct shard *s)
{
    ledger_delete_shard(t, s->id); /* again for the active one: that is not an error */
}

static void doom_shard(struct txn *t, struct shard *s)
{
    (void)t;
    atomic_store(&s->doomed, true);
}

static void doom_annexes(struct corpus *c)
{
    if (c->state)
        annex_doom(c->state);
    for (size_t i = 0; i < c->annex_count; i++)
        annex_doom(c->annexes[i]);
}

void define_purge_step(struct store *s)
{
    struct err ignored = ERR_INIT; /* what is left is garbage under an id never used again */
    struct txn t;
    bool done;

    if (s->purge_count == 0)
        return;
    txn_begin_write(&t, &s->ledger);
    done = ledger_purge(&t, s->purge[s->purge_count - 1], PURGE_STEP);
    if (txn_commit(&t, &ignored) == 0 && done)
        s->purge_count--;
}

int store_corpus_drop(struct store *s, const char *name, struct err *e)
{
    struct corpus *c = store_corpus_find(s, name);
    uint32_t *purge;
    struct key k;
    struct txn t;

    if (!c)
        return err_set(e, ERR_UNKNOWN_CORPUS, "there is no corpus %s", name);
    if (catalog_may_write(s, e)) {
        corpus_release(c);
        return (int)e->code;
    }
    purge = mem_new(s->purge_count + 1, sizeof *purge);
    k = key_u32(c->id);
    txn_begin_write(&t, &s->ledger);
    ledger_delete_twice(&t, LEDGER_CORPORA, &k);
    each_shard(c, forget_shard, &t);
    annex_record_delete_all(&t, c->id);
    ledger_put(&t, LEDGER_DROPPED, &k, NULL, 0);
    if (txn_commit(&t, e)) {
        free(purge);
        corpus_release(c);
        return (int)e->code;
    }
    atomic_store(&c->dropped, true);
    each_shard(c, doom_shard, NULL);
    doom_annexes(c);
    if (s->purge_count)
        memcpy(purge, s->purge, s->purge_count * sizeof *purge);
    purge[s->purge_count++] = c->id;
    free(s->purge);
    s->purge = purge;
    catalog_remove(s, c);
    corpus_release(c);
    define_purge_step(s);
    return 0;
}
