/* exchange.c - see exchange.h. */
#include "server/exchange.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/audit.h"
#include "server/config.h"
#include "server/folders.h"
#include "server/limits.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/route.h"
#include "server/server.h"
#include "storage/base/check.h"
#include "storage/base/keep.h"

struct exchange *exchange_new(struct server *s, struct conn *c)
{
    struct exchange *x = mem_new(1, sizeof *x);

    x->server = s;
    x->conn = c;
    x->job.rt = s->rt;
    x->job.core = x;
    err_clear(&x->job.err);
    x->job.content_type = "";
    x->job.key_id = x->job.key_label = "";
    x->job.started_ns = server_now();
    x->framing.method = "";
    snprintf(x->job.request_id, sizeof x->job.request_id, "%08x%08llx", s->boot,
             (unsigned long long)s->next_request++ & 0xffffffffULL);
    stream_init(&x->stream);
    return x;
}

/* Less than this is freed on the spot. */
enum { REAP_BYTES = 1 << 20 };

static unsigned char *body_bytes(struct exchange *x)
{
    return (unsigned char *)(uintptr_t)x->job.body;
}

static void body_free(struct exchange *x)
{
    x->server->body_bytes -= x->body_charged;
    metrics_set(x->server->rt->metrics, METRIC_BODY_BYTES, x->server->body_bytes);
    x->body_charged = 0;
    keep_give(body_bytes(x));
    server_settle(x->server);
    x->job.body = NULL;
    x->job.body_len = 0;
}

static void reply_free(struct exchange *x)
{
    struct arena none = {.head = NULL};
    struct buf *b = &x->job.reply_body;

    if (x->job.secret && b->data)
        sodium_memzero(b->data, b->cap);
    if (b->len >= REAP_BYTES) {
        server_reap(x->server, b->data, &none);
        *b = (struct buf){.data = NULL};
    }
    buf_free(b);
}

static void finish(struct exchange *x)
{
    if (x->parsed && x->job.route->finish)
        x->job.route->finish(&x->job);
    x->parsed = false;
}

/* Before the answer goes out, or once it is known that none will: what was acknowledged is
 * written. */
static void audit(struct exchange *x, int status)
{
    if (!x->audited)
        audit_request(x->server->rt->audit, x, status);
    x->audited = true;
}

static void log_request(const struct exchange *x, int status, uint64_t ns)
{
    const struct job *j = &x->job;
    struct log_line l;
    bool quiet = j->route && status < 400 && strncmp(j->route->path, "/v1/", 4) != 0;

    log_begin(&l, quiet ? LOG_DEBUG : LOG_INFO, "request");
    log_text(&l, "id", j->request_id);
    log_text(&l, "method", x->framing.method);
    log_text(&l, "route", j->route ? j->route->path : "-");
    log_number(&l, "status", (uint64_t)status);
    log_number(&l, "in", x->bytes_in);
    log_number(&l, "out", x->bytes_out);
    log_ms(&l, "ms", ns);
    if (j->key_id[0])
        log_text(&l, "key", j->key_id);
    if (j->err.code)
        log_text(&l, "code", err_word(j->err.code));
    log_end(&l);
}

void exchange_end(struct exchange *x, int status)
{
    uint64_t ns = server_now() - x->job.started_ns;

    require(!x->in_pool);
    if (!status)
        status = x->job.status;
    finish(x);
    body_free(x);
    audit(x, status);
    log_request(x, status, ns);
    metrics_request(x->server->rt->metrics, x->job.route, status, ns);
    if (status == 499)
        metrics_add(x->server->rt->metrics, METRIC_CANCELLED, 1);
    buf_free(&x->head);
    reply_free(x);
    if (x->job.arena.total_bytes >= REAP_BYTES)
        server_reap(x->server, NULL, &x->job.arena);
    arena_free(&x->job.arena);
    stream_destroy(&x->stream);
    free(x);
}

/* ---- the body -------------------------------------------------------------------------------- */

bool exchange_wants_body(const struct exchange *x)
{
    if (x->framing.chunked)
        return !x->chunked.done;
    return x->job.body_len < x->framing.length;
}

static int charge(struct exchange *x, uint64_t bytes)
{
    struct server *s = x->server;

    if (bytes > s->rt->config->body_budget - s->body_bytes) {
        err_set(&x->job.err, ERR_BUSY, "what is in flight reaches the budget of %llu bytes",
                (unsigned long long)s->rt->config->body_budget);
        return err_at_limit(&x->job.err, (int64_t)s->rt->config->body_budget);
    }
    s->body_bytes += bytes;
    x->body_charged += bytes;
    metrics_set(s->rt->metrics, METRIC_BODY_BYTES, s->body_bytes);
    return 0;
}

unsigned char *exchange_body_tail(struct exchange *x, size_t *out_left)
{
    *out_left = (size_t)x->framing.length - x->job.body_len;
    return body_bytes(x) + x->job.body_len;
}

int exchange_body_filled(struct exchange *x, size_t n)
{
    x->job.body_len += n;
    return charge(x, n);
}

/* Doubling: the length is not known. What is charged is the room, since it is being written. */
static int grow(struct exchange *x, size_t need)
{
    size_t room = x->body_room ? x->body_room : 4096;
    unsigned char *more;

    while (room < need)
        room *= 2;
    if (room > x->body_limit + 1)
        room = (size_t)x->body_limit + 1; /* no body is longer, and its NUL */
    if (room <= x->body_room)
        return 0;
    if (charge(x, room - x->body_room))
        return (int)x->job.err.code;
    more = keep_take(room, 1);
    if (!more)
        return err_set(&x->job.err, ERR_BUSY, "no memory for the body");
    if (x->job.body_len)
        memcpy(more, x->job.body, x->job.body_len);
    keep_give(body_bytes(x));
    x->job.body = more;
    x->body_room = room;
    return 0;
}

static int chunk_data(void *arg, const char *bytes, size_t n)
{
    struct exchange *x = arg;

    if (n > x->body_limit - x->job.body_len)
        return exchange_too_large(x);
    if (grow(x, x->job.body_len + n + 1))
        return (int)x->job.err.code;
    memcpy(body_bytes(x) + x->job.body_len, bytes, n);
    x->job.body_len += n;
    return 0;
}

int exchange_body_chunks(struct exchange *x, const char *in, size_t len, size_t *out_used)
{
    if (chunked_feed(&x->chunked, in, len, out_used, chunk_data, x, &x->job.err))
        return (int)x->job.err.code;
    /* a chunk that announces too much need not be waited for */
    return x->chunked.left > x->body_limit - x->job.body_len ? exchange_too_large(x) : 0;
}

void exchange_body_done(struct exchange *x)
{
    struct job *j = &x->job;

    if (j->body)
        body_bytes(x)[j->body_len] = '\0';
    if (x->framing.chunked && j->body_len == 0 && !j->route->body_optional)
        err_set(&j->err, ERR_LENGTH, "this route needs a body");
    j->deadline_ns = server_now() + j->rt->config->deadline_ms * 1000000;
}

/* ---- the reply ------------------------------------------------------------------------------- */

static void log_fault(const struct exchange *x)
{
    const struct job *j = &x->job;
    struct log_line l;

    log_begin(&l, LOG_ERROR, "fault");
    log_text(&l, "id", j->request_id);
    log_text(&l, "route", j->route ? j->route->path : "-");
    log_err(&l, &j->err);
    log_end(&l);
}

static void answer_problem(struct exchange *x)
{
    struct job *j = &x->job;

    reply_free(x);
    j->status = err_status(j->err.code);
    j->reply_type = "application/problem+json";
    j->reply_location = NULL;
    if (j->status == 503) {
        j->reply_extra = "Retry-After: 1\r\n";
        metrics_add(j->rt->metrics, METRIC_BUSY, 1);
    } else if (j->status != 401 && j->status != 405 && j->status != 429) {
        j->reply_extra = NULL;
    }
    if (j->err.code == ERR_RATE_LIMITED)
        metrics_add(j->rt->metrics, METRIC_RATE_LIMITED, 1);
    else if (j->status == 401 || j->status == 403)
        metrics_add(j->rt->metrics, METRIC_DENIED, 1);
    if (j->status >= 500 && j->status != 503 && j->status != 504)
        log_fault(x);
    if (j->status >= 500)
        folders_hide(j->err.text, j->rt->config->store);
    http_problem(&j->reply_body, &j->err, j->request_id);
}

static void put_head(struct exchange *x, const char *type, uint64_t length)
{
    struct job *j = &x->job;
    struct http_reply r = {
        .status = j->status,
        .type = type,
        .length = length,
        .location = j->reply_location,
        .extra = j->reply_extra,
        .request_id = j->request_id,
        .date = x->server->date,
        .keep_alive = x->keep_alive,
        .http10 = x->framing.http10,
    };

    http_reply_head(&x->head, &r);
}

#define BARE_BODY                                                                                  \
    "{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503," \
    "\"code\":\"busy\",\"detail\":\"no memory for the reply\"}\n"
_Static_assert(sizeof BARE_BODY - 1 == 115, "its Content-Length");
const char exchange_bare[] = "HTTP/1.1 503 Service Unavailable\r\n"
                             "Content-Type: application/problem+json\r\nContent-Length: 115\r\n"
                             "Retry-After: 1\r\nConnection: close\r\n\r\n" BARE_BODY;

const void *exchange_reply_body(const struct exchange *x, size_t *out_len)
{
    const struct job *j = &x->job;

    *out_len = j->reply_static ? j->reply_static_len : j->reply_body.len;
    return j->reply_static ? j->reply_static : j->reply_body.data;
}

void exchange_answer(struct exchange *x)
{
    struct job *j = &x->job;
    size_t len;

    if (!j->err.code && j->route->reply && j->route->reply(j) && !j->err.code)
        err_set(&j->err, ERR_INTERNAL, "the reply could not be made");
    if (!j->err.code && j->reply_body.failed)
        err_set(&j->err, ERR_BUSY, "no memory for the reply");
    finish(x);
    body_free(x);
    /* a reply may wait long for a slow reader: many of them together must stay within the budget */
    if (!j->err.code && j->reply_body.len >= REAP_BYTES)
        charge(x, j->reply_body.len);
    if (j->err.code)
        answer_problem(x);
    if (!j->status)
        j->status = 200;
    if (j->status == 204 || j->status == 304)
        buf_free(&j->reply_body);
    audit(x, j->status);
    exchange_reply_body(x, &len);
    put_head(x, j->status == 204 ? NULL : j->reply_type ? j->reply_type : "application/json", len);
    if (x->head.failed || j->reply_body.failed) {
        x->bare = true;
        x->keep_alive = false;
        j->status = 503;
    }
}

bool exchange_answer_stream(struct exchange *x)
{
    x->job.status = 200;
    put_head(x, x->stream.type, x->stream.total);
    return !x->head.failed;
}
