/* api_corpora.c - /v1/corpora: create, list, look, drop. */
#include "server/api.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "index/flat.h"
#include "server/json.h"
#include "server/limits.h"
#include "server/manifest.h"
#include "server/runtime.h"
#include "server/saved.h"
#include "server/scan.h"
#include "server/vitals.h"
#include "storage/annex.h"
#include "storage/store.h"

static int put_vitals(struct job *j, struct corpus *c, const struct view *v)
{
    struct buf *b = &j->reply_body;
    struct vitals_planes p;
    struct vitals_pace pace;
    int code = vitals_weigh(j->rt->vitals, v, &p, &j->err);

    if (code)
        return code;
    vitals_pace(j->rt->vitals, c, scan_now(), &pace);
    buf_format(b, ",\"planes\":{\"rows\":%" PRIu64 ",\"bits\":%" PRIu64 ",\"six\":%" PRIu64
               ",\"low\":%" PRIu64 ",\"factors\":%" PRIu64 ",\"ids\":%" PRIu64 ",\"texts\":%" PRIu64
               "}", p.rows, p.bits, p.six, p.low, p.factors, p.ids, p.texts);
    buf_add_text(b, ",\"ingest\":{\"rows_per_s\":");
    json_put_real(b, pace.rows_per_s);
    buf_add_text(b, ",\"bytes_per_s\":");
    json_put_real(b, pace.bytes_per_s);
    buf_add(b, "}", 1);
    return 0;
}

/* whole: with manifest, fit and what has to be looked up. */
static int put_corpus(struct job *j, struct corpus *c, bool whole)
{
    struct buf *b = &j->reply_body;
    const struct corpus_def *def = corpus_def(c);
    char fingerprint[2 * STORE_FINGERPRINT_BYTES + 1];
    const struct view *v = corpus_view(c);
    struct corpus_stats s;
    int code = 0;

    corpus_stats(c, &s);
    bytes_hex(def->fingerprint, STORE_FINGERPRINT_BYTES, fingerprint);
    buf_format(b, "{\"name\":\"%s\",\"fingerprint\":\"%s\",\"whitened\":%s", def->name,
               fingerprint, v->state ? "true" : "false");
    buf_format(b, ",\"examples\":%llu,\"deleted\":%llu,\"coded\":%llu",
               (unsigned long long)s.examples, (unsigned long long)s.tombstones,
               (unsigned long long)s.coded);
    buf_format(b, ",\"batches\":%llu,\"chunks\":%llu", (unsigned long long)s.batches,
               (unsigned long long)s.chunks);
    buf_format(b, ",\"shards\":%llu,\"bytes\":%llu,\"next_sequence\":%llu,\"generation\":%llu",
               (unsigned long long)s.shards, (unsigned long long)s.bytes,
               (unsigned long long)s.next_sequence, (unsigned long long)s.generation);
    if (whole) {
        buf_add_text(b, ",\"manifest\":");
        buf_add_text(b, def->manifest);
        buf_add_text(b, ",\"fit\":");
        buf_add_text(b, v->state ? annex_def(v->state)->text : "null");
        code = put_vitals(j, c, v);
    }
    buf_add(b, "}", 1);
    view_release(v);
    return code ? api_seen(j, code) : api_body_done(j);
}

/* ---- PUT /v1/corpora/{c} --------------------------------------------------------------------- */

struct corpus_put {
    struct corpus_def def; /* the manifest's text is in the arena */
    bool created;
};

int corpora_put_parse(struct job *j)
{
    return api_parse_corpus(j);
}

int corpora_put_work(struct job *j)
{
    struct corpus_put *put = arena_new(&j->arena, 1, sizeof *put);

    j->state = put;
    return manifest_read(j->path[0], j->body, j->body_len, &j->arena, &put->def, &j->err);
}

static int create(struct job *j, struct corpus_put *put)
{
    struct corpus *c = store_corpus_find(j->rt->store, put->def.name);
    struct store_stats stats;
    int code;

    if (c) {
        corpus_release(c);
    } else {
        store_stats(j->rt->store, &stats);
        if (stats.corpora >= LIMIT_CORPORA) {
            err_set(&j->err, ERR_TOO_LARGE, "the store holds %u corpora, the most it takes",
                    LIMIT_CORPORA);
            return err_at_limit(&j->err, LIMIT_CORPORA);
        }
    }
    code = store_corpus_create(j->rt->store, &put->def, &put->created, &c, &j->err);
    if (code)
        return code;
    code = put_corpus(j, c, true);
    corpus_release(c);
    return code;
}

void corpora_put_commit(struct job *const *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!job_stopped(jobs[i]))
            create(jobs[i], jobs[i]->state);
}

int corpora_put_reply(struct job *j)
{
    const struct corpus_put *put = j->state;

    j->status = put->created ? 201 : 200;
    j->reply_location = arena_format(&j->arena, "/v1/corpora/%s", put->def.name);
    return 0;
}

/* ---- GET /v1/corpora, GET /v1/corpora/{c} ---------------------------------------------------- */

int corpora_list_work(struct job *j)
{
    struct corpus **list = NULL;
    size_t count = store_corpus_list(j->rt->store, &list);

    buf_add_text(&j->reply_body, "{\"corpora\":[");
    for (size_t i = 0, shown = 0; i < count; i++) {
        if (!j->key_corpus || strcmp(corpus_def(list[i])->name, j->key_corpus) == 0) {
            if (shown++)
                buf_add(&j->reply_body, ",", 1);
            put_corpus(j, list[i], false);
        }
        corpus_release(list[i]);
    }
    free(list);
    buf_add_text(&j->reply_body, "]}");
    return api_body_done(j);
}

int corpora_get_work(struct job *j)
{
    struct corpus *c = NULL;
    int code = api_corpus(j, &c);

    if (code)
        return code;
    code = put_corpus(j, c, true);
    corpus_release(c);
    return code;
}

/* ---- DELETE /v1/corpora/{c} ------------------------------------------------------------------ */

int corpora_delete_work(struct job *j)
{
    struct corpus *c = NULL;
    int code = api_corpus(j, &c);

    if (!code)
        corpus_release(c);
    return code;
}

/* The engine's copies go with the corpus. A search that still runs may put one back: it can only
 * waste memory until it is the oldest, since a chunk's key never comes again. */
static void drop(struct job *j)
{
    struct corpus *c = NULL;
    const struct view *v;

    if (api_corpus(j, &c))
        return;
    v = corpus_view(c);
    if (!store_corpus_drop(j->rt->store, j->path[0], &j->err)) {
        api_audit(j, "corpus dropped", j->path[0]);
        saved_forget(j->rt->store, corpus_id(c));
        vitals_forget(j->rt->vitals, c);
        for (size_t i = 0; i < v->chunk_count; i++)
            flat_forget(j->rt->flat, v->chunks[i].id);
    }
    view_release(v);
    corpus_release(c);
}

void corpora_delete_commit(struct job *const *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!job_stopped(jobs[i]))
            drop(jobs[i]);
}
