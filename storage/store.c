/* store.c - opening, closing and looking after a store. Corpora are made in storage/define.c, the
 * small records are in storage/record.c. */
#include "storage/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "storage/annex.h"
#include "storage/artifact_file.h"
#include "storage/base/mem.h"
#include "storage/base/plant.h"
#include "storage/catalog.h"
#include "storage/chunk.h"
#include "storage/fs.h"
#include "storage/heal.h"
#include "storage/pages.h"

#define FORMAT_TEXT "ascribe store "
enum { FORMAT_VERSION = 1, FORMAT_FILE_MAX = 64 };

/* Opening a shard's environment costs some 100 us; past this many, orphans wait for the next
 * write. */
enum { TIDY_SHARDS_MAX = 256 };

/* ---- What is in the directory ---------------------------------------------------------------- */

struct contents {
    bool has_format, has_ours, has_other;
    char other[64];
};

/* A fresh file system has a lost+found; everything else here is ours or somebody's. */
static bool look_at(void *arg, const char *name)
{
    static const char *const ours[] = {"LOCK", "FORMAT.part", "ledger", "shards"};
    struct contents *c = arg;
    bool known = strcmp(name, "lost+found") == 0;

    if (strcmp(name, "FORMAT") == 0)
        c->has_format = true;
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        if (strcmp(name, ours[i]) == 0)
            c->has_ours = known = true;
    if (!known && !c->has_format && !c->has_other) {
        c->has_other = true;
        snprintf(c->other, sizeof c->other, "%s", name);
    }
    return true;
}

static int read_format(const char *dir, struct err *e)
{
    char *path = fs_join(dir, "FORMAT"), text[FORMAT_FILE_MAX], *end;
    size_t len, head = strlen(FORMAT_TEXT);
    unsigned long version = 0;
    int rc = fs_read_file(path, text, sizeof text, &len, e);

    if (rc == 0 && strncmp(text, FORMAT_TEXT, head) == 0) {
        version = strtoul(text + head, &end, 10);
        if (*end != '\n')
            version = 0;
    }
    if (rc == 0 && version == 0)
        rc = err_set(e, ERR_INVALID, "%s does not say the format of a store", path);
    else if (rc == 0 && version != FORMAT_VERSION)
        rc = err_set(e, ERR_CONFLICT, "%s has format %lu, this program knows %d", dir, version,
                     FORMAT_VERSION);
    free(path);
    return rc;
}

/* Decides what `dir` is before anything in it is touched. *out_fresh: to be made (or made up). */
static int inspect(const char *dir, const struct store_options *o, bool *out_fresh, struct err *e)
{
    struct contents c = {0};

    *out_fresh = false;
    if (!fs_exists(dir)) {
        *out_fresh = true;
        if (o->create && !o->read_only)
            return 0;
        return err_set(e, ERR_INVALID, "%s: no such store", dir);
    }
    if (!fs_is_dir(dir))
        return err_set(e, ERR_INVALID, "%s is not a directory", dir);
    if (fs_list(dir, look_at, &c, e))
        return (int)e->code;
    if (c.has_format)
        return read_format(dir, e);
    if (c.has_other)
        return err_set(e, ERR_INVALID, "%s is not a store: it holds %s and no FORMAT", dir,
                       c.other);
    *out_fresh = true; /* empty, or left by a creation that was cut off before FORMAT */
    if (o->create && !o->read_only)
        return 0;
    return err_set(e, ERR_INVALID, "%s is empty, not a store", dir);
}

static int take_lock(struct store *s, bool shared, struct err *e)
{
    char *path = fs_join(s->dir, "LOCK");
    int flags = shared ? O_RDONLY : O_RDWR | O_CREAT;
    int rc = 0;

    s->lock_fd = open(path, flags | O_CLOEXEC, 0600);
    if (s->lock_fd < 0)
        rc = err_errno(e, errno, path);
    else if (flock(s->lock_fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0 &&
             !planted(LOCK_IGNORED))
        rc = errno == EWOULDBLOCK
                 ? err_set(e, ERR_BUSY, "store %s is in use by another process", s->dir)
                 : err_errno(e, errno, path);
    free(path);
    return rc;
}

/* ---- Create ---------------------------------------------------------------------------------- */

static int write_first_records(struct store *s, struct err *e)
{
    struct ledger_meta m;
    struct txn t;

    txn_begin_write(&t, &s->ledger);
    if (!ledger_get_meta(&t, &m)) {
        m = (struct ledger_meta){
            .format = LEDGER_FORMAT, .next_corpus = 1, .next_shard = 1, .next_chunk = 1};
        ledger_put_meta(&t, &m);
    }
    return txn_commit(&t, e);
}

static bool no_entry(void *arg, const char *name)
{
    (void)name;
    *(bool *)arg = false;
    return false;
}

/* A ledger whose making was cut off may be torn. As long as there are no shards, nothing lies in
 * it. */
static int drop_torn_ledger(struct store *s, const char *ledger_dir, struct err *e)
{
    char *data = fs_join(ledger_dir, "data.mdb");
    struct err why = ERR_INIT;
    bool empty = true;
    int rc = fs_list(s->home.dir, no_entry, &empty, e);

    if (rc == 0 && empty && pages_check(data, PAGES_AT_OPEN, true, &why) == ERR_CORRUPT &&
        unlink(data) != 0)
        rc = err_errno(e, errno, data);
    free(data);
    return rc;
}

/* FORMAT comes last: a directory without it was never a store, and is simply made again. */
static int create(struct store *s, const char *ledger_dir, struct err *e)
{
    char text[FORMAT_FILE_MAX], *path = fs_join(s->dir, "FORMAT");
    int rc = fs_make_dir(ledger_dir, true, e);

    if (rc == 0)
        rc = fs_make_dir(s->home.dir, true, e);
    if (rc == 0)
        rc = drop_torn_ledger(s, ledger_dir, e);
    if (rc == 0)
        rc = ledger_open(&s->ledger, ledger_dir, false, &s->latch, e);
    if (rc == 0)
        rc = write_first_records(s, e);
    if (rc == 0)
        rc = fs_sync_dir(ledger_dir, e);
    if (rc == 0)
        rc = fs_sync_dir(s->dir, e); /* what FORMAT speaks for is there before it */
    snprintf(text, sizeof text, FORMAT_TEXT "%d\n", FORMAT_VERSION);
    if (rc == 0)
        rc = fs_write_file(path, text, strlen(text), e);
    if (rc == 0)
        rc = fs_sync_parent(s->dir, e);
    free(path);
    return rc;
}

/* ---- Tidy ------------------------------------------------------------------------------------ */

struct tidy {
    struct store *s;
    const uint32_t *named; /* shards of the ledger, ascending */
    size_t count;
    struct err *e;
    int rc;
};

static bool is_named(const struct tidy *t, unsigned long id)
{
    size_t low = 0, high = t->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (t->named[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < t->count && t->named[low] == id;
}

/* Only directories with the name of a shard are ours to remove. */
static bool tidy_entry(void *arg, const char *name)
{
    struct tidy *t = arg;
    char *end, *path;
    unsigned long id = strtoul(name, &end, 10);

    if (end == name || *end != '\0' || strlen(name) < 6 || is_named(t, id))
        return true;
    path = fs_join(t->s->home.dir, name);
    t->rc = fs_remove_tree(path, 0, t->e);
    free(path);
    return t->rc == 0;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static int list_shards(struct store *s, uint32_t **out, size_t *out_count, struct err *e)
{
    struct ledger_walk w;
    struct span key, value;
    struct buf ids = {0};
    struct txn t;

    txn_begin_read(&t, &s->ledger);
    ledger_walk_begin(&w, &t, LEDGER_SHARDS, NULL);
    while (ledger_walk_next(&w, &key, &value)) {
        uint32_t id = key.len == 4 ? bytes_get_be32(key.bytes) : 0;

        buf_add(&ids, &id, sizeof id);
    }
    ledger_walk_end(&w);
    txn_abort(&t);
    if (t.err.code != ERR_OK || ids.failed) {
        buf_free(&ids);
        if (t.err.code == ERR_OK)
            return err_set(e, ERR_BUSY, "%s: no memory for the list of shards", s->dir);
        *e = t.err;
        return (int)e->code;
    }
    *out = (uint32_t *)(void *)ids.data;
    *out_count = ids.len / sizeof **out;
    if (*out_count)
        qsort(*out, *out_count, sizeof **out, by_number);
    return 0;
}

/* Chunks of a commit that did not reach the ledger lie in the active shard, past its tail. */
static int drop_orphans(struct store *s, struct err *e)
{
    int rc = 0;

    if (s->corpus_count > TIDY_SHARDS_MAX)
        return 0;
    for (size_t i = 0; rc == 0 && i < s->corpus_count; i++) {
        struct shard *active = s->corpora[i]->active;

        if (!active)
            continue;
        if (shard_has_orphans(active)) {
            struct txn t;

            shard_begin_write(active, &t);
            rc = txn_commit(&t, e);
        }
        shard_close(active); /* opened again at its first use: descriptors are few */
    }
    return rc;
}

static bool tidy_backup(void *arg, const char *name)
{
    struct tidy *t = arg;
    size_t len = strlen(name);
    char *backups, *path;

    if (len < 6 || strcmp(name + len - 5, ".part") != 0)
        return true;
    backups = fs_join(t->s->dir, "backups");
    path = fs_join(backups, name);
    t->rc = fs_remove_tree(path, 2, t->e);
    free(path);
    free(backups);
    return t->rc == 0;
}

static void add_files(struct buf *ids, const struct annex *a)
{
    const struct annex_def *def = annex_def(a);

    for (size_t i = 0; i < def->artifact_count; i++) {
        uint64_t id = artifact_id(def->artifacts[i]);

        buf_add(ids, &id, sizeof id);
    }
}

/* What a fit or a task that was cut off left behind. */
static int tidy_artifacts(struct store *s, struct err *e)
{
    struct buf ids = {0};
    int rc;

    for (size_t i = 0; i < s->corpus_count; i++) {
        if (s->corpora[i]->state)
            add_files(&ids, s->corpora[i]->state);
        for (size_t k = 0; k < s->corpora[i]->annex_count; k++)
            add_files(&ids, s->corpora[i]->annexes[k]);
    }
    rc = ids.failed ? err_set(e, ERR_BUSY, "%s: no memory for the list of artifacts", s->dir)
                    : artifact_tidy(s, (const uint64_t *)(const void *)ids.data,
                                    ids.len / sizeof(uint64_t), e);
    buf_free(&ids);
    return rc;
}

static int tidy(struct store *s, struct err *e)
{
    struct tidy t = {.s = s, .e = e};
    char *backups = fs_join(s->dir, "backups");
    uint32_t *named = NULL;
    int rc = list_shards(s, &named, &t.count, e);

    t.named = named;
    if (rc == 0)
        rc = fs_list(s->home.dir, tidy_entry, &t, e);
    if (rc == 0 && t.rc == 0)
        rc = tidy_artifacts(s, e);
    if (rc == 0 && t.rc == 0 && fs_is_dir(backups))
        rc = fs_list(backups, tidy_backup, &t, e);
    if (rc == 0)
        rc = t.rc;
    if (rc == 0)
        rc = drop_orphans(s, e);
    free(named);
    free(backups);
    return rc;
}

/* ---- Open and close -------------------------------------------------------------------------- */

static int check_options(const struct store_options *o, struct err *e)
{
    if (o->chunk_bytes > UINT64_C(1) << 30)
        return err_set(e, ERR_INVALID, "chunks of %llu bytes; at most 1 GiB",
                       (unsigned long long)o->chunk_bytes);
    if (o->shard_bytes > UINT64_C(1) << 42)
        return err_set(e, ERR_INVALID, "shards of %llu bytes; at most 4 TiB",
                       (unsigned long long)o->shard_bytes);
    return 0;
}

static int open_files(struct store *s, const struct store_options *o, bool fresh, struct err *e)
{
    char *ledger_dir = fs_join(s->dir, "ledger");
    int rc = 0;

    if (fresh)
        rc = fs_make_dir(s->dir, true, e);
    if (rc == 0)
        rc = take_lock(s, o->read_only, e);
    if (rc == 0 && fresh)
        rc = create(s, ledger_dir, e);
    else if (rc == 0)
        rc = ledger_open(&s->ledger, ledger_dir, o->read_only, &s->latch, e);
    if (rc == 0)
        rc = catalog_load(s, e);
    if (rc == 0 && !o->read_only)
        rc = heal_write(s, e);
    if (rc == 0 && !o->read_only)
        rc = tidy(s, e);
    free(ledger_dir);
    return rc;
}

int store_open(const char *dir, const struct store_options *options, struct store **out_store,
               struct err *e)
{
    struct store *s;
    bool fresh;
    int rc;

    if (check_options(options, e) || inspect(dir, options, &fresh, e))
        return (int)e->code;
    s = mem_new(1, sizeof *s);
    s->dir = mem_copy(dir, strlen(dir));
    s->lock_fd = -1;
    s->read_only = options->read_only;
    s->coder = options->coder;
    s->chunk_bytes = options->chunk_bytes ? options->chunk_bytes : STORE_CHUNK_BYTES;
    atomic_init(&s->latch.failed, false);
    pthread_mutex_init(&s->lock, NULL);
    shard_home_init(&s->home, dir, &s->latch);
    s->home.shard_bytes = options->shard_bytes ? options->shard_bytes : STORE_SHARD_BYTES;
    s->home.read_only = options->read_only;
    rc = open_files(s, options, fresh, e);
    if (rc) {
        store_close(s);
        return rc;
    }
    *out_store = s;
    return 0;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    catalog_free(s);
    db_close(&s->ledger);
    shard_home_fini(&s->home);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    pthread_mutex_destroy(&s->lock);
    free(s->dir);
    free(s);
}

const char *store_dir(const struct store *s)
{
    return s->dir;
}

bool store_has_failed(const struct store *s)
{
    return atomic_load(&s->latch.failed);
}

size_t store_healed(const struct store *s)
{
    return s->healed_count;
}

const char *store_healed_line(const struct store *s, size_t i)
{
    return s->healed[i].line;
}

uint64_t store_damage(const struct store *s)
{
    return atomic_load(&s->home.damage);
}

void store_recheck(struct store *s)
{
    atomic_fetch_add(&s->home.round, 1);
}

bool store_name_valid(const char *name, size_t len)
{
    if (len == 0 || len > STORE_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

        if (!plain && (i == 0 || (c != '-' && c != '_')))
            return false;
    }
    return true;
}

/* ---- Operators ------------------------------------------------------------------------------- */

static void add_corpus(struct store_stats *out, struct corpus *c)
{
    struct corpus_stats st;
    const struct view *v = corpus_view(c);

    corpus_stats(c, &st);
    out->corpora++;
    out->shards += st.shards;
    out->chunks += st.chunks;
    out->batches += st.batches;
    out->examples += st.examples;
    out->tombstones += st.tombstones;
    for (size_t i = 0; i < v->chunk_count; i++)
        if (i == 0 || v->chunks[i].shard != v->chunks[i - 1].shard)
            out->bytes_shards += shard_file_bytes(v->chunks[i].shard);
    view_release(v);
}

void store_stats(struct store *s, struct store_stats *out)
{
    char *ledger = fs_join(s->dir, "ledger/data.mdb");
    struct corpus **list;
    size_t count = store_corpus_list(s, &list);

    *out = (struct store_stats){.bytes_ledger = fs_size(ledger),
                                .readers = db_readers(&s->ledger)};
    for (size_t i = 0; i < count; i++) {
        add_corpus(out, list[i]);
        corpus_release(list[i]);
    }
    free(list);
    free(ledger);
}

static void clear_corpus(struct corpus *c)
{
    const struct view *v = corpus_view(c);

    for (size_t i = 0; i < v->chunk_count; i++)
        if (i == 0 || v->chunks[i].shard != v->chunks[i - 1].shard)
            shard_clear_readers(v->chunks[i].shard);
    view_release(v);
}

void store_housekeep(struct store *s)
{
    struct corpus **list;
    size_t count = store_corpus_list(s, &list);

    db_clear_readers(&s->ledger);
    for (size_t i = 0; i < count; i++) {
        clear_corpus(list[i]);
        corpus_release(list[i]);
    }
    free(list);
}
