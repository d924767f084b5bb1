/* upkeep.c - see upkeep.h. The work itself is storage/maintain.h; here it gets a name,
 * a place to report to, the writer lane, and its result as JSON. Task thread. */
#include "server/upkeep.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "index/flat.h"
#include "server/json.h"
#include "server/partial.h"
#include "server/pool.h"
#include "server/runtime.h"
#include "storage/base/mem.h"
#include "storage/fs.h"
#include "storage/maintain.h"

/* ---- verify ---------------------------------------------------------------------------------- */

void upkeep_finding(void *findings, const char *line)
{
    struct findings *f = findings;

    if (f->count++ >= FINDINGS_MAX)
        return;
    if (f->lines.len)
        buf_add(&f->lines, ",", 1);
    json_put_text(&f->lines, line, strlen(line));
}

void upkeep_put_findings(struct buf *out, const struct verify_report *r, const struct findings *f)
{
    buf_format(out,
               "{\"chunks\":%" PRIu64 ",\"rows\":%" PRIu64 ",\"bytes\":%" PRIu64
               ",\"examples\":%" PRIu64 ",\"texts\":%" PRIu64,
               r->chunks, r->rows, r->bytes, r->examples, r->texts);
    buf_format(out,
               ",\"damaged_blocks\":%" PRIu64 ",\"damaged_ids\":%" PRIu64
               ",\"ledger_faults\":%" PRIu64 ",\"finding_count\":%" PRIu64 ",\"findings\":[",
               r->damaged_blocks, r->damaged_ids, r->ledger_faults, f->count);
    buf_add(out, f->lines.data, f->lines.len);
    buf_add_text(out, "]}");
}

static int run_verify(struct task *t, void *arg, struct buf *result, struct err *e)
{
    struct runtime *rt = arg;
    struct maintain_progress progress = {.report = tasks_report, .arg = t};
    struct verify_report report = {0};
    struct findings found = {0};
    int code = verify_store(rt->store, upkeep_finding, &found, &progress, &report, e);

    if (!code)
        upkeep_put_findings(result, &report, &found);
    buf_free(&found.lines);
    return code;
}

int upkeep_verify(struct runtime *rt, char id[TASK_ID_MAX], struct buf *out, struct err *e)
{
    return tasks_start(rt->tasks, "verify", run_verify, NULL, rt, id, out, e);
}

/* ---- backup ---------------------------------------------------------------------------------- */

enum { STORE_DEPTH = 3 }; /* directories below a backup: shards/NNNNNN, and one to spare */

struct backup {
    struct runtime *rt;
    char name[48];
    char base[48]; /* the older one whose files are shared; "": the latest, "none": none */
};

/* The moment, and the first number that is free: two in one second are two, also when the server
 * was killed and started again between them. The path, owned. */
static char *name_backup(struct backup *b, const char *backups)
{
    time_t now = time(NULL);
    char moment[32], *dest;
    struct tm tm;

    gmtime_r(&now, &tm);
    strftime(moment, sizeof moment, "%Y%m%dT%H%M%SZ", &tm);
    for (unsigned n = 1;; n++) {
        snprintf(b->name, sizeof b->name, "%s-%u", moment, n);
        dest = fs_join(backups, b->name);
        if (!fs_exists(dest))
            return dest;
        free(dest);
    }
}

/* What a server that was killed while it copied left behind. Tasks run one at a time, so nothing
 * unfinished here is anybody's. */
static bool remove_unfinished(void *arg, const char *name)
{
    const char *dot = strrchr(name, '.');
    struct err ignored = ERR_INIT;
    char *path;

    if (dot && strcmp(dot, ".part") == 0) {
        path = fs_join(arg, name);
        /* It only takes room: when it cannot go now, the next backup tries again. */
        fs_remove_tree(path, STORE_DEPTH, &ignored);
        free(path);
    }
    return true;
}

/* Names begin with the moment, so the last by name is the latest. */
static bool is_later(void *arg, const char *name)
{
    struct backup *b = arg;
    size_t len = strlen(name);

    if (len < sizeof b->base && *name >= '0' && *name <= '9' && !strchr(name, '.') &&
        strcmp(name, b->base) > 0)
        memcpy(b->base, name, len + 1);
    return true;
}

/* The path of the backup to share files with, owned; NULL when there is none. */
static int find_base(struct backup *b, const char *backups, char **out, struct err *e)
{
    bool asked = *b->base != '\0';
    int code = asked ? 0 : fs_list(backups, is_later, b, e);

    *out = NULL;
    if (code || !*b->base || strcmp(b->base, "none") == 0)
        return code;
    *out = fs_join(backups, b->base);
    if (asked && !fs_is_dir(*out)) {
        err_set(e, ERR_INVALID, "base: there is no backup \"%s\"", b->base);
        return err_at_field(e, "base");
    }
    return 0;
}

static void put_backup(struct buf *out, const struct backup *b, const struct backup_report *r)
{
    buf_format(out, "{\"name\":\"%s\",\"base\":", b->name);
    if (*b->base && strcmp(b->base, "none") != 0)
        buf_format(out, "\"%s\"", b->base);
    else
        buf_add_text(out, "null");
    buf_format(out,
               ",\"shards_linked\":%" PRIu64 ",\"shards_copied\":%" PRIu64
               ",\"bytes_linked\":%" PRIu64 ",\"bytes_copied\":%" PRIu64 "}",
               r->shards_linked, r->shards_copied, r->bytes_linked, r->bytes_copied);
}

static int run_backup(struct task *t, void *arg, struct buf *result, struct err *e)
{
    struct backup *b = arg;
    struct maintain_progress progress = {.report = tasks_report, .arg = t};
    struct backup_report report;
    char *backups = fs_join(store_dir(b->rt->store), "backups");
    char *dest = NULL, *base = NULL;
    int code = fs_make_dir(backups, true, e);

    if (!code)
        code = fs_sync_parent(backups, e);
    if (!code)
        code = fs_list(backups, remove_unfinished, backups, e);
    if (!code)
        code = find_base(b, backups, &base, e);
    if (!code) {
        dest = name_backup(b, backups);
        code = backup_store_since(b->rt->store, dest, base, &progress, &report, e);
    }
    if (!code)
        put_backup(result, b, &report);
    free(base);
    free(dest);
    free(backups);
    return code;
}

int upkeep_backup(struct runtime *rt, const char *base, char id[TASK_ID_MAX], struct buf *out,
                  struct err *e)
{
    struct backup *b = mem_new(1, sizeof *b);
    int code;

    b->rt = rt;
    snprintf(b->base, sizeof b->base, "%s", base ? base : "");
    code = tasks_start(rt->tasks, "backup", run_backup, free, b, id, out, e);
    if (code)
        free(b);
    return code;
}

/* ---- compact --------------------------------------------------------------------------------- */

struct compact {
    struct runtime *rt;
    struct corpus **corpora; /* references */
    size_t count;
    /* progress over all of them */
    struct task *task;
    uint64_t before, total; /* bytes of the corpora that are done; of all */
};

static void compact_drop(void *arg)
{
    struct compact *c = arg;

    for (size_t i = 0; i < c->count; i++)
        corpus_release(c->corpora[i]);
    free(c->corpora);
    free(c);
}

static int lane_run(void *arg, int (*work)(void *work_arg, struct err *e), void *work_arg,
                    struct err *e)
{
    return pool_lane(arg, work, work_arg, e);
}

/* One corpus reports its own bytes: put behind those already done. */
static bool compact_report(void *arg, uint64_t done, uint64_t total)
{
    struct compact *c = arg;
    uint64_t all = c->total > c->before + total ? c->total : c->before + total;

    return tasks_report(c->task, c->before + done, all);
}

static bool view_has(const struct view *v, uint64_t key)
{
    for (size_t i = 0; i < v->chunk_count; i++)
        if (v->chunks[i].id == key)
            return true;
    return false;
}

void upkeep_forget_gone(struct flat *flat, const struct view *old, const struct view *now)
{
    for (size_t i = 0; i < old->chunk_count; i++)
        if (!view_has(now, old->chunks[i].id))
            flat_forget(flat, old->chunks[i].id);
}

static int compact_one(struct compact *c, struct corpus *corpus, struct err *e)
{
    struct maintain_lane lane = {.run = lane_run, .arg = c->rt->pool};
    struct maintain_progress progress = {.report = compact_report, .arg = c};
    const struct view *old = corpus_view(corpus), *now;
    int code = compact_corpus(corpus, &lane, &progress, e);

    now = corpus_view(corpus);
    upkeep_forget_gone(c->rt->flat, old, now);
    view_release(now);
    view_release(old);
    return code;
}

static int run_compact(struct task *t, void *arg, struct buf *result, struct err *e)
{
    struct compact *c = arg;
    struct err damage = ERR_INIT;
    struct corpus_stats s;
    uint64_t after = 0;

    c->task = t;
    for (size_t i = 0; i < c->count; i++) {
        corpus_stats(c->corpora[i], &s);
        c->total += s.bytes;
    }
    for (size_t i = 0; i < c->count; i++) {
        int code;

        corpus_stats(c->corpora[i], &s);
        if (!tasks_report(t, c->before, c->total))
            return err_set(e, ERR_CANCELLED, "cancelled after %zu of %zu corpora", i, c->count);
        code = partial_refuse(c->corpora[i], true, e);
        if (!code)
            code = compact_one(c, c->corpora[i], e);
        if ((code == ERR_CORRUPT || code == ERR_DAMAGED) && damage.code == ERR_OK)
            damage = *e; /* the others are compacted all the same */
        /* dropped while the others were at work: nothing left to do for it */
        if (code == ERR_UNKNOWN_CORPUS || code == ERR_CORRUPT || code == ERR_DAMAGED)
            err_clear(e);
        else if (code)
            return code;
        c->before += s.bytes;
        corpus_stats(c->corpora[i], &s);
        after += s.bytes;
    }
    if (damage.code != ERR_OK) {
        *e = damage;
        return (int)e->code;
    }
    buf_format(result, "{\"corpora\":%zu,\"bytes_before\":%" PRIu64 ",\"bytes_after\":%" PRIu64 "}",
               c->count, c->total, after);
    return 0;
}

int upkeep_compact(struct runtime *rt, const char *corpus, char id[TASK_ID_MAX],
                           struct buf *out, struct err *e)
{
    struct compact *c = mem_new(1, sizeof *c);
    int code = 0;

    c->rt = rt;
    if (corpus) {
        c->corpora = mem_new(1, sizeof *c->corpora);
        c->corpora[0] = store_corpus_find(rt->store, corpus);
        if (c->corpora[0])
            c->count = 1;
        else
            code = err_set(e, ERR_UNKNOWN_CORPUS, "no corpus \"%s\"", corpus);
        if (!code)
            code = partial_refuse(c->corpora[0], true, e);
    } else {
        c->count = store_corpus_list(rt->store, &c->corpora);
    }
    if (!code)
        code = tasks_start(rt->tasks, "compact", run_compact, compact_drop, c, id, out, e);
    if (code)
        compact_drop(c);
    else if (corpus)
        tasks_bind(rt->tasks, id, corpus);
    return code;
}
