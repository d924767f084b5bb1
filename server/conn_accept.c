/* conn_accept.c - new connections, and which of too many goes. See conn.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "server/conn.h"
#include "server/limits.h"
#include "server/metrics.h"
#include "storage/base/mem.h"

/* A peer that vanished without a word is noticed by the kernel after this many idle seconds. */
enum { KEEPALIVE_S = 60 };

/* How well a connection can be spared; 0: not at all. */
static unsigned spare(const struct conn *c)
{
    uint64_t in_state = c->server->now_ns - c->since;

    if (c->state == CONN_HEAD && c->in_len == 0)
        return c->known ? 1 : 4; /* idles; one that has shown a key will be back */
    if (c->state == CONN_LINGER)
        return 3; /* was refused, and has been told why */
    if (c->state == CONN_HEAD && in_state > LIMIT_HEAD_GRACE_MS * UINT64_C(1000000))
        return 2; /* takes long over what fits into one packet */
    return 0;
}

/* Too many: the one that can best be spared makes room, of equals the one that has been so for
 * longest; with none of those, the new one goes. */
static bool make_room(struct server *s)
{
    struct conn *worst = NULL;
    unsigned most = 0;

    if (s->conn_count < s->rt->config->connections)
        return true;
    for (struct conn *c = s->conns; c; c = c->next) {
        unsigned n = spare(c);

        /* the list begins with the newest: <= where two came in one turn of the loop */
        if (n > most || (n && n == most && c->since <= worst->since)) {
            worst = c;
            most = n;
        }
    }
    if (worst)
        conn_kill(worst);
    return worst != NULL;
}

static void on_refused_closed(uv_handle_t *h)
{
    free(h->data);
}

static void name_unix(struct conn *c)
{
    struct ucred who;
    socklen_t len = sizeof who;
    uv_os_fd_t fd;

    if (uv_fileno(&c->u.handle, &fd) == 0 &&
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0)
        snprintf(c->peer, sizeof c->peer, "uid=%u,pid=%d", who.uid, who.pid);
}

static void name_inet(struct conn *c)
{
    struct sockaddr_storage a;
    int len = sizeof a;
    char host[46];

    if (uv_tcp_getpeername(&c->u.tcp, (struct sockaddr *)&a, &len))
        return;
    if (a.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)&a;
        uv_ip6_name(in6, host, sizeof host);
        snprintf(c->peer, sizeof c->peer, "[%s]:%u", host, ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in = (const void *)&a;
        uv_ip4_name(in, host, sizeof host);
        snprintf(c->peer, sizeof c->peer, "%s:%u", host, ntohs(in->sin_port));
    }
}

/* For the audit: who is at the other end. "-" when it is gone already. */
static void name_peer(struct conn *c)
{
    memcpy(c->peer, "-", 2);
    if (c->u.handle.type == UV_TCP)
        name_inet(c);
    else
        name_unix(c);
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
    name_peer(c);
    c->next = s->conns;
    if (c->next)
        c->next->prev = c;
    s->conns = c;
    s->conn_count++;
    metrics_add(s->rt->metrics, METRIC_ACCEPTED, 1);
    metrics_set(s->rt->metrics, METRIC_CONNECTIONS, s->conn_count);
    conn_begin(c);
}
