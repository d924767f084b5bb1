/* job.h - one request in flight: what came in, who owns it, what goes out.
 *
 * A route is three functions that stand one under the other in one file (server/api_*.c):
 *   parse   loop thread   checks path, query parameters and headers; may refuse; no I/O, short
 *   work    reader thread decodes, computes, reads the store; builds the body of the reply
 *   reply   loop thread   sets status and headers from what work left; short
 * and, for what changes the store, between work and reply:
 *   commit  writer lane   with all jobs of the same route that wait (server/pool.h)
 * Each returns 0 or the code in job->err; after a failure the next thing that happens is the
 * problem+json, made by the core. No endpoint file names a libuv type or a callback.
 *
 * Owner: the connection while reading and replying, the pool from pool_submit to the done queue.
 * Everything an endpoint allocates goes to job->arena, freed once with the job; what is not memory
 * (views, references) goes into job->state and is given back by route->finish, on the loop thread.
 */
#ifndef SERVER_JOB_H
#define SERVER_JOB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"
#include "storage/base/mem.h"

struct runtime; /* server/runtime.h: store, pool, engines, metrics, configuration */
struct route;   /* server/route.h */
struct conn;

enum { JOB_PATH_PARAMS = 2, JOB_QUERY_PARAMS = 16, JOB_REQUEST_ID_MAX = 64 };

/* Bits. COMMON is no right but a property of a route: keys of one corpus may call it as well,
 * though its path names none, because it shows them nothing of others. */
enum scope {
    SCOPE_OPEN = 0,
    SCOPE_READ = 1,
    SCOPE_WRITE = 2,
    SCOPE_ADMIN = 4,
    SCOPE_RIGHTS = SCOPE_READ | SCOPE_WRITE | SCOPE_ADMIN,
    SCOPE_COMMON = 8,
};

struct job_param {
    const char *name;  /* query: percent-decoded, NUL-terminated, in the arena */
    const char *value; /* decoded; a NUL inside was refused before */
};

struct job {
    struct runtime *rt;
    const struct route *route;
    struct arena arena;
    struct err err;
    char request_id[JOB_REQUEST_ID_MAX + 1]; /* the client's when well-formed, or ours */

    /* request; fixed before parse, but the body, which is whole before work */
    const char *path[JOB_PATH_PARAMS]; /* decoded captures of the route's {..}, in order */
    struct job_param query[JOB_QUERY_PARAMS];
    size_t query_count;
    const char *content_type; /* lower case, without parameters, or "" */
    const char *fingerprint;  /* X-Ascribe-Fingerprint, or NULL */
    const char *if_none_match; /* the header, or NULL */
    const unsigned char *body; /* the connection's buffer, NUL after it; as long as the job */
    size_t body_len;
    unsigned scopes;   /* of the key; 0 when there is none */
    const char *key_id;    /* "" when there is none */
    const char *key_label; /* "" when there is none */
    const char *key_corpus; /* the only one the key is for; NULL: all */

    /* control */
    _Atomic bool cancelled;  /* client gone, deadline, or drain: ask job_stopped between blocks */
    bool again; /* commit sets it: what work made is out of date; back to a reader, from work on */
    void (*park)(void *arg); /* work sets it, to wait without a thread: server/pool.h */
    void *park_arg;
    bool parked; /* the pool's: was parked, and works again */
    uint64_t started_ns;     /* monotonic */
    uint64_t deadline_ns;    /* monotonic; 0 = none */

    /* the endpoint's own; give back in route->finish */
    void *state;

    /* reply */
    int status;                 /* 0: 200 */
    const char *reply_type;     /* NULL: application/json */
    struct buf reply_body;      /* owned by the job */
    const void *reply_static;   /* instead of reply_body: bytes of the program itself; or NULL */
    size_t reply_static_len;
    const char *audit_note;     /* for the audit's line: api_audit; or NULL */
    bool secret;                /* reply_body is wiped once it went out */
    const char *reply_location; /* Location header, or NULL */
    const char *reply_extra;    /* further header lines, each with CRLF, or NULL */

    void *core; /* the transport's own (server/conn.c) */
};

/* True when the job should end now; sets job->err (CANCELLED or DEADLINE). Any thread. */
bool job_stopped(struct job *j);

/* Query parameters. get: NULL when absent. only: INVALID naming the first parameter that is not in
 * the NULL-terminated list (typos must not pass silently). number: `fallback` when absent; INVALID
 * with field and limit when it is not a whole number within min..max. */
const char *job_query(const struct job *j, const char *name);
int job_query_only(struct job *j, const char *const names[]);
int job_query_number(struct job *j, const char *name, uint64_t fallback, uint64_t min, uint64_t max,
                     uint64_t *out);

/* Streaming replies of known length, from work. begin sends status 200 and the headers; stream
 * hands over bytes (copied) and blocks while more than LIMIT_STREAM_QUEUE waits for the socket;
 * both fail with CANCELLED when the client is gone. After begin, an error can only cut the
 * connection (the client sees a short body); exactly `total` bytes must follow. */
int job_stream_begin(struct job *j, const char *content_type, uint64_t total);
int job_stream(struct job *j, const void *bytes, size_t len);

#endif
