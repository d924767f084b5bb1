/* conn.c - one connection: bytes in, one request at a time, bytes out.
 *
 *             head not whole           body not whole
 *               +----+                    +----+
 *               v    |     allowed        v    |     whole
 *   accept --> HEAD -+---------------->  BODY -+------------> RUNNING --+  a streamed reply is
 *               ^    |                    |                     |   ^   |  pumped while RUNNING
 *               |    | refused            | refused             |   +---+
 *               |    v                    v                     | done
 *               +-- WRITING <-------------+---------------------+
 *        kept       |   |
 *                   |   | the client has not read us and may still be sending
 *                   |   v
 *                   | LINGER: our side shut down, what comes is thrown away
 *                   v   v
 *                  CLOSING --> freed          (gone: from every state, at once)
 *
 * Every callback stores what happened and calls conn_step; conn_step alone moves. One request is in
 * flight; while it runs or its reply is written, at most one buffer of what follows is read ahead,
 * which is also how a reset is noticed.
 */
#include "server/conn.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "server/limits.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/pool.h"
#include "server/route.h"
#include "storage/base/check.h"

/* One read of a body. */
enum { READ_MAX = 64 * 1024 };

static void enter(struct conn *c, enum conn_state state)
{
    c->state = state;
    c->since = c->server->now_ns;
    c->progress = c->server->now_ns;
}

/* ---- closing --------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *h)
{
    struct conn *c = h->data;
    struct server *s = c->server;

    if (c->prev)
        c->prev->next = c->next;
    else
        s->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    if (c->in_len)
        sodium_memzero(c->in, c->in_len);
    free(c->in);
    free(c);
}

/* The exchange outlives the connection while the pool has it. */
static void let_go(struct conn *c)
{
    struct exchange *x = c->x;

    c->x = NULL;
    if (!x)
        return;
    x->conn = NULL;
    if (x->in_pool) {
        atomic_store_explicit(&x->job.cancelled, true, memory_order_relaxed);
        stream_close(&x->stream);
    } else {
        exchange_end(x, 499);
    }
}

void conn_kill(struct conn *c)
{
    struct server *s = c->server;

    if (c->state == CONN_CLOSING)
        return;
    let_go(c);
    c->state = CONN_CLOSING;
    uv_close(&c->u.handle, on_closed); /* the descriptor is closed now, the memory freed later */
    s->conn_count--;
    metrics_set(s->rt->metrics, METRIC_CONNECTIONS, s->conn_count);
}

static void answer(struct conn *c)
{
    exchange_answer(c->x);
    enter(c, CONN_WRITING);
    conn_write_reply(c);
}

/* Refuses the request before its body was read: the connection cannot be used again, because where
 * the next request begins is not known. */
static void refuse(struct conn *c)
{
    c->refused = true;
    c->x->keep_alive = false;
    answer(c);
}

/* The worker is done: either all was given, or the reply can only be cut short. */
static void end_stream(struct conn *c)
{
    struct exchange *x = c->x;
    bool whole = x->head_only || x->stream.given == x->stream.total;

    if (x->job.err.code || !whole) {
        struct log_line l;
        log_begin(&l, LOG_WARN, "reply cut short");
        log_text(&l, "id", x->job.request_id);
        log_err(&l, &x->job.err);
        log_end(&l);
        c->gone = true;
        return;
    }
    enter(c, CONN_WRITING);
}

/* ---- the states: each returns true when it moved, false to wait for an event ----------------- */

/* What is let go of is wiped: a head has a key in it. */
static void drop_input(struct conn *c, size_t n)
{
    c->in_len -= n;
    if (c->in_len)
        memmove(c->in, c->in + n, c->in_len);
    if (n)
        sodium_memzero(c->in + c->in_len, n);
}

static void begin_exchange(struct conn *c)
{
    c->x = exchange_new(c->server, c);
    memcpy(c->x->peer, c->peer, sizeof c->peer);
}

static void head_failed(struct conn *c, const struct err *e)
{
    begin_exchange(c);
    c->x->job.err = *e;
    c->x->framing.method = "-";
    refuse(c);
}

/* The bytes so far are no whole head: are they too many, or were they the last? */
static bool head_unfinished(struct conn *c)
{
    struct err e = ERR_INIT;

    if (c->in_len == LIMIT_HEAD_BYTES) {
        err_set(&e, ERR_HEADERS_TOO_LARGE, "the head is larger than %u bytes", LIMIT_HEAD_BYTES);
        err_at_limit(&e, LIMIT_HEAD_BYTES);
    } else if (c->eof) {
        err_set(&e, ERR_BAD_HTTP, "the head ended after %zu bytes", c->in_len);
    } else {
        return false;
    }
    head_failed(c, &e);
    return true;
}

static bool step_head(struct conn *c)
{
    if (c->in_len == 0) {
        if (c->eof || c->server->draining)
            conn_kill(c);
        return false;
    }
    if (head_feed(&c->head, c->in, c->in_len)) {
        head_failed(c, &c->head.err);
        return true;
    }
    if (!c->head.complete)
        return head_unfinished(c);
    begin_exchange(c);
    c->x->bytes_in = c->head.size;
    if (exchange_admit(c->x, &c->head, c->in)) {
        drop_input(c, c->head.size);
        if (c->x->job.err.code == ERR_BAD_HTTP || c->x->framing.chunked || c->x->framing.length)
            refuse(c);
        else
            answer(c);
        return true;
    }
    c->known = c->known || c->x->job.scopes;
    drop_input(c, c->head.size);
    enter(c, CONN_BODY);
    /* whoever has begun to send needs no invitation */
    if (c->x->framing.expects_continue && c->in_len == 0 && exchange_wants_body(c->x))
        conn_write_continue(c);
    return true;
}

/* Takes what lies in the input buffer into the body. */
static int body_take(struct conn *c)
{
    struct exchange *x = c->x;
    size_t used = 0, left;

    if (c->in_len == 0)
        return 0;
    if (x->framing.chunked) {
        int rc = exchange_body_chunks(x, c->in, c->in_len, &used);
        x->bytes_in += used;
        drop_input(c, used);
        return rc;
    }
    {
        unsigned char *tail = exchange_body_tail(x, &left);
        used = left < c->in_len ? left : c->in_len;
        if (used)
            memcpy(tail, c->in, used);
    }
    x->bytes_in += used;
    drop_input(c, used);
    return exchange_body_filled(x, used);
}

static void run(struct conn *c)
{
    struct exchange *x = c->x;

    exchange_body_done(x);
    if (x->job.err.code || (!x->job.route->work && !x->job.route->commit)) {
        answer(c);
        return;
    }
    if (pool_submit(c->server->rt->pool, &x->job, &x->job.err)) {
        answer(c);
        return;
    }
    x->in_pool = true;
    c->server->in_pool++;
    c->head_sent = false;
    c->probed = false;
    enter(c, CONN_RUNNING);
}

static bool step_body(struct conn *c)
{
    struct exchange *x = c->x;

    if (x->job.err.code || body_take(c)) {
        refuse(c);
        return true;
    }
    if (!exchange_wants_body(x)) {
        run(c);
        return true;
    }
    if (!c->eof)
        return false;
    err_set(&x->job.err, ERR_BAD_HTTP, "the body ended after %zu bytes", x->job.body_len);
    err_at_index(&x->job.err, (int64_t)x->job.body_len);
    refuse(c);
    return true;
}

static bool step_running(struct conn *c)
{
    struct exchange *x = c->x;

    conn_write_stream(c);
    if (c->gone || x->in_pool)
        return c->gone;
    if (c->head_sent)
        end_stream(c);
    else
        answer(c);
    return true;
}

static void on_shut(uv_shutdown_t *req, int status)
{
    (void)status; /* a client that is gone shows up as a failed read */
    free(req);
}

static bool linger(struct conn *c)
{
    uv_shutdown_t *req = mem_new(1, sizeof *req);

    if (uv_shutdown(req, &c->u.stream, on_shut)) {
        free(req);
        c->gone = true;
        return true;
    }
    drop_input(c, c->in_len);
    enter(c, CONN_LINGER);
    return true;
}

static bool step_writing(struct conn *c)
{
    struct server *s = c->server;
    bool keep;

    if (c->writes)
        return false;
    keep = c->x->keep_alive && !s->draining;
    exchange_end(c->x, 0);
    c->x = NULL;
    if (!keep) {
        /* close(2) with unread bytes in the socket resets, which may destroy the reply */
        if ((c->refused || c->in_len) && !c->eof)
            return linger(c);
        c->gone = true;
        return true;
    }
    head_start(&c->head);
    enter(c, CONN_HEAD);
    return true;
}

static bool step_linger(struct conn *c)
{
    if (c->eof)
        c->gone = true;
    return c->eof;
}

static bool may_read(const struct conn *c)
{
    if (c->eof || c->state == CONN_CLOSING)
        return false;
    if (c->state == CONN_LINGER || (c->state == CONN_BODY && !c->x->framing.chunked))
        return true;
    if (c->refused && c->state == CONN_WRITING)
        return false; /* until it lingers */
    return c->in_len < LIMIT_HEAD_BYTES;
}

static void on_room(uv_handle_t *h, size_t suggested, uv_buf_t *out);
static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

static void read_or_not(struct conn *c)
{
    bool want = may_read(c);

    if (want == c->reading)
        return;
    c->reading = want;
    if (!want)
        uv_read_stop(&c->u.stream);
    else if (uv_read_start(&c->u.stream, on_room, on_read))
        conn_kill(c);
}

void conn_step(struct conn *c)
{
    bool moved = true;

    while (moved && c->state != CONN_CLOSING) {
        if (c->gone) {
            conn_kill(c);
            return;
        }
        switch (c->state) {
        case CONN_HEAD:
            moved = step_head(c);
            break;
        case CONN_BODY:
            moved = step_body(c);
            break;
        case CONN_RUNNING:
            moved = step_running(c);
            break;
        case CONN_WRITING:
            moved = step_writing(c);
            break;
        case CONN_LINGER:
            moved = step_linger(c);
            break;
        case CONN_CLOSING:
            break;
        }
    }
    if (c->state == CONN_CLOSING)
        return;
    if (c->in && c->in_len == 0 && c->state == CONN_HEAD) {
        free(c->in); /* an idle connection keeps no buffer */
        c->in = NULL;
    }
    read_or_not(c);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Where the next bytes go: straight into the job's body when its length is known. */
static void on_room(uv_handle_t *h, size_t suggested, uv_buf_t *out)
{
    struct conn *c = h->data;
    size_t left;

    (void)suggested;
    if (c->state == CONN_LINGER) {
        *out = conn_span(c->server->scratch, sizeof c->server->scratch);
    } else if (c->state == CONN_BODY && !c->x->framing.chunked) {
        unsigned char *tail = exchange_body_tail(c->x, &left);
        /* libuv reads up to 32 times before it looks at the next connection: 2 MiB in all */
        *out = conn_span(tail, left < READ_MAX ? left : READ_MAX);
    } else {
        if (!c->in)
            c->in = mem_new(LIMIT_HEAD_BYTES, 1);
        *out = conn_span(c->in + c->in_len, LIMIT_HEAD_BYTES - c->in_len);
    }
}

static void took(struct conn *c, size_t n)
{
    metrics_add(c->server->rt->metrics, METRIC_BYTES_IN, n);
    c->progress = c->server->now_ns;
    if (c->state == CONN_LINGER) {
        sodium_memzero(c->server->scratch, n); /* may be a whole further request, key and all */
        return;
    }
    if (c->state == CONN_BODY && !c->x->framing.chunked) {
        c->x->bytes_in += n;
        exchange_body_filled(c->x, n);
        return;
    }
    if (c->state == CONN_HEAD && c->in_len == 0)
        c->since = c->server->now_ns;
    c->in_len += n;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = stream->data;

    (void)buf;
    if (n == 0 || c->state == CONN_CLOSING)
        return;
    if (n == UV_EOF) {
        c->eof = true;
        c->reading = false; /* libuv stopped by itself */
        c->progress = c->server->now_ns;
    } else if (n < 0) {
        c->gone = true;
    } else {
        took(c, (size_t)n);
    }
    conn_step(c);
}

/* ---- from outside the machine ---------------------------------------------------------------- */

void conn_begin(struct conn *c)
{
    head_start(&c->head);
    enter(c, CONN_HEAD);
    conn_step(c);
}

void conn_refuse(struct conn *c, const struct err *e)
{
    if (c->state == CONN_HEAD) {
        head_failed(c, e);
    } else {
        c->x->job.err = *e;
        refuse(c);
    }
    conn_step(c);
}

void conn_notice(struct exchange *x, bool done)
{
    struct conn *c = x->conn;

    if (done) {
        x->in_pool = false;
        x->server->in_pool--;
    }
    if (c)
        conn_step(c);
    else if (done)
        exchange_end(x, 499);
}

void conn_drain(struct conn *c)
{
    if (c->x)
        c->x->keep_alive = false;
    if (c->state == CONN_HEAD)
        conn_step(c);
}
