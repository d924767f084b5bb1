/* conn_accept.c - new connections, and which of too many goes. See conn.h. */
#include <stdlib.h>

#include "server/conn.h"
#include "server/metrics.h"
#include "storage/base/mem.h"

/* A peer that vanished without a word is noticed by the kernel after this many idle seconds. */
enum { KEEPALIVE_S = 60 };

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
    if (l->u.handle.type == UV_TCP) {
        uv_tcp_nodelay(&c->u.tcp, 1);
        uv_tcp_keepalive(&c->u.tcp, 1, KEEPALIVE_S);
    }
    c->next = s->conns;
    if (c->next)
        c->next->prev = c;
    s->conns = c;
    s->conn_count++;
    metrics_add(s->rt->metrics, METRIC_ACCEPTED, 1);
    metrics_set(s->rt->metrics, METRIC_CONNECTIONS, s->conn_count);
    conn_begin(c);
}
