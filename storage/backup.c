/* backup.c - backup_store and restore_store of maintain.h.
 *
 * The ledger is copied first, at one moment; then every shard it names. Shards only grow, so what
 * is copied later holds at least what the ledger names, and what is past it does not exist.
 * Meanwhile no shard directory is removed. The copy is a store: it is written beside, synced, and
 * renamed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/annex_record.h"
#include "storage/artifact_file.h"
#include "storage/base/mem.h"
#include "storage/catalog.h"
#include "storage/fs.h"
#include "storage/maintain.h"
#include "storage/reuse.h"

struct copy {
    struct store *s;
    const char *part; /* where it is written */
    const struct maintain_progress *progress;
    uint64_t done, total, stage_total; /* total: what all stages together report */
    struct reuse reuse;                /* of an older backup */
    struct backup_report *out;         /* or NULL */
    struct err *e;
};

static bool report(void *arg, uint64_t bytes)
{
    struct copy *c = arg;

    c->done += bytes;
    return !c->progress || !c->progress->report ||
           c->progress->report(c->progress->arg, c->done, c->total);
}

/* ---- Which shards the copied ledger names ---------------------------------------------------- */

static int named_shards(struct copy *c, const char *ledger_dir, struct buf *out)
{
    struct db_latch latch = {0};
    struct ledger_walk w;
    struct span key, value;
    struct db ledger;
    struct txn t;
    int rc;

    if (ledger_open(&ledger, ledger_dir, true, &latch, c->e))
        return (int)c->e->code;
    txn_begin_read(&t, &ledger);
    ledger_walk_begin(&w, &t, LEDGER_SHARDS, NULL);
    while (ledger_walk_next(&w, &key, &value)) {
        uint32_t id = bytes_get_be32(key.bytes);

        buf_add(out, &id, sizeof id);
    }
    ledger_walk_end(&w);
    txn_abort(&t);
    db_close(&ledger);
    rc = (int)t.err.code;
    if (rc)
        *c->e = t.err;
    else if (out->failed)
        rc = err_set(c->e, ERR_BUSY, "no memory for the list of shards");
    return rc;
}

/* ---- Pieces ---------------------------------------------------------------------------------- */

static void count_shard(struct copy *c, bool linked, uint64_t bytes)
{
    if (!c->out)
        return;
    c->out->shards_linked += linked;
    c->out->shards_copied += !linked;
    *(linked ? &c->out->bytes_linked : &c->out->bytes_copied) += bytes;
}

/* Without a handle nothing writes to the shard, and its file is copied as it lies there. */
static int copy_shard(struct copy *c, const char *shards_dir, uint32_t id)
{
    struct shard *live = shard_home_find(&c->s->home, id);
    char name[SHARD_NAME_BYTES], *dir, *file, *from_dir, *from;
    bool linked;
    int rc;

    shard_name(id, name);
    dir = fs_join(shards_dir, name);
    file = fs_join(dir, "data.mdb");
    from_dir = fs_join(c->s->home.dir, name);
    from = fs_join(from_dir, "data.mdb");
    rc = fs_make_dir(dir, false, c->e);
    linked = rc == 0 && reuse_shard(&c->reuse, live, file);
    if (linked && !report(c, shard_file_bytes(live)))
        rc = err_set(c->e, ERR_CANCELLED, "cancelled at shard %s", name);
    if (rc == 0 && !linked)
        rc = live ? shard_copy(live, file, report, c, c->e)
                  : fs_copy_file(from, file, report, c, c->e);
    if (rc == 0)
        rc = fs_sync_dir(dir, c->e);
    if (rc == 0)
        count_shard(c, linked, fs_size(file));
    shard_release(live);
    free(from);
    free(from_dir);
    free(file);
    free(dir);
    return rc;
}

static uint64_t shard_bytes(struct copy *c, uint32_t id)
{
    char name[SHARD_NAME_BYTES + 16], *path;
    uint64_t bytes;

    shard_name(id, name);
    memcpy(name + strlen(name), "/data.mdb", sizeof "/data.mdb");
    path = fs_join(c->s->home.dir, name);
    bytes = fs_size(path);
    free(path);
    return bytes;
}

static int copy_shards(struct copy *c, const char *ledger_dir, uint64_t stages)
{
    char *dir = fs_join(c->part, "shards");
    struct buf ids = {0};
    int rc = named_shards(c, ledger_dir, &ids);
    size_t count = ids.len / sizeof(uint32_t);

    for (size_t i = 0; i < count; i++)
        c->stage_total += shard_bytes(c, bytes_get_le32(ids.data + i * 4));
    c->total = c->stage_total * stages;
    if (rc == 0)
        rc = fs_make_dir(dir, false, c->e);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = copy_shard(c, dir, bytes_get_le32(ids.data + i * 4));
    if (rc == 0)
        rc = fs_sync_dir(dir, c->e);
    buf_free(&ids);
    free(dir);
    return rc;
}

/* The files behind the copied ledger's annexes, by walking their records. */
static int named_artifacts(struct copy *c, const char *ledger_dir, struct buf *out)
{
    struct db_latch latch = {0};
    struct key prefix = annex_record_prefix();
    struct ledger_walk w;
    struct span key, value;
    struct db ledger;
    struct txn t;
    int rc = 0;

    if (ledger_open(&ledger, ledger_dir, true, &latch, c->e))
        return (int)c->e->code;
    txn_begin_read(&t, &ledger);
    ledger_walk_begin(&w, &t, LEDGER_RECORDS, &prefix);
    while (rc == 0 && ledger_walk_next(&w, &key, &value)) {
        struct annex_file files[ANNEX_ARTIFACTS];
        size_t count;

        if (annex_record_files(value, files, &count))
            buf_add(out, files, count * sizeof *files);
        else
            rc = err_set(c->e, ERR_CORRUPT, "ledger: the record of a state or task is damaged");
    }
    ledger_walk_end(&w);
    txn_abort(&t);
    db_close(&ledger);
    if (rc == 0 && t.err.code != ERR_OK) {
        *c->e = t.err;
        rc = (int)t.err.code;
    }
    if (rc == 0 && out->failed)
        rc = err_set(c->e, ERR_BUSY, "no memory for the list of artifacts");
    return rc;
}

/* Immutable: copied as they lie there. Held with the shards, none is removed meanwhile. */
static int copy_artifacts(struct copy *c, const char *ledger_dir)
{
    char *dir = fs_join(c->part, ARTIFACT_DIR);
    struct buf list = {0};
    int rc = named_artifacts(c, ledger_dir, &list);
    const struct annex_file *files = (const struct annex_file *)(const void *)list.data;
    size_t count = list.len / sizeof *files;

    for (size_t i = 0; rc == 0 && i < count; i++)
        c->total += artifact_file_bytes(files[i].bytes);
    if (rc == 0 && count)
        rc = fs_make_dir(dir, false, c->e);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = artifact_copy(c->s->dir, c->part, files[i].id, report, c, c->e);
    if (rc == 0 && count)
        rc = fs_sync_dir(dir, c->e);
    buf_free(&list);
    free(dir);
    return rc;
}

static int copy_marks(struct copy *c)
{
    char *from = fs_join(c->s->dir, "FORMAT"), *to = fs_join(c->part, "FORMAT"),
         *lock = fs_join(c->part, "LOCK");
    int fd = open(lock, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int rc = fd < 0 ? err_errno(c->e, errno, lock) : 0;

    if (fd >= 0)
        close(fd);
    if (rc == 0)
        rc = fs_copy_file(from, to, NULL, NULL, c->e);
    free(from);
    free(to);
    free(lock);
    return rc;
}

/* The whole store into `part`, durable. FORMAT last, as when a store is made. */
static int copy_store(struct copy *c, uint64_t stages)
{
    char *ledger_dir = fs_join(c->part, "ledger"), *ledger = fs_join(ledger_dir, "data.mdb");
    int rc = fs_make_dir(c->part, false, c->e);

    shard_home_hold(&c->s->home);
    if (rc == 0)
        rc = fs_make_dir(ledger_dir, false, c->e);
    if (rc == 0)
        rc = db_copy(&c->s->ledger, ledger, c->e);
    if (rc == 0)
        rc = fs_sync_dir(ledger_dir, c->e);
    if (rc == 0)
        rc = copy_shards(c, ledger_dir, stages);
    if (rc == 0)
        rc = copy_artifacts(c, ledger_dir);
    shard_home_release(&c->s->home);
    if (rc == 0)
        rc = copy_marks(c);
    if (rc == 0)
        rc = fs_sync_dir(c->part, c->e);
    free(ledger);
    free(ledger_dir);
    return rc;
}

static int check_free(const char *dest, const char *part, struct err *e)
{
    if (fs_exists(dest))
        return err_set(e, ERR_CONFLICT, "%s exists already", dest);
    if (fs_exists(part))
        return err_set(e, ERR_CONFLICT, "%s is left from a copy that was cut off: remove it", part);
    return 0;
}

static char *part_of(const char *dest)
{
    size_t len = strlen(dest);
    char *part = mem_new(len + sizeof ".part", 1);

    while (len > 1 && dest[len - 1] == '/')
        len--;
    memcpy(part, dest, len);
    memcpy(part + len, ".part", sizeof ".part");
    return part;
}

static int put_in_place(const char *part, const char *dest, struct err *e)
{
    if (rename(part, dest) != 0)
        return err_errno(e, errno, dest);
    return fs_sync_parent(dest, e);
}

static void give_up(const char *part)
{
    struct err ignored = ERR_INIT; /* the failure that led here is the one to tell */

    (void)fs_remove_tree(part, 3, &ignored);
}

/* STORE/backups is made when the first backup is. */
static int make_parent(const char *dest, struct err *e)
{
    char *parent = fs_parent(dest);
    int rc = 0;

    if (!fs_exists(parent))
        rc = fs_make_dir(parent, true, e);
    if (rc == 0)
        rc = fs_sync_parent(parent, e);
    free(parent);
    return rc;
}

int backup_store_since(struct store *s, const char *dest, const char *base,
                       const struct maintain_progress *p, struct backup_report *out, struct err *e)
{
    char *part = part_of(dest);
    struct copy c = {.s = s, .part = part, .progress = p, .out = out, .e = e};
    int rc = check_free(dest, part, e);

    if (out)
        *out = (struct backup_report){0};
    if (rc == 0 && base)
        rc = reuse_begin(&c.reuse, base, e);
    if (rc == 0)
        rc = make_parent(dest, e);
    if (rc == 0) {
        rc = copy_store(&c, 1);
        if (rc == 0)
            rc = put_in_place(part, dest, e);
        if (rc)
            give_up(part);
    }
    reuse_end(&c.reuse);
    free(part);
    return rc;
}

int backup_store(struct store *s, const char *dest, const struct maintain_progress *p,
                 struct err *e)
{
    return backup_store_since(s, dest, NULL, p, NULL, e);
}

/* ---- Restore: the same copy, then opened and verified before it gets its name ---------------- */

struct second_stage {
    struct copy *copy;
    uint64_t before;
};

static bool report_second(void *arg, uint64_t done, uint64_t total)
{
    struct second_stage *st = arg;
    const struct maintain_progress *p = st->copy->progress;
    uint64_t share = total ? (uint64_t)((double)done / (double)total *
                                        (double)(st->copy->total - st->before))
                           : 0;

    return !p || !p->report || p->report(p->arg, st->before + share, st->copy->total);
}

static void keep_first(void *arg, const char *line)
{
    char *first = arg;

    if (!*first)
        snprintf(first, ERR_TEXT_MAX, "%s", line);
}

static int verify_copy(struct copy *c)
{
    struct second_stage st = {.copy = c, .before = c->stage_total};
    struct maintain_progress p = {.report = report_second, .arg = &st};
    struct store_options o = {0};
    struct verify_report found = {0};
    char first[ERR_TEXT_MAX] = "";
    struct store *copy = NULL;
    int rc = store_open(c->part, &o, &copy, c->e);

    if (rc)
        return rc;
    rc = verify_store(copy, keep_first, first, &p, &found, c->e);
    store_close(copy);
    if (rc == 0 && (found.damaged_blocks || found.damaged_ids || found.ledger_faults))
        rc = err_set(c->e, ERR_CORRUPT,
                     "the backup is damaged (%llu blocks, %llu ids, %llu ledger faults): %.100s",
                     (unsigned long long)found.damaged_blocks,
                     (unsigned long long)found.damaged_ids,
                     (unsigned long long)found.ledger_faults, first);
    return rc;
}

int restore_store(const char *backup, const char *dest, const struct maintain_progress *p,
                  struct err *e)
{
    struct store_options o = {.read_only = true};
    char *part = part_of(dest);
    struct copy c = {.part = part, .progress = p, .e = e};
    int rc = check_free(dest, part, e);

    if (rc == 0)
        rc = store_open(backup, &o, &c.s, e);
    if (rc) {
        free(part);
        return rc;
    }
    rc = copy_store(&c, 2);
    store_close(c.s);
    if (rc == 0)
        rc = verify_copy(&c);
    if (rc == 0)
        rc = put_in_place(part, dest, e);
    if (rc)
        give_up(part);
    free(part);
    return rc;
}
