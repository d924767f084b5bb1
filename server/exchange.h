/* exchange.h - one request and its reply, without a socket: the checks between head and body,
 * the body's buffer, the bytes of the answer. conn.c moves the bytes; pool.c runs the work.
 *
 * Owner: the connection; while `in_pool`, the pool. When the client leaves meanwhile, `conn`
 * becomes NULL and the loop frees the exchange once the pool gives it back. Loop thread, but for
 * the job and the stream while in the pool.
 */
#ifndef SERVER_EXCHANGE_H
#define SERVER_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/head.h"
#include "server/http.h"
#include "server/job.h"
#include "server/stream.h"

struct server;
struct conn;

struct exchange {
    struct job job; /* job.core points back here */
    struct server *server;
    struct conn *conn; /* NULL: the client is gone */
    struct head_framing framing;
    bool head_only;    /* HEAD: no body goes out */
    bool keep_alive;   /* what the reply says */
    bool bare;         /* no memory for the reply: exchange_bare goes out */
    bool parsed;       /* route->parse ran: route->finish is owed */
    bool in_pool;

    const char *coding; /* Content-Encoding, or NULL */
    uint64_t body_limit;
    size_t body_room;      /* allocated */
    uint64_t body_charged; /* of the server's budget: the body, then a large reply */
    struct chunked chunked;

    char peer[64];         /* 127.0.0.1:4711, or uid=1000,pid=4711 of a unix socket */
    const char *forwarded; /* what X-Forwarded-For claims, or NULL */
    bool audited;

    struct stream stream;
    struct buf head; /* of the reply */
    uint64_t bytes_in, bytes_out;

    /* under server->lock */
    struct exchange *next_notice;
    bool noticed, work_done;
};

struct exchange *exchange_new(struct server *s, struct conn *c);

/* Frees everything; not while in_pool. Logs and counts the request. `status` overrides what went
 * out (499: nothing did), 0 keeps it. */
void exchange_end(struct exchange *x, int status);

/* All checks between the head and the body: framing, target, route, key, scope, type, length, the
 * route's parse. 0 or the code in job.err. `head` is whole. */
int exchange_admit(struct exchange *x, const struct head *head, const char *bytes);

/* True when bytes of a body are still to come. */
bool exchange_wants_body(const struct exchange *x);
/* Content-Length bodies: where the next bytes go, and how many are still to come. */
unsigned char *exchange_body_tail(struct exchange *x, size_t *out_left);
/* n bytes were put there. BUSY when the budget of all bodies is spent. */
int exchange_body_filled(struct exchange *x, size_t n);
/* TOO_LARGE: the body passes body_limit. */
int exchange_too_large(struct exchange *x);
/* Chunked bodies: eats from the input. TOO_LARGE, BUSY, BAD_HTTP. */
int exchange_body_chunks(struct exchange *x, const char *in, size_t len, size_t *out_used);
/* The body is whole: the job may run. */
void exchange_body_done(struct exchange *x);

/* Builds the reply, or the problem when job.err is set, and gives back what the route holds.
 * Then head and exchange_reply_body are what goes out. */
void exchange_answer(struct exchange *x);
const void *exchange_reply_body(const struct exchange *x, size_t *out_len);
/* What goes out when there is no memory for so much as a refusal; the connection ends with it. */
extern const char exchange_bare[];
/* The head of a streamed reply; false when there is no memory for it. */
bool exchange_answer_stream(struct exchange *x);

#endif
