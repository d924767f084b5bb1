/* api_query.c - POST /v1/corpora/{c}/query: proponents and opponents.
 *
 * One view for the whole request; one pass over it finds both ends, together with whoever else asks
 * the same view (server/join.h); then the winners' ids and texts are read, and only theirs. So the
 * work comes in two parts, before the scan and after it; between them the job is parked. */
#include "server/api.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "index/engine.h"
#include "server/explain.h"
#include "server/hits.h"
#include "server/join.h"
#include "server/json.h"
#include "server/limits.h"
#include "server/partial.h"
#include "server/queries.h"
#include "server/runtime.h"
#include "server/scan.h"
#include "server/survey.h"

enum { K_DEFAULT = 10, ASK_EVERY = 64 };

/* Of a whole query over all rows: one in a thousand million, and what float64 can tell from 0. */
static const double DELTA_DEFAULT = 1e-9, DELTA_MIN = 1e-100, DELTA_MAX = 0.5;

struct query {
    uint64_t k, opponents;
    bool text;          /* with text and meta */
    bool blocks;
    struct survey survey; /* what is asked beside the lists */
    enum scan_engine engine; /* as asked */
    enum tier_precision precision;
    double delta;       /* NaN: not given */
    const char *filter; /* NULL: everything */
    const char *task;   /* NULL: none */
    bool dot;           /* scores are not normalised */
    struct partial partial;
    /* work's own */
    const struct query *asked; /* as it was parsed: where another try begins */
    struct corpus *corpus;
    const struct view *whole; /* held; what borrows from it ends first */
    const struct view *view;  /* the part of it that is asked */
    struct queries queries;
    struct api_task through;
    bool seated; /* the scan is over, or was given up */
    struct join_seat seat;
    struct manifest_shape shape; /* with blocks */
    double *shares;              /* of one hit */
    uint64_t began_ns;
};

static int read_engine(struct query *q, const char *engine, const char *precision, struct err *e)
{
    if (engine && !scan_engine_named(engine, &q->engine)) {
        err_set(e, ERR_INVALID, "engine \"%.32s\": auto, flat, scan or tiered", engine);
        return err_at_field(e, "engine");
    }
    if (precision && !scan_precision_named(precision, &q->precision)) {
        err_set(e, ERR_INVALID, "precision \"%.32s\": certified or probabilistic", precision);
        return err_at_field(e, "precision");
    }
    return 0;
}

int query_parse(struct job *j)
{
    static const char *const names[] = {"k",    "opponents", "engine", "text",
                                        "filter", "task",      "saved",  "blocks",
                                        "percentile", "group", "score", "precision", "delta",
                                        "like", "histogram", NULL};
    struct query *q = arena_new(&j->arena, 1, sizeof *q);
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
    if (!code)
        code = api_query_bool(j, "blocks", false, &q->blocks);
    if (!code)
        code = survey_parse(j, &q->survey);
    q->filter = job_query(j, "filter");
    q->task = job_query(j, "task");
    if (!code)
        code = api_score(job_query(j, "score"), &q->dot, &j->err);
    if (!code)
        code = read_engine(q, job_query(j, "engine"), job_query(j, "precision"), &j->err);
    if (!code)
        code = api_query_real(j, "delta", NAN, &q->delta);
    return code;
}

/* Members of a JSON body override parameters. */
static int read_options(struct query *q, struct err *e)
{
    const json_t *options = q->queries.options;
    const char *engine = NULL, *precision = NULL, *score = NULL;
    int code;

    if (!options)
        return 0;
    code = json_get_number(options, "k", 0, LIMIT_K, &q->k, e);
    if (!code)
        code = json_get_number(options, "opponents", 0, LIMIT_K, &q->opponents, e);
    if (!code)
        code = json_get_bool(options, "text", &q->text, e);
    if (!code)
        code = json_get_bool(options, "blocks", &q->blocks, e);
    if (!code)
        code = survey_read(&q->survey, options, e);
    if (!code)
        code = json_get_text(options, "filter", LIMIT_FILTER_BYTES, &q->filter, e);
    if (!code)
        code = json_get_text(options, "task", STORE_NAME_MAX, &q->task, e);
    if (!code)
        code = json_get_text(options, "score", 64, &score, e);
    if (!code)
        code = api_score(score, &q->dot, e);
    if (!code)
        code = json_get_text(options, "engine", 64, &engine, e);
    if (!code)
        code = json_get_text(options, "precision", 64, &precision, e);
    if (!code)
        code = json_get_real(options, "delta", &q->delta, e);
    return code ? code : read_engine(q, engine, precision, e);
}

static int check_engine(struct query *q, struct err *e)
{
    if (q->dot && q->engine == SCAN_FLAT) {
        err_set(e, ERR_INVALID, "score dot is served by engines tiered and scan (or auto): flat "
                "compares directions, not lengths");
        return err_at_field(e, "engine");
    }
    if (!isnan(q->delta) && q->precision != TIER_PROBABILISTIC) {
        err_set(e, ERR_INVALID, "delta goes with precision=probabilistic: what is certified never "
                "fails");
        return err_at_field(e, "delta");
    }
    if (q->precision == TIER_PROBABILISTIC && isnan(q->delta))
        q->delta = DELTA_DEFAULT;
    if (q->precision == TIER_PROBABILISTIC && !(q->delta >= DELTA_MIN && q->delta <= DELTA_MAX)) {
        err_set(e, ERR_INVALID, "delta must be a probability from %g to %g", DELTA_MIN, DELTA_MAX);
        return err_at_field(e, "delta");
    }
    return 0;
}

static uint64_t lower(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static int check_hits(const struct query *q, struct err *e)
{
    uint64_t each = lower(q->k, q->view->live) + lower(q->opponents, q->view->live);
    size_t named = survey_entries(&q->survey);

    if ((each + named) * q->queries.count <= LIMIT_HITS)
        return 0;
    err_set(e, ERR_TOO_LARGE,
            "%zu queries x %" PRIu64 " examples; at most %u in one answer", q->queries.count,
            each + named, LIMIT_HITS);
    err_at_field(e, each >= named ? "k" : "ids");
    return err_at_limit(e, LIMIT_HITS);
}

/* Without pool and stop. */
static struct scan scan_of(const struct job *j, const struct query *q)
{
    return (struct scan){.flat = j->rt->flat,
                         .view = q->view,
                         .lens = q->through.lens,
                         .lengths = q->dot ? q->queries.lengths : NULL,
                         .engine = q->engine,
                         .precision = q->precision,
                         .delta = q->precision == TIER_PROBABILISTIC ? q->delta : 0,
                         .cost = j->rt->cost};
}

/* The last act before the job is parked. */
static void sit(struct job *j, struct query *q)
{
    q->seat = (struct join_seat){.job = j,
                                 .scan = scan_of(j, q),
                                 .stop = api_stop(j),
                                 .whole = q->whole,
                                 .filter = q->filter,
                                 .want = {.vectors = q->queries.vectors,
                                          .count = q->queries.count,
                                          .k = q->k,
                                          .opponents = q->opponents}};
    survey_least(&q->survey, &q->seat.want.k, &q->seat.want.opponents);
    q->seated = true;
    join_sit(j->rt->join, &q->seat);
}

/* What became of it. */
static int rise(struct job *j, const struct query *q)
{
    if (job_stopped(j))
        return (int)j->err.code;
    if (q->seat.err.code)
        j->err = q->seat.err;
    return (int)j->err.code;
}

/* ---- what is asked beside the lists ---------------------------------------------------------- */

static int prepare_blocks(struct job *j, struct query *q)
{
    int code = q->blocks ? manifest_shape(corpus_def(q->corpus), &j->arena, &q->shape, &j->err) : 0;

    if (!code && q->blocks)
        q->shares = arena_new(&j->arena, q->shape.count, sizeof *q->shares);
    return code;
}

static struct explain explain_of(const struct query *q)
{
    return (struct explain){.view = q->view, .shape = &q->shape, .lens = q->through.lens};
}

static int take_survey(struct job *j, struct query *q)
{
    struct stop stop = api_stop(j);
    struct scan scan = scan_of(j, q);
    const struct explain explain = explain_of(q);
    const struct survey_found found = {.vectors = q->queries.vectors,
                                       .lengths = scan.lengths,
                                       .count = q->queries.count,
                                       .pro = q->seat.answer.pro,
                                       .opp = q->seat.answer.opp,
                                       .k = q->k,
                                       .opponents = q->opponents};

    scan.pool = j->rt->pool;
    scan.stop = &stop;
    return survey_take(j, &q->survey, &scan, &explain, &found);
}

/* ---- the answer ------------------------------------------------------------------------------ */

/* Members of a hit beyond the usual ones. place: where its score stands, or NULL. */
static int put_more(struct job *j, const struct query *q, size_t n, const struct topk_hit *hit,
                    const struct census_place *place, struct buf *more)
{
    const struct explain explain = explain_of(q);
    const float *query = q->queries.vectors + n * corpus_def(q->corpus)->dim;
    const double *length = q->dot ? &q->queries.lengths[n] : NULL;
    int code = 0;

    more->len = 0;
    if (place) {
        buf_add_text(more, ",\"percentile\":");
        json_put_real(more, (double)place->below / (double)q->view->live);
    }
    if (q->blocks)
        code = explain_hit(&explain, query, length, hit, q->shares, &j->err);
    if (!code && q->blocks)
        explain_put(more, &q->shape, q->shares);
    if (!code && more->failed)
        code = err_set(&j->err, ERR_BUSY, "no memory for the answer");
    return code;
}

static int put_hits(struct job *j, const struct query *q, size_t n, const struct topk *list,
                    size_t count, const struct census_place *places)
{
    struct buf more = {0};
    int code = 0;

    for (size_t i = 0; !code && i < count; i++) {
        if (i % ASK_EVERY == 0 && job_stopped(j)) {
            code = (int)j->err.code;
            break;
        }
        if (i)
            buf_add(&j->reply_body, ",", 1);
        code = put_more(j, q, n, &list->hits[i], places ? &places[i] : NULL, &more);
        if (!code)
            code = hits_put(&j->reply_body, q->view, &list->hits[i],
                            &(struct hits_form){.rank = i + 1, .text = q->text, .more = &more},
                            &j->err);
    }
    buf_free(&more);
    return code;
}

static int put_result(struct job *j, const struct query *q, size_t n)
{
    const struct topk *pro = &q->seat.answer.pro[n], *opp = &q->seat.answer.opp[n];
    size_t shown = lower(pro->count, q->k), against = lower(opp->count, q->opponents);
    const struct census_place *places = survey_places(&q->survey, n);
    struct buf *b = &j->reply_body;
    int code;

    buf_add_text(b, n ? ",{\"proponents\":[" : "{\"proponents\":[");
    code = put_hits(j, q, n, pro, shown, places);
    if (!code) {
        buf_add_text(b, "],\"opponents\":[");
        code = put_hits(j, q, n, opp, against, places ? places + shown : NULL);
    }
    buf_add(b, "]", 1);
    survey_put(b, &q->survey, n, q->view->live);
    buf_add(b, "}", 1);
    return code;
}

static int put_answer(struct job *j, const struct query *q)
{
    const struct scan_answer *a = &q->seat.answer;
    struct buf *b = &j->reply_body;
    int code = 0;

    buf_add_text(b, "{\"results\":[");
    for (size_t i = 0; !code && i < q->queries.count; i++)
        code = put_result(j, q, i);
    buf_format(b, "],\"exact\":\"%s\",", scan_precision_name(a->precision));
    if (a->precision == TIER_PROBABILISTIC)
        buf_format(b, "\"delta\":%.3g,", q->delta);
    buf_format(b, "\"engine\":\"%s\",\"engine_reason\":\"%s\",\"examples\":%" PRIu64
               ",\"generation\":%" PRIu64,
               scan_engine_name(a->engine), a->reason, q->view->live, q->view->generation);
    buf_format(b, ",\"read\":{\"bits\":%" PRIu64 ",\"six\":%" PRIu64 ",\"low\":%" PRIu64
               ",\"proposed\":%" PRIu64 ",\"exact\":%" PRIu64 "}",
               a->work.rows_bits, a->work.rows_six, a->work.rows_low, a->work.rows_proposed,
               a->work.rows_exact);
    partial_put(b, q->whole);
    buf_format(b, ",\"shared\":{\"requests\":%zu,\"queries\":%zu,\"waited_ms\":%.3f}",
               q->seat.requests, q->seat.queries, (double)q->seat.waited_ns * 1e-6);
    buf_format(b, ",\"took_ms\":%.3f}", (double)(scan_now() - q->began_ns) * 1e-6);
    return code;
}

/* Everything up to the scan. */
static int before(struct job *j, struct query *q)
{
    static const char *const members[] = {"queries", "k",      "opponents", "engine",
                                          "text",    "filter", "task",      "saved",
                                          "blocks",  "percentile", "group", "score", "precision",
                                          "delta",   "like",   "histogram", "ids", NULL};
    const struct queries_named named = {.saved = job_query(j, "saved"),
                                        .like = job_query(j, "like")};
    int code;

    q->whole = partial_view(j, &q->partial, q->corpus);
    code = queries_read_named(j, q->whole, members, &named, &q->queries);
    if (!code)
        code = read_options(q, &j->err);
    q->partial.texts = q->filter != NULL;
    if (!code)
        code = check_engine(q, &j->err);
    if (!code)
        code = api_filter(j, q->filter, q->whole, &q->view);
    if (!code)
        code = check_hits(q, &j->err);
    if (!code)
        code = api_task_open(j, q->task, q->corpus, q->whole, &q->queries, &q->through);
    if (!code)
        code = prepare_blocks(j, q);
    if (!code)
        code = survey_prepare(j, &q->survey, q->corpus, q->view);
    if (!code)
        sit(j, q);
    return code;
}

static int after(struct job *j, struct query *q)
{
    int code = rise(j, q);

    if (!code)
        code = take_survey(j, q);
    if (!code)
        code = put_answer(j, q);
    return code;
}

static void give_back(struct job *j, struct query *q)
{
    queries_free(&q->queries);
    api_task_close(j, q->corpus, q->whole, &q->through);
    view_release(q->whole);
    corpus_release(q->corpus);
}

/* Everything as it was parsed; what was allocated meanwhile goes with the job. */
static void begin_again(struct query *q)
{
    struct partial partial = q->partial;
    const struct query *asked = q->asked;
    uint64_t began_ns = q->began_ns;

    *q = *asked;
    q->asked = asked;
    q->partial = partial;
    q->began_ns = began_ns;
}

static int start(struct job *j, struct query *q)
{
    struct query *asked;
    int code = api_corpus(j, &q->corpus);

    if (code)
        return code;
    if (!q->asked) {
        asked = arena_new(&j->arena, 1, sizeof *asked);
        *asked = *q;
        asked->corpus = NULL;
        q->asked = asked;
        q->began_ns = scan_now();
    }
    code = before(j, q);
    if (code)
        give_back(j, q);
    return code;
}

int query_work(struct job *j)
{
    struct query *q = j->state;
    int code = 0;

    if (q->seated) {
        code = after(j, q);
        give_back(j, q);
        if (!partial_again(j, &q->partial, code))
            return code ? api_seen(j, code) : api_body_done(j);
        begin_again(q);
    }
    for (code = start(j, q); code && partial_again(j, &q->partial, code); code = start(j, q))
        begin_again(q);
    return code ? api_seen(j, code) : 0; /* seated: work will run again */
}
