/* conn_time.c - deadlines: what a connection may take in each state, looked at every tick. See
 * conn.h. */
#include <poll.h>

#include "server/conn.h"
#include "server/limits.h"
#include "server/metrics.h"

/* Lingering: the client gets this long to read the reply before a reset could destroy it. */
static const uint64_t LINGER_QUIET_NS = UINT64_C(1000000000), LINGER_MAX_NS = UINT64_C(10000000000);
/* A client that shut its sending side is asked whether it still listens after this long. */
static const uint64_t PROBE_NS = UINT64_C(250000000);

static uint64_t ms(uint64_t milliseconds)
{
    return milliseconds * 1000000;
}

static void too_slow(struct conn *c, const char *what)
{
    struct err e = ERR_INIT;

    metrics_add(c->server->rt->metrics, METRIC_TIMEOUTS, 1);
    err_set(&e, ERR_SLOW_CLIENT, "%s", what);
    conn_refuse(c, &e);
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

/* A client that ended its sending side either waits for the reply or is gone altogether: both
 * look alike until something is sent. So an interim reply is, once (RFC 9110, section 15.2, lets
 * a server send one at any time before the final reply): a socket that is gone answers with a
 * reset, which then shows. */
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
        c->probed = true;
        conn_write_continue(c);
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
