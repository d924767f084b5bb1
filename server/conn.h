/* conn.h - connections. conn.c holds the one state machine of the transport; around it
 * conn_accept.c (how one begins), conn_write.c (bytes out) and conn_time.c (deadlines). Loop
 * thread. */
#ifndef SERVER_CONN_H
#define SERVER_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "server/exchange.h"
#include "server/head.h"
#include "server/server.h"

enum conn_state { CONN_HEAD, CONN_BODY, CONN_RUNNING, CONN_WRITING, CONN_LINGER, CONN_CLOSING };

struct conn {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } u;
    struct server *server;
    struct conn *next, *prev; /* server->conns */

    enum conn_state state;
    bool reading;
    bool eof;         /* the client sends no more; it may still read */
    bool gone;        /* the client is lost: reset, too slow, or a write failed */
    bool refused;     /* what comes in is not to be parsed any more */
    bool probed;      /* see conn_sweep */
    bool known;       /* a request of it had a good key: others make room first */
    bool head_sent;   /* of a streamed reply */
    char peer[64];    /* who is at the other end; exchange.h */
    struct head head;
    char *in;         /* LIMIT_HEAD_BYTES, or NULL while there is nothing to keep */
    size_t in_len;
    struct exchange *x; /* from the end of the head to the end of the reply */
    unsigned writes;  /* handed to libuv, not called back */

    uint64_t since;    /* ns: the state was entered; HEAD: the first byte, or idle since */
    uint64_t progress; /* ns: the socket last took or gave bytes */
    size_t queued;     /* libuv's write queue when last looked at */
};

/* A connection waits on the listener: takes it, or refuses it when there are too many. */
void conn_accept(struct listener *l);

/* A worker has something to say about the exchange, or is done with it. */
void conn_notice(struct exchange *x, bool done);

/* Every SERVER_TICK_MS: deadlines of each state. */
void conn_sweep(struct conn *c);

/* The drain begins: an idle connection ends now, another after its reply. */
void conn_drain(struct conn *c);

/* Drops the connection without another word. */
void conn_kill(struct conn *c);

/* ---- between the conn files ------------------------------------------------------------------ */

/* Moves as far as it can: every callback stores what happened and calls this. */
void conn_step(struct conn *c);
/* A fresh connection, in the server's list: waits for its first head. */
void conn_begin(struct conn *c);
/* From HEAD or BODY: answers with the problem, takes no more, closes. */
void conn_refuse(struct conn *c, const struct err *e);

/* The whole reply of c->x: most go out in one system call, the rest by libuv's queue. */
void conn_write_reply(struct conn *c);
/* What the worker of a streamed reply has put so far, its head first. */
void conn_write_stream(struct conn *c);
/* The interim reply 100. */
void conn_write_continue(struct conn *c);

/* uv_buf_init takes an unsigned int, which would cut at 4 GiB. */
static inline uv_buf_t conn_span(void *bytes, size_t len)
{
    return (uv_buf_t){.base = bytes, .len = len};
}

#endif
