/* annex.c - see annex.h and annex_record.h. */
#include "storage/annex.h"

#include <stdlib.h>
#include <string.h>

#include "storage/annex_record.h"
#include "storage/artifact_file.h"
#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/catalog.h"
#include "storage/snapshot.h"

enum { FIXED = 16, FILE_BYTES = 16, KEY_FIXED = 5 };

struct annex {
    atomic_uint refs;
    struct annex_def def; /* name and text owned, artifacts by one reference each */
    size_t text_len;
    pthread_mutex_t lock; /* guards the rest */
    void *derived;
    void (*drop)(void *thing);
};

/* ---- Life ------------------------------------------------------------------------------------ */

struct annex *annex_new(const struct annex_def *def, size_t text_len)
{
    struct annex *a = mem_new(1, sizeof *a);

    require(def->artifact_count <= ANNEX_ARTIFACTS);
    atomic_init(&a->refs, 1);
    a->def = *def;
    a->def.name = mem_copy(def->name, strlen(def->name));
    a->def.text = mem_copy(def->text, text_len);
    a->text_len = text_len;
    for (size_t i = 0; i < def->artifact_count; i++)
        artifact_retain(def->artifacts[i]);
    pthread_mutex_init(&a->lock, NULL);
    return a;
}

const struct annex_def *annex_def(const struct annex *a)
{
    return &a->def;
}

void annex_retain(struct annex *a)
{
    atomic_fetch_add(&a->refs, 1);
}

void annex_release(struct annex *a)
{
    if (!a || atomic_fetch_sub(&a->refs, 1) != 1)
        return;
    if (a->derived)
        a->drop(a->derived);
    for (size_t i = 0; i < a->def.artifact_count; i++)
        artifact_release(a->def.artifacts[i]);
    pthread_mutex_destroy(&a->lock);
    free((void *)(uintptr_t)a->def.name);
    free((void *)(uintptr_t)a->def.text);
    free(a);
}

void *annex_derived(struct annex *a, annex_make *make, void (*drop)(void *thing), void *arg,
                    struct err *e)
{
    const unsigned char *bytes;
    void *thing;
    size_t len;

    /* It may point into them: they must still be right. */
    for (size_t i = 0; i < a->def.artifact_count; i++)
        if (artifact_map(a->def.artifacts[i], &bytes, &len, e))
            return NULL;
    pthread_mutex_lock(&a->lock);
    if (!a->derived) {
        a->derived = make(a, arg, e);
        a->drop = drop;
    }
    thing = a->derived;
    pthread_mutex_unlock(&a->lock);
    return thing;
}

uint64_t view_epoch(const struct view *v)
{
    return v->state ? v->state->def.epoch : 0;
}

/* ---- The record ------------------------------------------------------------------------------ */

struct key annex_record_prefix(void)
{
    unsigned char table = STORE_ANNEXES;

    return key_bytes(&table, 1);
}

static struct key record_key(uint32_t corpus, const char *name)
{
    struct key k = annex_record_prefix();

    bytes_put_be32(k.bytes + 1, corpus);
    memcpy(k.bytes + KEY_FIXED, name, strlen(name));
    k.len = KEY_FIXED + strlen(name);
    return k;
}

void annex_record_put(struct txn *t, uint32_t corpus, const struct annex *a)
{
    struct key k = record_key(corpus, a->def.name);
    unsigned char word[8];
    struct buf v = {0};

    bytes_put_le64(word, a->def.epoch);
    buf_add(&v, word, sizeof word);
    bytes_put_le64(word, a->def.artifact_count);
    buf_add(&v, word, sizeof word);
    for (size_t i = 0; i < a->def.artifact_count; i++) {
        bytes_put_le64(word, artifact_id(a->def.artifacts[i]));
        buf_add(&v, word, sizeof word);
        bytes_put_le64(word, artifact_bytes(a->def.artifacts[i]));
        buf_add(&v, word, sizeof word);
    }
    buf_add(&v, a->def.text, a->text_len);
    if (v.failed) {
        struct err e = ERR_INIT;

        (void)err_set(&e, ERR_BUSY, "no memory for a record");
        txn_fail(t, &e);
    } else {
        ledger_put_twice(t, LEDGER_RECORDS, &k, v.data, v.len);
    }
    buf_free(&v);
}

void annex_record_delete(struct txn *t, uint32_t corpus, const char *name)
{
    struct key k = record_key(corpus, name);

    ledger_delete_twice(t, LEDGER_RECORDS, &k);
}

void annex_record_delete_all(struct txn *t, uint32_t corpus)
{
    struct key prefix = record_key(corpus, "");
    struct cursor c;
    struct span k, v;

    cursor_open(&c, t, LEDGER_RECORDS);
    while (cursor_seek(&c, &prefix, &k, &v) && span_starts(k, prefix.bytes, prefix.len)) {
        struct key one = key_bytes(k.bytes, k.len);

        ledger_delete_twice(t, LEDGER_RECORDS, &one);
    }
    cursor_close(&c);
}

bool annex_record_files(struct span v, struct annex_file out[ANNEX_ARTIFACTS], size_t *out_count)
{
    uint64_t count;

    if (v.len < FIXED)
        return false;
    count = bytes_get_le64(v.bytes + 8);
    if (count > ANNEX_ARTIFACTS || v.len < FIXED + count * FILE_BYTES)
        return false;
    for (size_t i = 0; i < count; i++)
        out[i] = (struct annex_file){bytes_get_le64(v.bytes + FIXED + i * FILE_BYTES),
                                     bytes_get_le64(v.bytes + FIXED + i * FILE_BYTES + 8)};
    *out_count = (size_t)count;
    return true;
}

bool annex_record_name(struct span key, char out[STORE_NAME_MAX + 1])
{
    if (key.len < KEY_FIXED || key.len - KEY_FIXED > STORE_NAME_MAX)
        return false;
    memcpy(out, key.bytes + KEY_FIXED, key.len - KEY_FIXED);
    out[key.len - KEY_FIXED] = '\0';
    return true;
}

struct annex *annex_record_read(struct store *s, struct span key, struct span v,
                                uint32_t *out_corpus)
{
    struct annex_file files[ANNEX_ARTIFACTS];
    char name[STORE_NAME_MAX + 1];
    struct annex_def def = {.name = name};
    struct annex *a;
    size_t fixed;

    if (!annex_record_name(key, name) || !annex_record_files(v, files, &def.artifact_count))
        return NULL;
    fixed = FIXED + def.artifact_count * FILE_BYTES;
    def.epoch = bytes_get_le64(v.bytes);
    def.text = (const char *)v.bytes + fixed;
    for (size_t i = 0; i < def.artifact_count; i++)
        def.artifacts[i] = artifact_new(s, files[i].id, files[i].bytes);
    a = annex_new(&def, v.len - fixed);
    for (size_t i = 0; i < def.artifact_count; i++)
        artifact_release(def.artifacts[i]);
    *out_corpus = bytes_get_be32(key.bytes + 1);
    return a;
}

/* ---- The corpus's list ----------------------------------------------------------------------- */

void annex_adopt(struct annex *a)
{
    for (size_t i = 0; i < a->def.artifact_count; i++)
        artifact_adopt(a->def.artifacts[i]);
}

void annex_doom(struct annex *a)
{
    for (size_t i = 0; i < a->def.artifact_count; i++)
        artifact_doom(a->def.artifacts[i]);
}

/* The first entry whose name is not below. */
static size_t place_of(const struct corpus *c, const char *name)
{
    size_t i = 0;

    while (i < c->annex_count && strcmp(c->annexes[i]->def.name, name) < 0)
        i++;
    return i;
}

static bool stands_at(const struct corpus *c, size_t at, const char *name)
{
    return at < c->annex_count && strcmp(c->annexes[at]->def.name, name) == 0;
}

void annex_enlist(struct corpus *c, struct annex *a)
{
    struct annex **grown, *old = NULL;
    size_t at;

    pthread_mutex_lock(&c->lock);
    at = place_of(c, a->def.name);
    if (stands_at(c, at, a->def.name)) {
        old = c->annexes[at];
    } else {
        grown = mem_new(c->annex_count + 1, sizeof *grown);
        if (at)
            memcpy(grown, c->annexes, at * sizeof *grown);
        if (c->annex_count > at)
            memcpy(grown + at + 1, c->annexes + at, (c->annex_count - at) * sizeof *grown);
        free(c->annexes);
        c->annexes = grown;
        c->annex_count++;
    }
    c->annexes[at] = a;
    pthread_mutex_unlock(&c->lock);
    if (old)
        annex_doom(old);
    annex_adopt(a); /* after: what both have stays */
    annex_release(old);
}

void annex_delist(struct corpus *c, const char *name)
{
    struct annex *old = NULL;
    size_t at;

    pthread_mutex_lock(&c->lock);
    at = place_of(c, name);
    if (stands_at(c, at, name)) {
        old = c->annexes[at];
        c->annex_count--;
        memmove(c->annexes + at, c->annexes + at + 1, (c->annex_count - at) * sizeof *c->annexes);
    }
    pthread_mutex_unlock(&c->lock);
    if (old)
        annex_doom(old);
    annex_release(old);
}

struct annex *annex_find(struct corpus *c, const char *name)
{
    struct annex *a = NULL;
    size_t at;

    pthread_mutex_lock(&c->lock);
    at = place_of(c, name);
    if (stands_at(c, at, name)) {
        a = c->annexes[at];
        annex_retain(a);
    }
    pthread_mutex_unlock(&c->lock);
    return a;
}

size_t annex_list(struct corpus *c, struct annex ***out_list)
{
    struct annex **list;
    size_t count;

    pthread_mutex_lock(&c->lock);
    count = c->annex_count;
    list = mem_new(count, sizeof *list);
    for (size_t i = 0; i < count; i++) {
        list[i] = c->annexes[i];
        annex_retain(list[i]);
    }
    pthread_mutex_unlock(&c->lock);
    *out_list = list;
    return count;
}

/* ---- Writing --------------------------------------------------------------------------------- */

static int check_put(const struct corpus *c, const struct annex_def *def,
                 const struct annex *replaces, struct err *e)
{
    size_t at = place_of(c, def->name); /* the lane is the only one that changes the list */
    const struct annex *now = stands_at(c, at, def->name) ? c->annexes[at] : NULL;

    if (atomic_load(&c->dropped))
        return err_set(e, ERR_UNKNOWN_CORPUS, "corpus %s was dropped", c->def.name);
    if (!store_name_valid(def->name, strlen(def->name)))
        return err_set(e, ERR_INVALID, "a task name is [a-z0-9][a-z0-9_-]{0,62}");
    if (strlen(def->text) > ANNEX_TEXT_MAX)
        return err_set(e, ERR_TOO_LARGE, "a record of %zu bytes; at most 1 MiB", strlen(def->text));
    if (def->epoch != view_epoch(c->view))
        return err_set(e, ERR_STALE, "corpus %s was fitted meanwhile (epoch %llu, now %llu)",
                       c->def.name, (unsigned long long)def->epoch,
                       (unsigned long long)view_epoch(c->view));
    if (now != replaces)
        return err_set(e, ERR_CONFLICT, "task %s of corpus %s %s", def->name, c->def.name,
                       now ? "was replaced meanwhile" : "was deleted meanwhile");
    return 0;
}

int annex_put(struct corpus *c, const struct annex_def *def, const struct annex *replaces,
              struct err *e)
{
    struct ledger_meta meta = c->store->meta;
    struct annex *a;
    struct txn t;

    if (catalog_may_write(c->store, e) || check_put(c, def, replaces, e) ||
        db_make_room(&c->store->ledger, 2 * strlen(def->text) + (UINT64_C(1) << 20), e))
        return (int)e->code;
    a = annex_new(def, strlen(def->text));
    ledger_raise_format(&meta, LEDGER_FORMAT_ANNEXES);
    txn_begin_write(&t, &c->store->ledger);
    annex_record_put(&t, c->id, a);
    ledger_put_meta(&t, &meta);
    if (txn_commit(&t, e)) {
        annex_release(a);
        return (int)e->code;
    }
    c->store->meta = meta;
    annex_enlist(c, a);
    return 0;
}

int annex_delete(struct corpus *c, const char *name, struct err *e)
{
    struct txn t;

    if (catalog_may_write(c->store, e))
        return (int)e->code;
    if (!*name || !stands_at(c, place_of(c, name), name))
        return err_set(e, ERR_UNKNOWN_TASK, "corpus %s has no task \"%.64s\"", c->def.name, name);
    txn_begin_write(&t, &c->store->ledger);
    annex_record_delete(&t, c->id, name);
    if (txn_commit(&t, e))
        return (int)e->code;
    annex_delist(c, name);
    return 0;
}
