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
 * flight; while it runs or its reply is written, at most one buffer of what follows is read ahead, which
 * is also how a reset is noticed.
 */
#include "server/conn.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "server/limits.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/pool.h"
#include "server/route.h"
#include "storage/base/check.h"

/* Lingering: the client gets this long to read the reply before a reset could destroy it. */
static const uint64_t LINGER_QUIET_NS = UINT64_C(1000000000), LINGER_MAX_NS = UINT64_C(10000000000);
/* A client that shut its sending side is asked whether it still listens after this long. */
static const uint64_t PROBE_NS = UINT64_C(250000000);

static void conn_step(struct conn *c);

static uint64_t ms(uint64_t milliseconds)
{
    return milliseconds * 1000000;
}

static void enter(struct conn *c, enum conn_state state)
{
    c->state = state;
    c->since = c->server->now_ns;
    c->progress = c->server->now_ns;
}

/* ---- closing -------------------------------------------------------------------------------------- */

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
    s->conn_count--;
    metrics_set(s->rt->metrics, METRIC_CONNECTIONS, s->conn_count);
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
    if (c->state == CONN_CLOSING)
        return;
    let_go(c);
    c->state = CONN_CLOSING;
    uv_close(&c->u.handle, on_closed);
}

/* ---- writing -------------------------------------------------------------------------------------- */

struct out {
    uv_write_t req;
    struct conn *conn;
    size_t piece_len;           /* of a streamed reply, else 0 */
    struct stream_piece *piece; /* owned */
};

static void on_written(uv_write_t *req, int status)
{
    struct out *o = req->data;
    struct conn *c = o->conn;

    c->writes--;
    c->progress = c->server->now_ns;
    if (o->piece_len && c->x)
        stream_written(&c->x->stream, o->piece_len);
    free(o->piece);
    free(o);
    if (status < 0)
        c->gone = true;
    if (c->state != CONN_CLOSING)
        conn_step(c);
}

static void count_out(struct conn *c, size_t n)
{
    c->x->bytes_out += n;
    metrics_add(c->server->rt->metrics, METRIC_BYTES_OUT, n);
}

/* Hands bytes to libuv. They stay where they are until on_written: in the exchange, or in `piece`,
 * which is taken. */
static void write_later(struct conn *c, const uv_buf_t bufs[], unsigned count,
                        struct stream_piece *piece)
{
    struct out *o = mem_new(1, sizeof *o);

    o->req.data = o;
    o->conn = c;
    o->piece = piece;
    o->piece_len = piece ? piece->len : 0;
    if (uv_write(&o->req, &c->u.stream, bufs, count, on_written)) {
        free(o->piece);
        free(o);
        c->gone = true;
        return;
    }
    c->writes++;
}

static uv_buf_t span(void *bytes, size_t len)
{
    return uv_buf_init(bytes, (unsigned)len);
}

/* The whole reply: most go out in one system call, the rest by libuv's queue. */
static void write_reply(struct conn *c)
{
    struct exchange *x = c->x;
    struct buf *body = &x->job.reply_body;
    uv_buf_t bufs[2] = {span(x->head.data, x->head.len), span(body->data, body->len)};
    unsigned count = x->head_only || body->len == 0 ? 1 : 2, first = 0;
    size_t total = x->head.len + (count == 2 ? body->len : 0), sent;
    int rc = uv_try_write(&c->u.stream, bufs, count);

    if (rc < 0 && rc != UV_EAGAIN) {
        c->gone = true;
        return;
    }
    count_out(c, total);
    sent = rc < 0 ? 0 : (size_t)rc;
    if (sent == total)
        return;
    if (sent >= bufs[0].len) {
        sent -= bufs[0].len;
        first = 1;
    }
    bufs[first].base += sent;
    bufs[first].len -= sent;
    write_later(c, bufs + first, count - first, NULL);
}

static void answer(struct conn *c)
{
    exchange_answer(c->x);
    enter(c, CONN_WRITING);
    write_reply(c);
}

/* Refuses the request before its body was read: the connection cannot be used again, because where
 * the next request begins is not known. */
static void refuse(struct conn *c)
{
    c->refused = true;
    c->x->keep_alive = false;
    answer(c);
}

/* ---- a streamed reply -------------------------------------------------------------------------------- */

static void pump(struct conn *c)
{
    struct exchange *x = c->x;
    struct stream_piece *p;

    if (!stream_has_begun(&x->stream))
        return;
    if (!c->head_sent) {
        uv_buf_t head;
        c->head_sent = true;
        exchange_answer_stream(x);
        head = span(x->head.data, x->head.len);
        write_later(c, &head, 1, NULL);
        count_out(c, x->head.len);
    }
    p = stream_take(&x->stream);
    while (p) {
        struct stream_piece *next = p->next;
        uv_buf_t bytes = span(p->bytes, p->len);
        count_out(c, p->len);
        write_later(c, &bytes, 1, p);
        p = next;
    }
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

/* ---- the states: each returns true when it moved, false to wait for an event ------------------------- */

static void drop_input(struct conn *c, size_t n)
{
    c->in_len -= n;
    if (c->in_len)
        memmove(c->in, c->in + n, c->in_len);
}

static void head_failed(struct conn *c, const struct err *e)
{
    c->x = exchange_new(c->server, c);
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

static void say_continue(struct conn *c)
{
    static char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
    uv_buf_t bytes = span(line, sizeof line - 1);

    /* An empty socket takes 25 bytes; if not, the client sends on its own after a while. */
    if (c->x->framing.expects_continue && c->in_len == 0 &&
        uv_try_write(&c->u.stream, &bytes, 1) > 0)
        c->progress = c->server->now_ns;
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
    c->x = exchange_new(c->server, c);
    c->x->bytes_in = c->head.size;
    if (exchange_admit(c->x, &c->head, c->in)) {
        drop_input(c, c->head.size);
        if (c->x->job.err.code == ERR_BAD_HTTP || c->x->framing.chunked || c->x->framing.length)
            refuse(c);
        else
            answer(c);
        return true;
    }
    drop_input(c, c->head.size);
    enter(c, CONN_BODY);
    if (exchange_wants_body(c->x))
        say_continue(c);
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

    pump(c);
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
    c->in_len = 0;
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

static void conn_step(struct conn *c)
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

/* ---- reading ------------------------------------------------------------------------------------------- */

/* Where the next bytes go: straight into the job's body when its length is known. */
static void on_room(uv_handle_t *h, size_t suggested, uv_buf_t *out)
{
    struct conn *c = h->data;
    size_t left;

    (void)suggested;
    if (c->state == CONN_LINGER) {
        *out = span(c->server->scratch, sizeof c->server->scratch);
    } else if (c->state == CONN_BODY && !c->x->framing.chunked) {
        unsigned char *tail = exchange_body_tail(c->x, &left);
        /* at most 1 MiB a read, so that the budget is asked often */
        *out = span(tail, left < (1u << 20) ? left : 1u << 20);
    } else {
        if (!c->in)
            c->in = mem_new(LIMIT_HEAD_BYTES, 1);
        *out = span(c->in + c->in_len, LIMIT_HEAD_BYTES - c->in_len);
    }
}

static void took(struct conn *c, size_t n)
{
    metrics_add(c->server->rt->metrics, METRIC_BYTES_IN, n);
    c->progress = c->server->now_ns;
    if (c->state == CONN_LINGER)
        return;
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

/* ---- accept, notice, time ------------------------------------------------------------------------------- */

/* Too many: the connection that idles longest makes room; with none idle, the new one goes. */
static bool make_room(struct server *s)
{
    struct conn *oldest = NULL;

    if (s->conn_count < s->rt->config->connections)
        return true;
    for (struct conn *c = s->conns; c; c = c->next)
        if (c->state == CONN_HEAD && c->in_len == 0 && (!oldest || c->since < oldest->since))
            oldest = c;
    if (oldest)
        conn_kill(oldest);
    return oldest != NULL;
}

static void on_refused_closed(uv_handle_t *h)
{
    free(h->data);
}

void conn_accept(struct listener *l)
{
    struct server *s = l->server;
    struct conn *c = mem_new(1, sizeof *c);
    bool room = make_room(s);

    c->server = s;
    if (l->u.handle.type == UV_TCP)
        uv_tcp_init(&s->loop, &c->u.tcp);
    else
        uv_pipe_init(&s->loop, &c->u.pipe, 0);
    c->u.handle.data = c;
    if (uv_accept(&l->u.stream, &c->u.stream) || !room) {
        metrics_add(s->rt->metrics, METRIC_REFUSED, 1);
        uv_close(&c->u.handle, on_refused_closed);
        return;
    }
    if (l->u.handle.type == UV_TCP)
        uv_tcp_nodelay(&c->u.tcp, 1);
    c->next = s->conns;
    if (c->next)
        c->next->prev = c;
    s->conns = c;
    s->conn_count++;
    metrics_add(s->rt->metrics, METRIC_ACCEPTED, 1);
    metrics_set(s->rt->metrics, METRIC_CONNECTIONS, s->conn_count);
    head_start(&c->head);
    enter(c, CONN_HEAD);
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

static void too_slow(struct conn *c, const char *what)
{
    struct err e = ERR_INIT;

    metrics_add(c->server->rt->metrics, METRIC_TIMEOUTS, 1);
    err_set(&e, ERR_SLOW_CLIENT, "%s", what);
    if (c->state == CONN_HEAD) {
        head_failed(c, &e);
    } else {
        c->x->job.err = e;
        refuse(c);
    }
    conn_step(c);
}

/* The average since the body began, after a grace. */
static bool body_too_slow(const struct conn *c, uint64_t now)
{
    uint64_t grace = ms(c->server->rt->config->head_ms), spent = now - c->since;

    return spent > grace && c->x->bytes_in < (spent - grace) / 1000000000 * LIMIT_BODY_RATE;
}

/* Nothing was taken from libuv's queue for too long: nobody reads. */
static bool reader_stuck(struct conn *c, uint64_t now)
{
    size_t queued = uv_stream_get_write_queue_size(&c->u.stream);

    if (queued == 0 || queued < c->queued)
        c->progress = now;
    c->queued = queued;
    return now - c->progress > ms(c->server->rt->config->write_ms);
}

/* A client that ended its sending side either waits for the reply or is gone altogether: both look
 * alike until something is sent. So an interim reply is, once (RFC 9110, section 15.2, lets a server
 * send one at any time before the final reply): a socket that is gone answers with a reset, which
 * then shows. */
static void ask_whether_there(struct conn *c, uint64_t now)
{
    struct pollfd p = {.events = 0};
    uv_os_fd_t fd;

    if (now - c->progress < PROBE_NS || c->head_sent || uv_fileno(&c->u.handle, &fd))
        return;
    p.fd = fd;
    if (poll(&p, 1, 0) > 0 && (p.revents & (POLLERR | POLLHUP))) {
        c->gone = true;
        return;
    }
    if (!c->probed && !c->x->framing.http10) {
        static char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
        uv_buf_t bytes = span(line, sizeof line - 1);
        c->probed = true;
        if (uv_try_write(&c->u.stream, &bytes, 1) < 0)
            c->gone = true;
    }
}

void conn_sweep(struct conn *c)
{
    const struct config *limit = c->server->rt->config;
    uint64_t now = c->server->now_ns;

    switch (c->state) {
    case CONN_HEAD:
        if (c->in_len == 0 && now - c->since > ms(limit->idle_ms))
            conn_kill(c);
        else if (c->in_len && now - c->since > ms(limit->head_ms))
            too_slow(c, "the head did not arrive in time");
        return;
    case CONN_BODY:
        if (body_too_slow(c, now) || now - c->progress > ms(limit->idle_ms))
            too_slow(c, "the body arrives too slowly");
        return;
    case CONN_RUNNING:
        if (c->eof)
            ask_whether_there(c, now);
        if (c->writes && reader_stuck(c, now))
            c->gone = true;
        break;
    case CONN_WRITING:
        if (reader_stuck(c, now)) {
            metrics_add(c->server->rt->metrics, METRIC_TIMEOUTS, 1);
            c->gone = true;
        }
        break;
    case CONN_LINGER:
        if (now - c->progress > LINGER_QUIET_NS || now - c->since > LINGER_MAX_NS)
            c->gone = true;
        break;
    case CONN_CLOSING:
        return;
    }
    if (c->gone)
        conn_step(c);
}

void conn_drain(struct conn *c)
{
    if (c->x)
        c->x->keep_alive = false;
    if (c->state == CONN_HEAD)
        conn_step(c);
}
