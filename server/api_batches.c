/* api_batches.c - /v1/corpora/{c}/batches/{b}: ingest, and what became of it.
 *
 * Decoding and normalising happen on readers, each batch on its own; the writer lane takes all that
 * wait and commits them with one pair of syncs. The answer leaves after the ledger is durable. */
#include "server/api.h"

#include <inttypes.h>
#include <stdlib.h>

#include "server/ingest.h"
#include "server/metrics.h"
#include "server/runtime.h"
#include "server/scan.h"
#include "server/vitals.h"
#include "storage/commit.h"

enum { AGAIN_MAX = 8 }; /* fits that one batch may meet on its way: one takes seconds */

struct batch_put {
    unsigned again;
    struct corpus *corpus; /* a reference, or NULL */
    struct commit_batch batch;
};

int batches_put_parse(struct job *j)
{
    int code = api_parse_corpus(j);

    if (!code)
        code = api_check_name(j, "batch", j->path[1]);
    if (!code && api_body_is_json(j))
        code = err_set(&j->err, ERR_MEDIA,
                       "a batch is a safetensors file: application/octet-stream or "
                       "application/vnd.safetensors");
    return code;
}

int batches_put_work(struct job *j)
{
    struct batch_put *put = j->state ? j->state : arena_new(&j->arena, 1, sizeof *put);
    struct stop stop = api_stop(j);
    int code;

    j->state = put;
    code = api_corpus(j, &put->corpus);
    if (code)
        return code;
    code = ingest_decode((unsigned char *)(uintptr_t)j->body, j->body_len, put->corpus,
                         j->fingerprint, j->rt->pool, &stop, &j->arena, &put->batch, &j->err);
    put->batch.name = j->path[1];
    return api_stopped(j, code);
}

/* Both answers: `hash` in the record alone. */
static void put_record(struct job *j, const char *name, uint64_t examples, uint64_t duplicates,
                       uint64_t sequence, const char *hash)
{
    buf_format(&j->reply_body,
               "{\"batch\":\"%s\",\"examples\":%" PRIu64 ",\"duplicates\":%" PRIu64
               ",\"sequence\":%" PRIu64, name, examples, duplicates, sequence);
    if (hash)
        buf_format(&j->reply_body, ",\"content_hash\":\"%s\"", hash);
    buf_add_text(&j->reply_body, "}");
    api_body_done(j);
}

/* The outcome of one batch of a group, told to its job. */
static void settle(struct job *j, const struct commit_batch *b)
{
    struct batch_put *put = j->state;

    if (b->err.code == ERR_STALE && put->again++ < AGAIN_MAX) {
        j->again = true; /* the corpus was fitted meanwhile: encode it anew */
        metrics_add(j->rt->metrics, METRIC_AGAIN, 1);
        return;
    }
    if (b->err.code) {
        j->err = b->err;
        api_seen(j, (int)b->err.code);
        return;
    }
    if (!b->already) {
        metrics_add(j->rt->metrics, METRIC_ROWS_INGESTED, b->examples_new);
        metrics_add(j->rt->metrics, METRIC_ROWS_DUPLICATE, b->duplicates);
        vitals_grew(j->rt->vitals, put->corpus, b->examples_new, scan_now());
    }
    put_record(j, b->name, b->examples_new, b->duplicates, b->sequence, NULL);
}

void batches_put_commit(struct job *const *jobs, size_t count)
{
    struct commit_batch **batches = mem_new(count, sizeof *batches);
    struct job **live = mem_new(count, sizeof *live);
    struct err e = ERR_INIT;
    size_t n = 0;

    for (size_t i = 0; i < count; i++) {
        struct batch_put *put = jobs[i]->state;

        if (job_stopped(jobs[i]))
            continue; /* nobody was promised anything; the client resends */
        put->batch.err = ERR_INIT;
        live[n] = jobs[i];
        batches[n++] = &put->batch;
    }
    if (n && commit_group(jobs[0]->rt->store, batches, n, &e))
        for (size_t i = 0; i < n; i++)
            if (!batches[i]->err.code)
                batches[i]->err = e;
    for (size_t i = 0; i < n; i++)
        settle(live[i], batches[i]);
    /* Here rather than on the loop: giving back the last reference may do I/O. */
    for (size_t i = 0; i < count; i++)
        batches_put_finish(jobs[i]);
    free(batches);
    free(live);
}

int batches_put_reply(struct job *j)
{
    const struct batch_put *put = j->state;

    j->status = put->batch.already ? 200 : 201;
    return 0;
}

void batches_put_finish(struct job *j)
{
    struct batch_put *put = j->state;

    if (put && put->corpus)
        corpus_release(put->corpus);
    if (put)
        put->corpus = NULL;
}

/* ---- GET ------------------------------------------------------------------------------------- */

int batches_get_parse(struct job *j)
{
    int code = api_parse_corpus(j);

    return code ? code : api_check_name(j, "batch", j->path[1]);
}

int batches_get_work(struct job *j)
{
    struct corpus_batch found;
    struct corpus *c;
    char hash[2 * sizeof found.content_hash + 1];
    int code = api_corpus(j, &c);

    if (code)
        return code;
    code = corpus_find_batch(c, j->path[1], &found, &j->err);
    corpus_release(c);
    if (code)
        return api_seen(j, code);
    bytes_hex(found.content_hash, sizeof found.content_hash, hash);
    put_record(j, j->path[1], found.examples_new, found.duplicates, found.sequence, hash);
    return (int)j->err.code;
}
