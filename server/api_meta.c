/* api_meta.c - see api_meta.h. Loop thread only; nothing here may block. */
#include "server/api_meta.h"

#include "index/kern.h"
#include "server/auth.h"
#include "server/config.h"
#include "server/cost.h"
#include "server/http.h"
#include "server/limits.h"
#include "server/metrics.h"
#include "server/openapi.h"
#include "server/pool.h"
#include "server/route.h"
#include "server/runtime.h"
#include "server/server.h"
#include "storage/base/dtype.h"

int meta_parse(struct job *j)
{
    static const char *const none[] = {NULL};

    return job_query_only(j, none);
}

int meta_healthz(struct job *j)
{
    j->reply_type = "text/plain; charset=utf-8";
    buf_add_text(&j->reply_body, "ok\n");
    return 0;
}

int meta_readyz(struct job *j)
{
    if (j->rt->server->draining)
        return err_set(&j->err, ERR_DRAINING, "the server is shutting down");
    buf_add_text(&j->reply_body, "{\"ready\":true}\n");
    return 0;
}

static uint64_t uptime(const struct runtime *rt)
{
    return (server_now() - rt->server->started_ns) / 1000000000;
}

int meta_metrics(struct job *j)
{
    struct metrics *m = j->rt->metrics;
    struct pool_stats now;

    pool_stats(j->rt->pool, &now);
    metrics_set(m, METRIC_QUEUE_READ, now.queued_read);
    metrics_set(m, METRIC_QUEUE_WRITE, now.queued_write);
    metrics_set(m, METRIC_RUNNING, now.running);
    metrics_set(m, METRIC_PARKED, now.parked);
    metrics_set(m, METRIC_READERS, pool_readers(j->rt->pool));
    metrics_set(m, METRIC_UPTIME, uptime(j->rt));
    j->reply_type = "text/plain; version=0.0.4; charset=utf-8";
    metrics_text(m, &j->reply_body);
    return 0;
}

int meta_openapi(struct job *j)
{
    openapi_write(&j->reply_body, route_table, route_count);
    return 0;
}

static void limits(struct buf *out, const struct config *c)
{
    const struct {
        const char *name;
        uint64_t value;
    } row[] = {
        {"head_bytes", LIMIT_HEAD_BYTES},
        {"header_fields", LIMIT_HEADERS},
        {"uri_bytes", LIMIT_URI_BYTES},
        {"json_bytes", LIMIT_JSON_BODY},
        {"json_depth", LIMIT_JSON_DEPTH},
        {"json_values", LIMIT_JSON_VALUES},
        {"body_bytes", c->body_limit},
        {"body_budget_bytes", c->body_budget},
        {"tensor_header_bytes", LIMIT_TENSOR_HEADER},
        {"connections", c->connections},
        {"head_ms", c->head_ms},
        {"idle_ms", c->idle_ms},
        {"write_ms", c->write_ms},
        {"body_bytes_per_second", LIMIT_BODY_RATE},
        {"deadline_ms", c->deadline_ms},
        {"dim", LIMIT_DIM},
        {"blocks", LIMIT_BLOCKS},
        {"batch_rows", LIMIT_BATCH_ROWS},
        {"id_bytes", LIMIT_ID_BYTES},
        {"text_bytes", LIMIT_TEXT_BYTES},
        {"meta_bytes", LIMIT_META_BYTES},
        {"k", LIMIT_K},
        {"queries", LIMIT_QUERIES},
        {"hits", LIMIT_HITS},
        {"answer_bytes", LIMIT_ANSWER_BYTES},
        {"page", LIMIT_PAGE},
        {"page_bytes", LIMIT_PAGE_BYTES},
        {"filter_bytes", LIMIT_FILTER_BYTES},
        {"filter_depth", LIMIT_FILTER_DEPTH},
        {"filter_tests", LIMIT_FILTER_TESTS},
        {"filter_values", LIMIT_FILTER_VALUES},
        {"search_bytes", LIMIT_SEARCH_BYTES},
        {"search_terms", LIMIT_SEARCH_TERMS},
        {"search_wait_ms", LIMIT_SEARCH_WAIT_MS},
        {"saved", LIMIT_SAVED},
        {"saved_bytes", LIMIT_SAVED_BYTES},
        {"saved_gradient_bytes", LIMIT_SAVED_GRADIENT},
        {"saved_tags", LIMIT_SAVED_TAGS},
        {"groups", LIMIT_GROUPS},
        {"histogram_bins", LIMIT_BINS},
        {"query_ids", LIMIT_NAMED},
        {"manifest_bytes", LIMIT_MANIFEST},
        {"corpora", LIMIT_CORPORA},
        {"keys", LIMIT_KEYS},
        {"key_rate", c->rate},
        {"key_rate_burst", c->rate_burst ? c->rate_burst : 2 * c->rate},
        {"prompt_bytes", LIMIT_PROMPT_BYTES},
        {"continue_tokens", LIMIT_CONTINUE_TOKENS},
        {"encoder_queue", LIMIT_ENCODER_QUEUE},
        {"encoder_timeout_ms", c->encoder_timeout_ms},
        {"read_queue", c->read_queue},
        {"write_queue", LIMIT_WRITE_QUEUE},
        {"task_queue", LIMIT_TASK_QUEUE},
    };

    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        buf_format(out, "%s\"%s\":%llu", i ? "," : "", row[i].name,
                   (unsigned long long)row[i].value);
}

/* What engine=auto reckons with. */
static void rates(struct buf *out, const struct cost *c)
{
    struct rate r;
    bool measured = cost_rates(c, &r);

    buf_format(out, "\"measured\":%s,\"read_bytes\":%.3g,\"exact_products\":%.3g,"
                    "\"blas_products\":%.3g,\"six_products\":%.3g,\"six_many_products\":%.3g,"
                    "\"bits_products\":%.3g,\"bits_many_products\":%.3g",
               measured ? "true" : "false", r.read, r.exact, r.blas, r.six, r.six_many, r.bits,
               r.bits_many);
}

/* Who asks. */
static void put_caller(struct buf *out, const struct job *j)
{
    buf_format(out, "{\"id\":\"%s\",\"scope\":\"%s\",\"label\":", j->key_id,
               auth_scopes_name(j->scopes));
    http_json_string(out, j->key_label);
    buf_add_text(out, ",\"corpus\":");
    if (j->key_corpus)
        http_json_string(out, j->key_corpus);
    else
        buf_add_text(out, "null");
    buf_add_text(out, "}");
}

int meta_info(struct job *j)
{
    struct buf *out = &j->reply_body;

    buf_format(out, "{\"name\":\"ascribe\",\"version\":\"%s\",\"protocol\":1,\"store_format\":1",
               ASCRIBE_VERSION);
    buf_add_text(out, ",\"simd\":");
    http_json_string(out, kern_level());
    buf_format(out, ",\"engines\":[\"flat\",\"scan\",\"tiered\"],\"dtypes\":[\"%s\",\"%s\",\"%s\"]",
               dtype_name(DTYPE_F32), dtype_name(DTYPE_F16), dtype_name(DTYPE_BF16));
    buf_format(out, ",\"readers\":%u,\"uptime_s\":%llu,\"limits\":{", pool_readers(j->rt->pool),
               (unsigned long long)uptime(j->rt));
    limits(out, j->rt->config);
    buf_add_text(out, "},\"rates\":{");
    rates(out, j->rt->cost);
    buf_add_text(out, "},\"key\":");
    put_caller(out, j);
    buf_add_text(out, "}\n");
    return 0;
}
