/* api_query.c - POST /v1/corpora/{c}/query: proponents and opponents.
 *
 * One view for the whole request; one pass over it finds both ends; then the winners' ids and texts
 * are read, and only theirs. */
#include "server/api.h"

#include <inttypes.h>
#include <string.h>

#include "index/engine.h"
#include "server/json.h"
#include "server/limits.h"
#include "server/metrics.h"
#include "server/queries.h"
#include "server/runtime.h"
#include "server/scan.h"

enum { K_DEFAULT = 10, ASK_EVERY = 64 };

struct query {
    uint64_t k, opponents;
    bool text;          /* with text and meta */
    const char *filter; /* NULL: everything */
    const char *task;   /* NULL: none */
    /* work's own */
    struct corpus *corpus;
    const struct view *whole; /* held; what borrows from it ends first */
    const struct view *view;  /* the part of it that is asked */
    struct queries queries;
    struct api_task through;
    struct scan_answer answer;
    uint64_t began_ns;
};

static int check_engine(const char *name, struct err *e)
{
    if (strcmp(name, "auto") == 0 || strcmp(name, "flat") == 0)
        return 0;
    err_set(e, ERR_INVALID, "engine \"%.32s\": auto or flat", name);
    return err_at_field(e, "engine");
}

int query_parse(struct job *j)
{
    static const char *const names[] = {"k",    "opponents", "engine", "text",
                                        "filter", "task",      NULL};
    struct query *q = arena_new(&j->arena, 1, sizeof *q);
    const char *engine;
    int code = job_query_only(j, names);

    j->state = q;
    if (!code)
        code = api_check_name(j, "corpus", j->path[0]);
    if (!code)
        code = job_query_number(j, "k", K_DEFAULT, 0, LIMIT_K, &q->k);
    if (!code)
        code = job_query_number(j, "opponents", 0, 0, LIMIT_K, &q->opponents);
    if (!code)
        code = api_query_bool(j, "text", true, &q->text);
    q->filter = job_query(j, "filter");
    q->task = job_query(j, "task");
    engine = job_query(j, "engine");
    if (!code && engine)
        code = check_engine(engine, &j->err);
    return code;
}

/* Members of a JSON body override parameters. */
static int read_options(struct query *q, struct err *e)
{
    const json_t *options = q->queries.options;
    const char *engine = "auto";
    int code;

    if (!options)
        return 0;
    code = json_get_number(options, "k", 0, LIMIT_K, &q->k, e);
    if (!code)
        code = json_get_number(options, "opponents", 0, LIMIT_K, &q->opponents, e);
    if (!code)
        code = json_get_bool(options, "text", &q->text, e);
    if (!code)
        code = json_get_text(options, "filter", LIMIT_FILTER_BYTES, &q->filter, e);
    if (!code)
        code = json_get_text(options, "task", STORE_NAME_MAX, &q->task, e);
    if (!code)
        code = json_get_text(options, "engine", 64, &engine, e);
    return code ? code : check_engine(engine, e);
}

static uint64_t lower(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static int check_hits(const struct query *q, struct err *e)
{
    uint64_t each = lower(q->k, q->view->live) + lower(q->opponents, q->view->live);

    if (each * q->queries.count <= LIMIT_HITS)
        return 0;
    err_set(e, ERR_TOO_LARGE,
            "%zu queries x %" PRIu64 " examples; at most %u in one answer", q->queries.count,
            each, LIMIT_HITS);
    err_at_field(e, "k");
    return err_at_limit(e, LIMIT_HITS);
}

static int search(struct job *j, struct query *q)
{
    struct stop stop = api_stop(j);
    struct scan scan = {
        .pool = j->rt->pool, .flat = j->rt->flat, .view = q->view, .stop = &stop,
        .lens = q->through.lens};
    struct engine_query want = {.vectors = q->queries.vectors,
                                .count = q->queries.count,
                                .k = q->k,
                                .opponents = q->opponents};
    int code = scan_search(&scan, &want, &j->arena, &q->answer, &j->err);

    if (code)
        return api_stopped(j, code);
    metrics_add(j->rt->metrics, METRIC_QUERIES, want.count);
    metrics_add(j->rt->metrics, METRIC_ROWS_SCANNED, q->answer.work.rows_proposed);
    metrics_add(j->rt->metrics, METRIC_ROWS_EXACT, q->answer.work.rows_exact);
    metrics_add(j->rt->metrics, METRIC_SCAN_NS, q->answer.scan_ns);
    return 0;
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void put_score(struct buf *b, const struct topk_hit *hit, size_t rank)
{
    buf_add_text(b, ",\"score\":");
    json_put_real(b, hit->score);
    buf_format(b, ",\"rank\":%zu,\"sequence\":%" PRIu64, rank, hit->sequence);
}

/* Without text and meta: straight from the block. */
static int put_bare(struct job *j, const struct query *q, const struct topk_hit *hit, size_t rank)
{
    struct buf *b = &j->reply_body;
    struct block rows;
    const char *id;
    size_t len;
    int code = block_open(&q->view->chunks[hit->chunk], BLOCK_ROWS, &rows, &j->err);

    if (code)
        return code;
    buf_add_text(b, "{\"id\":");
    id = block_row_id(&rows, hit->row, &len);
    json_put_text(b, id, len);
    put_score(b, hit, rank);
    buf_add(b, "}", 1);
    block_close(&rows);
    return 0;
}

static int put_full(struct job *j, const struct query *q, const struct topk_hit *hit, size_t rank)
{
    struct buf *b = &j->reply_body;
    struct arena own = {0};
    struct example x;
    int code = view_example(q->view, hit->chunk, hit->row, &own, &x, &j->err);

    if (!code) {
        buf_add_text(b, "{\"id\":");
        json_put_text(b, x.id, x.id_len);
        put_score(b, hit, rank);
        buf_add_text(b, ",\"text\":");
        if (x.text)
            json_put_text(b, x.text, x.text_len);
        else
            buf_add_text(b, "null");
        buf_add_text(b, ",\"meta\":");
        buf_add(b, x.meta ? x.meta : "null", x.meta ? x.meta_len : 4);
        buf_add(b, "}", 1);
    }
    arena_free(&own);
    return code;
}

static int put_hits(struct job *j, const struct query *q, const struct topk *list)
{
    int code = 0;

    for (size_t i = 0; !code && i < list->count; i++) {
        if (i % ASK_EVERY == 0 && job_stopped(j))
            return (int)j->err.code;
        if (j->reply_body.len > LIMIT_ANSWER_BYTES) {
            err_set(&j->err, ERR_TOO_LARGE,
                    "the answer has more than %" PRIu64 " bytes; ask for less, or with text=0",
                    LIMIT_ANSWER_BYTES);
            err_at_field(&j->err, "k");
            return err_at_limit(&j->err, (int64_t)LIMIT_ANSWER_BYTES);
        }
        if (i)
            buf_add(&j->reply_body, ",", 1);
        code = q->text ? put_full(j, q, &list->hits[i], i + 1)
                       : put_bare(j, q, &list->hits[i], i + 1);
    }
    return code;
}

static int put_answer(struct job *j, const struct query *q)
{
    struct buf *b = &j->reply_body;
    int code = 0;

    buf_add_text(b, "{\"results\":[");
    for (size_t i = 0; !code && i < q->queries.count; i++) {
        buf_add_text(b, i ? ",{\"proponents\":[" : "{\"proponents\":[");
        code = put_hits(j, q, &q->answer.pro[i]);
        if (!code) {
            buf_add_text(b, "],\"opponents\":[");
            code = put_hits(j, q, &q->answer.opp[i]);
        }
        buf_add_text(b, "]}");
    }
    buf_format(b,
               "],\"exact\":\"certified\",\"engine\":\"%s\",\"examples\":%" PRIu64
               ",\"generation\":%" PRIu64,
               q->through.lens ? "scan" : "flat", q->view->live, q->view->generation);
    buf_format(b, ",\"work\":{\"rows_proposed\":%" PRIu64 ",\"rows_exact\":%" PRIu64 "}",
               q->answer.work.rows_proposed, q->answer.work.rows_exact);
    buf_format(b, ",\"took_ms\":%.3f}", (double)(scan_now() - q->began_ns) * 1e-6);
    return code;
}

int query_work(struct job *j)
{
    static const char *const members[] = {"queries", "k",      "opponents", "engine",
                                          "text",    "filter", "task",      NULL};
    struct query *q = j->state;
    int code = api_corpus(j, &q->corpus);

    if (code)
        return code;
    q->began_ns = scan_now();
    q->whole = corpus_view(q->corpus);
    code = queries_read(j, q->whole, members, &q->queries);
    if (!code)
        code = read_options(q, &j->err);
    if (!code)
        code = api_filter(j, q->filter, q->whole, &q->view);
    if (!code)
        code = check_hits(q, &j->err);
    if (!code)
        code = api_task_open(j, q->task, q->corpus, q->whole, &q->queries, &q->through);
    if (!code)
        code = search(j, q);
    if (!code)
        code = put_answer(j, q);
    queries_free(&q->queries);
    api_task_close(j, q->corpus, q->whole, &q->through);
    view_release(q->whole);
    corpus_release(q->corpus);
    return code ? api_seen(j, code) : api_body_done(j);
}
