/* shard.c - see shard.h. */
#include "storage/shard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/base/plant.h"
#include "storage/fs.h"

/* Room beside the chunks: inner pages, page rounding, the free list of a removed orphan. */
#define SHARD_SLACK (UINT64_C(16) << 20)

/* ---- Home ------------------------------------------------------------------------------------ */

void shard_home_init(struct shard_home *h, const char *store_dir, struct db_latch *latch)
{
    *h = (struct shard_home){.dir = fs_join(store_dir, "shards"), .latch = latch};
    pthread_mutex_init(&h->lock, NULL);
}

void shard_home_fini(struct shard_home *h)
{
    require(h->holds == 0);
    free(h->waiting);
    free(h->dir);
    pthread_mutex_destroy(&h->lock);
}

void shard_home_hold(struct shard_home *h)
{
    pthread_mutex_lock(&h->lock);
    h->holds++;
    pthread_mutex_unlock(&h->lock);
}

/* What cannot be removed now is removed at the next open: the ledger does not name it. */
static void remove_dir(const char *dir)
{
    struct err e = ERR_INIT;

    (void)fs_remove_tree(dir, 0, &e);
}

void shard_home_release(struct shard_home *h)
{
    char **waiting = NULL;
    size_t count = 0;

    pthread_mutex_lock(&h->lock);
    if (--h->holds == 0) {
        waiting = h->waiting;
        count = h->waiting_count;
        h->waiting = NULL;
        h->waiting_count = 0;
    }
    pthread_mutex_unlock(&h->lock);
    for (size_t i = 0; i < count; i++) {
        remove_dir(waiting[i]);
        free(waiting[i]);
    }
    free(waiting);
}

/* Removes the directory, or leaves that to the end of the backup that may be copying it. */
static void bury(struct shard_home *h, const char *dir)
{
    bool now;

    pthread_mutex_lock(&h->lock);
    now = h->holds == 0;
    if (!now) {
        char **grown = realloc(h->waiting, (h->waiting_count + 1) * sizeof *grown);

        if (grown) {
            h->waiting = grown;
            h->waiting[h->waiting_count++] = mem_copy(dir, strlen(dir));
        }
    }
    pthread_mutex_unlock(&h->lock);
    if (now)
        remove_dir(dir);
}

struct shard *shard_home_find(struct shard_home *h, uint32_t id)
{
    struct shard *s;

    pthread_mutex_lock(&h->lock);
    for (s = h->first; s; s = s->next) {
        unsigned refs = atomic_load(&s->refs);

        if (s->id != id)
            continue;
        while (refs > 0 && !atomic_compare_exchange_weak(&s->refs, &refs, refs + 1))
            ;
        if (refs > 0)
            break;
    }
    pthread_mutex_unlock(&h->lock);
    return s;
}

static void enlist(struct shard_home *h, struct shard *s)
{
    pthread_mutex_lock(&h->lock);
    s->next = h->first;
    s->link = &h->first;
    if (h->first)
        h->first->link = &s->next;
    h->first = s;
    pthread_mutex_unlock(&h->lock);
}

static void delist(struct shard_home *h, struct shard *s)
{
    pthread_mutex_lock(&h->lock);
    *s->link = s->next;
    if (s->next)
        s->next->link = s->link;
    pthread_mutex_unlock(&h->lock);
}

/* ---- Life ------------------------------------------------------------------------------------ */

void shard_name(uint32_t id, char out[SHARD_NAME_BYTES])
{
    snprintf(out, SHARD_NAME_BYTES, "%06u", (unsigned)id);
}

struct shard *shard_new(struct shard_home *home, uint32_t id, const struct shard_corpus *corpus,
                        bool sealed, uint64_t tail)
{
    struct shard *s = mem_new(1, sizeof *s);
    char name[SHARD_NAME_BYTES];

    shard_name(id, name);
    atomic_init(&s->refs, 1);
    atomic_init(&s->sealed, sealed);
    s->id = id;
    s->home = home;
    s->corpus = *corpus;
    s->dir = fs_join(home->dir, name);
    s->tail = tail;
    pthread_mutex_init(&s->lock, NULL);
    enlist(home, s);
    return s;
}

void shard_retain(struct shard *s)
{
    atomic_fetch_add(&s->refs, 1);
}

void shard_release(struct shard *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    delist(s->home, s); /* from here on nobody finds it */
    shard_close(s);
    if (atomic_load(&s->doomed))
        bury(s->home, s->dir);
    pthread_mutex_destroy(&s->lock);
    shard_seen_free(s);
    free(s->dir);
    free(s);
}

/* A chunk larger than a whole shard still gets one: the map is sized by what it must hold. */
static uint64_t map_bytes(const struct shard *s, uint64_t room)
{
    uint64_t map = s->home->shard_bytes > room ? s->home->shard_bytes : room;

    return map + map / 8 + SHARD_SLACK;
}

/* LMDB would make an empty environment where the ledger's shard is gone. */
static int check_present(const struct shard *s, struct err *e)
{
    char *data = fs_join(s->dir, "data.mdb");
    bool present = fs_exists(data);

    free(data);
    return present ? 0 : err_set(e, ERR_CORRUPT, "%s/data.mdb is missing", s->dir);
}

/* Under s->lock. */
static int open_db(struct shard *s, bool fresh, uint64_t room, bool no_sync, struct err *e)
{
    bool read_only = s->home->read_only || atomic_load(&s->sealed);
    struct db_options o = {.map_bytes = map_bytes(s, room),
                           .table_count = 1,
                           .read_only = read_only && !no_sync,
                           .fresh = fresh,
                           .no_sync = no_sync,
                           .no_read_ahead = true};
    int rc;

    if (s->is_open)
        return 0;
    if (o.read_only)
        o.map_bytes = 1 << 20; /* raised by LMDB to the file's size: nothing will be added */
    rc = db_open(&s->db, s->dir, &o, s->home->latch, e);
    if (rc == 0)
        s->is_open = true;
    return rc;
}

int shard_make(struct shard_home *home, uint32_t id, const struct shard_corpus *corpus,
               uint64_t room, bool no_sync, struct shard **out, struct err *e)
{
    struct shard *s = shard_new(home, id, corpus, false, 0);
    int rc = fs_remove_tree(s->dir, 0, e); /* of a commit that failed; no ledger ever named it */

    if (rc == 0)
        rc = fs_make_dir(s->dir, false, e);
    if (rc == 0) {
        pthread_mutex_lock(&s->lock);
        rc = open_db(s, true, room, no_sync, e);
        pthread_mutex_unlock(&s->lock);
    }
    if (rc == 0 && !planted(SHARD_DIR_UNSYNCED))
        rc = fs_sync_dir(s->dir, e);
    if (rc == 0)
        rc = fs_sync_dir(home->dir, e);
    if (rc) {
        if (rc == ERR_SYNC_FAILED)
            atomic_store(&home->latch->failed, true);
        atomic_store(&s->doomed, true);
        shard_release(s);
        return rc;
    }
    *out = s;
    return 0;
}

void shard_close(struct shard *s)
{
    pthread_mutex_lock(&s->lock);
    if (s->is_open)
        db_close(&s->db);
    s->is_open = false;
    pthread_mutex_unlock(&s->lock);
}

int shard_settle(struct shard *s, struct err *e)
{
    int rc = db_sync(&s->db, e);

    shard_close(s);
    return rc;
}

/* ---- Transactions ---------------------------------------------------------------------------- */

/* The environment, opened if need be; false with the error in t. The handle stays valid while the
 * caller holds a reference. */
static bool ready(struct shard *s, struct txn *t)
{
    struct err e = ERR_INIT;
    int rc;

    pthread_mutex_lock(&s->lock);
    rc = s->is_open ? 0 : check_present(s, &e);
    if (rc == 0)
        rc = open_db(s, false, 0, false, &e);
    pthread_mutex_unlock(&s->lock);
    if (rc == 0)
        return true;
    if (rc == ERR_CORRUPT && !atomic_exchange(&s->unreadable, true))
        atomic_fetch_add(&s->home->damage, 1);
    err_wrap(&e, "corpus %s: shard %06u: ", s->corpus.name, (unsigned)s->id);
    *t = (struct txn){.db = &s->db, .err = e};
    return false;
}

void shard_begin_read(struct shard *s, struct txn *t)
{
    if (ready(s, t))
        txn_begin_read(t, &s->db);
}

/* A commit that did not reach the ledger may have left chunks here; their ids are past the tail. */
static void drop_past_tail(struct shard *s, struct txn *t)
{
    struct span key, value;
    struct cursor c;

    cursor_open(&c, t, 0);
    while (cursor_last(&c, &key, &value) && key.len == 9 && bytes_get_be64(key.bytes) > s->tail)
        cursor_delete(&c);
    cursor_close(&c);
}

void shard_begin_write(struct shard *s, struct txn *t)
{
    if (!ready(s, t))
        return;
    txn_begin_write(t, &s->db);
    drop_past_tail(s, t);
}

bool shard_has_orphans(struct shard *s)
{
    struct span key, value;
    struct cursor c;
    struct txn t;
    bool found;

    shard_begin_read(s, &t);
    cursor_open(&c, &t, 0);
    found = cursor_last(&c, &key, &value) && key.len == 9 && bytes_get_be64(key.bytes) > s->tail;
    cursor_close(&c);
    txn_abort(&t);
    return found;
}

bool shard_is_lost(struct shard *s)
{
    struct txn t;

    return !ready(s, &t) && t.err.code == ERR_CORRUPT;
}

uint64_t shard_used(struct shard *s)
{
    struct txn t;

    return ready(s, &t) ? db_used(&s->db) : 0;
}

void shard_clear_readers(struct shard *s)
{
    pthread_mutex_lock(&s->lock);
    if (s->is_open)
        db_clear_readers(&s->db);
    pthread_mutex_unlock(&s->lock);
}

uint64_t shard_file_bytes(const struct shard *s)
{
    char *data = fs_join(s->dir, "data.mdb");
    uint64_t bytes = fs_size(data);

    free(data);
    return bytes;
}

int shard_copy(struct shard *s, const char *path, fs_report *report, void *arg, struct err *e)
{
    bool is_static = atomic_load(&s->sealed) || s->home->read_only;
    struct txn t;
    int rc;

    if (is_static) {
        char *data = fs_join(s->dir, "data.mdb");

        rc = fs_copy_file(data, path, report, arg, e);
        free(data);
        return rc;
    }
    if (!ready(s, &t)) {
        *e = t.err;
        return (int)e->code;
    }
    rc = db_copy(&s->db, path, e);
    if (rc == 0 && report && !report(arg, fs_size(path)))
        rc = err_set(e, ERR_CANCELLED, "cancelled while copying %s", s->dir);
    return rc;
}
