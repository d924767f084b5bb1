/* verify.c - verify_store of maintain.h: walks everything a store holds and names what is damaged.
 *
 * Per corpus, first the ledger's own invariants in one read transaction, then every block of every
 * chunk of a view. Beside ingest: what was deleted since the view was taken is asked about again
 * before it counts as a fault. Changes nothing.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "storage/annex.h"
#include "storage/artifact_file.h"
#include "storage/base/bytes.h"
#include "storage/base/mem.h"
#include "storage/catalog.h"
#include "storage/maintain.h"
#include "storage/verify_part.h"

void verify_say(struct check *k, const char *fmt, ...)
{
    char line[1024];
    va_list args;

    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (k->finding)
        k->finding(k->arg, line);
}

const char *verify_name(const struct check *k)
{
    return k->corpus->def.name;
}

static int advance(struct check *k, uint64_t bytes)
{
    k->done += bytes;
    if (k->progress && k->progress->report &&
        !k->progress->report(k->progress->arg, k->done, k->total))
        return err_set(k->e, ERR_CANCELLED, "verify was cancelled");
    return 0;
}

/* ---- Shards: nothing in them that the ledger does not name ----------------------------------- */

struct place {
    struct shard *shard;
    uint64_t chunk;
};

static int by_place(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    if (x->shard->id != y->shard->id)
        return x->shard->id < y->shard->id ? -1 : 1;
    return (x->chunk > y->chunk) - (x->chunk < y->chunk);
}

/* Walks the keys of one shard against its places, both ascending. What lies past the last one may
 * be a commit under way, or left by one that failed: it does not exist. */
static void check_keys(struct check *k, const struct place *places, size_t count)
{
    struct key all = {.len = 0};
    struct span key, value;
    struct cursor c;
    struct txn t;
    size_t i = 0;
    bool more;

    shard_begin_read(places[0].shard, &t);
    cursor_open(&c, &t, 0);
    for (more = cursor_seek(&c, &all, &key, &value); more && i < count;
         more = cursor_next(&c, &key, &value)) {
        uint64_t chunk = key.len == 9 ? bytes_get_be64(key.bytes) : 0;

        while (i < count && places[i].chunk < chunk)
            i++;
        if (i < count && places[i].chunk != chunk)
            ledger_fault(k,
                         "corpus %s: shard %06u: holds chunk %llu, which the ledger does not name",
                         verify_name(k), (unsigned)places[0].shard->id, (unsigned long long)chunk);
    }
    cursor_close(&c);
    txn_abort(&t);
}

static void check_shards(struct check *k, const struct view *v)
{
    struct place *places = mem_new(v->chunk_count, sizeof *places);
    size_t from = 0;

    for (size_t i = 0; i < v->chunk_count; i++)
        places[i] = (struct place){v->chunks[i].shard, v->chunks[i].id};
    if (v->chunk_count)
        qsort(places, v->chunk_count, sizeof *places, by_place);
    for (size_t i = 1; i <= v->chunk_count; i++)
        if (i == v->chunk_count || places[i].shard != places[from].shard) {
            check_keys(k, places + from, i - from);
            from = i;
        }
    free(places);
}

/* ---- All ------------------------------------------------------------------------------------- */

static uint64_t chunk_bytes(const struct view_chunk *c)
{
    return (uint64_t)c->rows * c->shard->corpus.row_bytes;
}

static bool report_piece(void *arg, uint64_t bytes)
{
    struct check *k = arg;

    return advance(k, bytes) == 0;
}

/* Every byte of the files behind a state or a task. */
static int check_files(struct check *k, struct annex *a)
{
    const struct annex_def *def = annex_def(a);
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < def->artifact_count; i++) {
        struct err e = ERR_INIT;

        rc = artifact_check(def->artifacts[i], report_piece, k, &e);
        if (rc == ERR_CORRUPT) {
            k->report.damaged_blocks++;
            verify_say(k, "corpus %s: %s%s: %s", verify_name(k), *def->name ? "task " : "state",
                       def->name, e.text);
            rc = 0;
        } else if (rc && k->e->code == ERR_OK) {
            *k->e = e;
        }
        k->report.bytes += artifact_bytes(def->artifacts[i]);
    }
    return rc;
}

int verify_annexes(struct check *k, struct corpus *c)
{
    const struct view *v = corpus_view(c);
    struct annex **list;
    size_t count = annex_list(c, &list);
    int rc = v->state ? check_files(k, v->state) : 0;

    for (size_t i = 0; i < count; i++) {
        if (rc == 0)
            rc = check_files(k, list[i]);
        annex_release(list[i]);
    }
    free(list);
    view_release(v);
    return rc;
}

static int check_corpus(struct check *k, struct corpus *c)
{
    const struct view *v = corpus_view(c);
    int rc;

    k->corpus = c;
    rc = verify_ledger(k);
    if (rc == 0)
        check_shards(k, v);
    for (size_t i = 0; rc == 0 && i < v->chunk_count; i++) {
        rc = verify_chunk(k, &v->chunks[i]);
        if (rc == 0)
            rc = advance(k, chunk_bytes(&v->chunks[i]));
        k->report.bytes += chunk_bytes(&v->chunks[i]);
    }
    view_release(v);
    return rc ? rc : verify_annexes(k, c);
}

/* Tables that belong to no corpus. */
static int check_records(struct check *k)
{
    struct ledger_walk w;
    struct ledger_meta m;
    struct span key, value;
    struct txn t;

    txn_begin_read(&t, &k->s->ledger);
    ledger_walk_begin(&w, &t, LEDGER_RECORDS, NULL);
    w.lenient = true;
    while (ledger_walk_next(&w, &key, &value))
        if (w.damaged)
            ledger_fault(k, "ledger: a record of table %u is damaged", (unsigned)key.bytes[0]);
    ledger_walk_end(&w);
    ledger_walk_begin(&w, &t, LEDGER_META, NULL);
    w.lenient = true;
    while (ledger_walk_next(&w, &key, &value))
        if (w.damaged && !span_starts(key, (const unsigned char *)"state", 5))
            ledger_fault(k, "ledger: the second record of a corpus, state or task is damaged");
    ledger_walk_end(&w);
    if (!ledger_get_meta(&t, &m))
        ledger_fault(k, "ledger: the state record is damaged");
    txn_abort(&t);
    if (t.err.code != ERR_OK && t.err.code != ERR_CORRUPT)
        *k->e = t.err;
    return t.err.code == ERR_CORRUPT ? 0 : (int)t.err.code;
}

int verify_store(struct store *s, void (*finding)(void *arg, const char *line), void *arg,
                 const struct maintain_progress *p, struct verify_report *out, struct err *e)
{
    struct check k = {.s = s, .finding = finding, .arg = arg, .progress = p, .e = e};
    struct corpus **list;
    size_t count = store_corpus_list(s, &list);
    int rc;

    for (size_t i = 0; i < count; i++) {
        const struct view *v = corpus_view(list[i]);

        k.total += v->rows * corpus_row_bytes(list[i]);
        view_release(v);
    }
    rc = check_records(&k);
    for (size_t i = 0; i < count; i++) {
        if (rc == 0)
            rc = check_corpus(&k, list[i]);
        corpus_release(list[i]);
    }
    free(list);
    if (rc == 0)
        *out = k.report;
    return rc;
}
