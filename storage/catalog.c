/* catalog.c - see catalog.h. The ledger is read once, at open; from then on memory follows it. */
#include "storage/catalog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/annex_record.h"
#include "storage/base/check.h"
#include "storage/base/dtype.h"
#include "storage/base/mem.h"
#include "storage/heal.h"
#include "storage/snapshot.h"

/* ---- Corpora in memory ----------------------------------------------------------------------- */

struct corpus *catalog_corpus_new(struct store *s, uint32_t id, const struct corpus_def *def,
                                  const char *manifest, size_t manifest_len)
{
    struct corpus *c = mem_new(1, sizeof *c);

    atomic_init(&c->refs, 1);
    c->store = s;
    c->id = id;
    c->def = *def;
    c->def.manifest = mem_copy(manifest, manifest_len);
    c->shape = (struct shard_corpus){.id = id, .dim = def->dim, .dtype = def->dtype};
    c->shape.row_bytes = def->dim * dtype_size((enum dtype)def->dtype);
    memcpy(c->shape.name, def->name, sizeof c->shape.name);
    c->shape.coder = s->coder;
    if (s->coder)
        s->coder->shape(s->coder->arg, def->dim, (enum dtype)def->dtype, &c->shape.codes);
    require(c->shape.codes.version <= CODER_VERSION_MAX);
    pthread_mutex_init(&c->lock, NULL);
    c->view = snapshot_new(c, NULL, 0);
    c->view->generation = 1;
    return c;
}

/* Index of the first corpus whose name is not before `name`. Under the lock. */
static size_t place_of(const struct store *s, const char *name)
{
    size_t low = 0, high = s->corpus_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(s->corpora[middle]->def.name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void catalog_add(struct store *s, struct corpus *c)
{
    struct corpus **grown = mem_new(s->corpus_count + 1, sizeof *grown);
    struct corpus **old;
    size_t at;

    pthread_mutex_lock(&s->lock);
    at = place_of(s, c->def.name);
    old = s->corpora;
    if (at)
        memcpy(grown, old, at * sizeof *grown);
    grown[at] = c;
    if (s->corpus_count > at)
        memcpy(grown + at + 1, old + at, (s->corpus_count - at) * sizeof *grown);
    s->corpora = grown;
    s->corpus_count++;
    pthread_mutex_unlock(&s->lock);
    free(old);
}

struct corpus *catalog_find(struct store *s, const char *name)
{
    struct corpus *found = NULL;
    size_t at;

    pthread_mutex_lock(&s->lock);
    at = place_of(s, name);
    if (at < s->corpus_count && strcmp(s->corpora[at]->def.name, name) == 0) {
        found = s->corpora[at];
        corpus_retain(found);
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

void catalog_remove(struct store *s, struct corpus *c)
{
    size_t at;

    pthread_mutex_lock(&s->lock);
    at = place_of(s, c->def.name);
    require(at < s->corpus_count && s->corpora[at] == c);
    memmove(s->corpora + at, s->corpora + at + 1, (s->corpus_count - at - 1) * sizeof *s->corpora);
    s->corpus_count--;
    pthread_mutex_unlock(&s->lock);
    corpus_release(c);
}

static void sum_up(struct corpus *c, const struct view *v)
{
    uint32_t last = 0;

    c->shards = c->coded = 0;
    for (size_t i = 0; i < v->chunk_count; i++) {
        c->shards += i == 0 || v->chunks[i].shard->id != last;
        last = v->chunks[i].shard->id;
        if (v->chunks[i].coded)
            c->coded += v->chunks[i].rows - v->chunks[i].dead_count;
    }
}

void catalog_publish(struct corpus *c, struct view *view, const struct ledger_counts *counts,
                     uint64_t bytes)
{
    struct view *old, *sound[2];

    pthread_mutex_lock(&c->lock);
    old = c->view;
    for (int i = 0; i < 2; i++) {
        sound[i] = c->sound[i];
        c->sound[i] = NULL;
    }
    view->generation = old->generation + 1;
    c->view = view;
    c->counts = *counts;
    c->bytes = bytes;
    sum_up(c, view);
    pthread_mutex_unlock(&c->lock);
    for (int i = 0; i < 2; i++)
        if (sound[i])
            snapshot_release(sound[i]);
    snapshot_release(old);
}

int catalog_may_write(struct store *s, struct err *e)
{
    if (s->read_only)
        return err_set(e, ERR_INVALID, "%s is open for reading only", s->dir);
    if (atomic_load(&s->latch.failed))
        return err_set(e, ERR_SYNC_FAILED, "%s: a sync failed; the store takes no more writes",
                       s->dir);
    return 0;
}

/* ---- Loading --------------------------------------------------------------------------------- */

struct load {
    struct store *s;
    struct txn txn;
    struct corpus **by_id; /* ascending; no references of its own */
    size_t corpus_count;
    struct shard **shards; /* ascending by id; one reference each */
    size_t shard_count;
    bool damaged; /* the record at hand; what cannot be made again keeps the store closed */
    struct err *e;
};

/* What could not be read is no contradiction: the deepest failure speaks. */
static int contradiction(struct load *l, const char *what, uint64_t number)
{
    if (l->txn.err.code && l->txn.err.code != ERR_CORRUPT) {
        *l->e = l->txn.err;
        return (int)l->e->code;
    }
    return err_set(l->e, ERR_CORRUPT, "%s/ledger: %s (%llu)", l->s->dir, what,
                   (unsigned long long)number);
}

static struct corpus *corpus_by_id(struct load *l, uint32_t id)
{
    size_t low = 0, high = l->corpus_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (l->by_id[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < l->corpus_count && l->by_id[low]->id == id ? l->by_id[low] : NULL;
}

static struct shard *shard_by_id(struct load *l, uint32_t id)
{
    size_t low = 0, high = l->shard_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (l->shards[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < l->shard_count && l->shards[low]->id == id ? l->shards[low] : NULL;
}

/* Says of a damaged record what a strict read says. */
static int refuse(struct load *l, enum ledger_table table, struct span key)
{
    struct key k = key_bytes(key.bytes, key.len);
    struct span value;

    (void)ledger_get(&l->txn, table, &k, &value);
    if (l->txn.err.code == ERR_OK)
        return contradiction(l, "a record is damaged", table);
    *l->e = l->txn.err;
    return (int)l->e->code;
}

/* One walk over a table; `take` gets every record, damaged ones too if it says that it heals. */
typedef int take_record(struct load *l, struct span key, struct span value);

static int walk(struct load *l, enum ledger_table table, const struct key *prefix,
                take_record *take, bool heals)
{
    struct ledger_walk w;
    struct span key, value;
    int rc = 0;

    ledger_walk_begin(&w, &l->txn, table, prefix);
    w.lenient = heals;
    while (rc == 0 && ledger_walk_next(&w, &key, &value)) {
        l->damaged = w.damaged;
        rc = take(l, key, value);
    }
    ledger_walk_end(&w);
    if (rc == 0 && l->txn.err.code != ERR_OK) {
        *l->e = l->txn.err;
        rc = (int)l->e->code;
    }
    return rc;
}

/* The array with room for one more, NULL when there is no memory (the old one stays). */
static void *grow(void *array, size_t count, size_t size)
{
    if (count & (count - 1)) /* at 0, 1, 2, 4, 8 ... there is no room left */
        return array;
    return realloc(array, (count ? count * 2 : 1) * size);
}

static int no_memory(struct load *l)
{
    return err_set(l->e, ERR_BUSY, "%s: no memory for the catalogue", l->s->dir);
}

/* To be made again once the corpus's chunks are known. */
#define COUNTS_LOST UINT64_MAX

static int take_corpus(struct load *l, struct span key, struct span value)
{
    struct corpus_def def;
    struct span manifest;
    struct corpus *c, **grown;

    if (l->damaged && !heal_second(l->s, &l->txn, LEDGER_CORPORA, key, &value))
        return refuse(l, LEDGER_CORPORA, key);
    if (key.len != 4 || !ledger_parse_corpus(value, &def, &manifest) || def.dim == 0 ||
        def.dtype < DTYPE_F32 || def.dtype > DTYPE_BF16)
        return contradiction(l, "a corpus record has the wrong shape", key.len);
    grown = grow(l->by_id, l->corpus_count, sizeof *grown);
    if (!grown)
        return no_memory(l);
    l->by_id = grown;
    c = catalog_corpus_new(l->s, bytes_get_be32(key.bytes), &def, (const char *)manifest.bytes,
                           manifest.len);
    l->by_id[l->corpus_count++] = c;
    catalog_add(l->s, c);
    if (!ledger_get_counts(&l->txn, c->id, &c->counts)) {
        if (l->txn.err.code == ERR_CORRUPT)
            err_clear(&l->txn.err);
        c->counts = (struct ledger_counts){.next_sequence = COUNTS_LOST};
    }
    return 0;
}

static int take_shard(struct load *l, struct span key, struct span value)
{
    struct ledger_shard record;
    struct shard *shard, **grown;
    struct corpus *c;
    bool sealed;

    if (l->damaged && key.len == 4 &&
        !heal_shard(l->s, &l->txn, bytes_get_be32(key.bytes), &record))
        return 0; /* no chunk lies in it */
    if (!l->damaged && !ledger_parse_shard(key, value, &record))
        return contradiction(l, "a shard record has the wrong shape", key.len);
    c = corpus_by_id(l, record.corpus);
    if (!c)
        return contradiction(l, "a shard names a corpus that is not there", record.id);
    grown = grow(l->shards, l->shard_count, sizeof *grown);
    if (!grown)
        return no_memory(l);
    l->shards = grown;
    sealed = record.state == LEDGER_SHARD_SEALED;
    shard = shard_new(&l->s->home, record.id, &c->shape, sealed, 0);
    l->shards[l->shard_count++] = shard;
    if (!sealed && c->active)
        return contradiction(l, "a corpus has two active shards", record.id);
    if (!sealed) {
        shard_retain(shard);
        c->active = shard;
    }
    return 0;
}

static int take_dropped(struct load *l, struct span key, struct span value)
{
    uint32_t *grown;

    (void)value;
    if (key.len != 4)
        return contradiction(l, "a mark of a dropped corpus has the wrong shape", key.len);
    grown = grow(l->s->purge, l->s->purge_count, sizeof *grown);
    if (!grown)
        return no_memory(l);
    l->s->purge = grown;
    l->s->purge[l->s->purge_count++] = bytes_get_be32(key.bytes);
    return 0;
}

static int by_sequence(const void *a, const void *b)
{
    const struct view_chunk *x = a, *y = b;

    return (x->first_sequence > y->first_sequence) - (x->first_sequence < y->first_sequence);
}

struct chunk_list {
    struct view_chunk *chunks;
    size_t count;
};

static int take_chunk(struct load *l, struct corpus *c, struct chunk_list *list, struct span key,
                      struct span value)
{
    struct ledger_chunk record;
    struct view_chunk *grown;
    struct shard *shard;

    if (l->damaged && (key.len != 12 || !heal_chunk(l->s, l->shards, l->shard_count, c,
                                                    bytes_get_be64(key.bytes + 4), &record)))
        return refuse(l, LEDGER_CHUNKS, key);
    if (!l->damaged && !ledger_parse_chunk(key, value, &record))
        return contradiction(l, "a chunk record has the wrong shape", key.len);
    shard = shard_by_id(l, record.shard);
    if (!shard || shard->corpus.id != c->id)
        return contradiction(l, "a chunk lies in a shard that is not its corpus's", record.id);
    if (record.id >= l->s->meta.next_chunk || record.last_sequence >= c->counts.next_sequence)
        return contradiction(l, "a chunk is past the ledger's counters", record.id);
    grown = grow(list->chunks, list->count, sizeof *grown);
    if (!grown)
        return no_memory(l);
    list->chunks = grown;
    list->chunks[list->count++] = (struct view_chunk){.id = record.id,
                                                      .shard = shard,
                                                      .rows = record.rows,
                                                      .first_sequence = record.first_sequence,
                                                      .last_sequence = record.last_sequence,
                                                      .code_version = record.code_version,
                                                      .summed = record.summed};
    list->chunks[list->count - 1].coded =
        record.code_version && record.code_version == c->shape.codes.version;
    if (shard->tail < record.id)
        shard->tail = record.id;
    c->bytes += record.bytes;
    return 0;
}

static int collect_chunks(struct load *l, struct corpus *c, struct chunk_list *list)
{
    struct key prefix = key_u32(c->id);
    struct ledger_walk w;
    struct span key, value;
    int rc = 0;

    ledger_walk_begin(&w, &l->txn, LEDGER_CHUNKS, &prefix);
    w.lenient = true;
    while (rc == 0 && ledger_walk_next(&w, &key, &value)) {
        l->damaged = w.damaged;
        rc = take_chunk(l, c, list, key, value);
    }
    ledger_walk_end(&w);
    if (rc)
        return rc;
    if (list->count)
        qsort(list->chunks, list->count, sizeof *list->chunks, by_sequence);
    for (size_t i = 1; i < list->count; i++)
        if (list->chunks[i].first_sequence <= list->chunks[i - 1].last_sequence)
            return contradiction(l, "two chunks overlap", list->chunks[i].id);
    return 0;
}

static int mark_dead(struct load *l, const struct corpus *corpus, const struct view *v,
                     struct span key, struct span value)
{
    struct ledger_tombstone t;
    struct view_chunk *c;
    uint64_t *dead;
    size_t at;

    if (l->damaged && (key.len != 12 || !heal_tombstone(l->s, &l->txn, corpus, v,
                                                        bytes_get_be64(key.bytes + 4), &t)))
        return refuse(l, LEDGER_TOMBSTONES, key);
    if (!l->damaged && !ledger_parse_tombstone(key, value, &t))
        return contradiction(l, "a tombstone has the wrong shape", key.len);
    if (!snapshot_find(v, t.sequence, &at) || v->chunks[at].id != t.chunk ||
        t.row >= v->chunks[at].rows)
        return contradiction(l, "a tombstone points at no row", t.sequence);
    c = (struct view_chunk *)(uintptr_t)&v->chunks[at]; /* still ours alone */
    if (!c->dead)
        c->dead = snapshot_dead_new(c->rows, NULL);
    dead = (uint64_t *)(uintptr_t)c->dead;
    if (!view_row_dead(c, t.row))
        c->dead_count++;
    dead[t.row / 64] |= UINT64_C(1) << (t.row % 64);
    return 0;
}

static int load_corpus(struct load *l, struct corpus *c)
{
    struct chunk_list list = {0};
    struct key prefix = key_u32(c->id);
    struct view on_loan = {0};
    struct ledger_walk w;
    struct span key, value;
    struct view *made;
    int rc = collect_chunks(l, c, &list);

    on_loan.chunks = list.chunks;
    on_loan.chunk_count = list.count;
    ledger_walk_begin(&w, &l->txn, LEDGER_TOMBSTONES, &prefix);
    w.lenient = true;
    while (rc == 0 && ledger_walk_next(&w, &key, &value)) {
        l->damaged = w.damaged;
        rc = mark_dead(l, c, &on_loan, key, value);
    }
    ledger_walk_end(&w);
    if (rc == 0) {
        made = snapshot_new(c, list.chunks, list.count);
        if (c->counts.next_sequence == COUNTS_LOST)
            heal_counts(l->s, &l->txn, c, made, &c->counts);
        if (made->live != c->counts.examples) {
            rc = contradiction(l, "a corpus's count is not the number of its live rows",
                               c->counts.examples);
            snapshot_release(made);
        } else {
            catalog_publish(c, made, &c->counts, c->bytes);
        }
    }
    for (size_t i = 0; i < list.count; i++)
        snapshot_dead_release(list.chunks[i].dead);
    free(list.chunks);
    return rc;
}

/* Nothing of it is left. A task is built again from its evaluation set; a state is not. */
static int drop_task(struct load *l, struct span key)
{
    char name[STORE_NAME_MAX + 1], line[208];
    const struct corpus *c = NULL;

    if (annex_record_name(key, name))
        c = corpus_by_id(l, bytes_get_be32(key.bytes + 1));
    if (!c || !*name)
        return refuse(l, LEDGER_RECORDS, key);
    snprintf(line, sizeof line,
             "ledger: corpus %.63s: task %.63s was damaged and is gone: build it again",
             c->def.name, name);
    heal_drop(l->s, LEDGER_RECORDS, key, line);
    return 0;
}

/* Records and files of annexes; the files themselves are looked at when they are first used. */
static int take_annex(struct load *l, struct span key, struct span value)
{
    uint32_t id;
    struct annex *a;
    struct corpus *c;
    const struct annex_def *def;

    if (l->damaged && !heal_second(l->s, &l->txn, LEDGER_RECORDS, key, &value))
        return drop_task(l, key);
    a = annex_record_read(l->s, key, value, &id);
    c = a ? corpus_by_id(l, id) : NULL;
    if (!c) {
        annex_release(a);
        return contradiction(l, "a record of a state or task has the wrong shape or corpus",
                             key.len);
    }
    def = annex_def(a);
    for (size_t i = 0; i < def->artifact_count; i++)
        if (artifact_id(def->artifacts[i]) >= atomic_load(&l->s->next_artifact))
            atomic_store(&l->s->next_artifact, artifact_id(def->artifacts[i]) + 1);
    if (*def->name)
        annex_enlist(c, a);
    else
        c->state = a;
    return 0;
}

static int load_annexes(struct load *l)
{
    struct key prefix = annex_record_prefix();

    atomic_store(&l->s->next_artifact, 1);
    return walk(l, LEDGER_RECORDS, &prefix, take_annex, true);
}

static int load_all(struct load *l)
{
    int rc;

    if (!ledger_get_meta(&l->txn, &l->s->meta)) {
        if (l->txn.err.code != ERR_OK && l->txn.err.code != ERR_CORRUPT) {
            *l->e = l->txn.err;
            return (int)l->e->code;
        }
        err_clear(&l->txn.err);
        heal_meta(l->s, &l->txn, &l->s->meta);
    }
    if (l->s->meta.format < LEDGER_FORMAT || l->s->meta.format > LEDGER_FORMAT_CODES)
        return err_set(l->e, ERR_CONFLICT, "%s/ledger has format %u, this program knows %u",
                       l->s->dir, (unsigned)l->s->meta.format,
                       (unsigned)LEDGER_FORMAT_CODES);
    rc = walk(l, LEDGER_CORPORA, NULL, take_corpus, true);
    if (rc == 0)
        rc = walk(l, LEDGER_SHARDS, NULL, take_shard, true);
    if (rc == 0)
        rc = walk(l, LEDGER_DROPPED, NULL, take_dropped, true); /* only the key says anything */
    if (rc == 0)
        rc = load_annexes(l);
    for (size_t i = 0; rc == 0 && i < l->corpus_count; i++)
        rc = load_corpus(l, l->by_id[i]);
    return rc;
}

int catalog_load(struct store *s, struct err *e)
{
    struct load l = {.s = s, .e = e};
    int rc;

    txn_begin_read(&l.txn, &s->ledger);
    rc = load_all(&l);
    if (rc == 0 && l.txn.err.code != ERR_OK) {
        *e = l.txn.err;
        rc = (int)e->code;
    }
    txn_abort(&l.txn);
    for (size_t i = 0; i < l.shard_count; i++)
        shard_release(l.shards[i]);
    free(l.shards);
    free(l.by_id);
    return rc;
}

void catalog_free(struct store *s)
{
    for (size_t i = 0; i < s->corpus_count; i++)
        corpus_release(s->corpora[i]);
    free(s->corpora);
    free(s->purge);
    heal_free(s);
    s->corpora = NULL;
    s->corpus_count = 0;
    s->purge = NULL;
}
