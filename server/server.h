/* server.h - the process's transport: one libuv loop, its listeners, connections, signals, timers.
 *
 * Loop thread, which is the thread that calls server_run; what other threads may call says so.
 * Never here: LMDB, BLAS, files (a housekeeper thread reads the store's numbers, see server.c).
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "server/config.h"
#include "server/runtime.h"
#include "storage/base/err.h"
#include "storage/base/mem.h"

struct conn;
struct exchange;
struct job;

/* The exit codes of ascribed; --help lists them. */
enum {
    EXIT_DONE = 0,
    EXIT_USAGE = 1,
    EXIT_STORE = 2,
    EXIT_LISTEN = 3,
    EXIT_KILLED = 4,       /* the drain was cut short */
    EXIT_STORE_FAILED = 5, /* a sync failed while serving */
    EXIT_MAP_FAILED = 6,   /* a mapped file could not be read: server/sigbus.h */
};

enum { SERVER_TICK_MS = 100 };

struct listener {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } u;
    struct server *server;
    char address[160]; /* as printed: HOST:PORT with the port bound, or unix:PATH */
};

struct server {
    uv_loop_t loop;
    struct runtime *rt;
    struct listener *listeners[CONFIG_LISTEN_MAX];
    size_t listener_count;

    uv_async_t notice_async;
    uv_timer_t tick;
    uv_signal_t term, interrupt, hangup;
    uv_work_t housework;
    bool housework_busy;
    uint64_t housework_due, housework_count;
    uint64_t recheck_due; /* what was found right is stale from then on (store_recheck) */
    uint64_t quiet_since, quiet_request; /* no request since, and which was the last */
    bool trim, trimmed;                  /* the housekeeper is to give memory back; it did */
    uint64_t rows_seen, rows_rounds;     /* the housekeeper's: ingested; rounds without more */

    struct conn *conns; /* doubly linked */
    size_t conn_count;
    size_t in_pool;     /* exchanges the pool has */
    uint64_t body_bytes; /* charged to the budget */

    bool draining, drain_cut, closing;
    bool short_of_memory; /* the spare is spent: said once */
    bool signalled;       /* a first signal came: the second one ends the process */
    uint64_t drain_until;
    int exit_code;
    uint64_t started_ns, now_ns;
    char date[32];
    uint32_t boot;        /* random: makes request ids unique over restarts */
    uint64_t next_request;
    char scratch[64 * 1024]; /* bytes read to be thrown away */

    pthread_mutex_t lock; /* of notices: workers put, the loop takes */
    struct exchange *notices;
    _Atomic int stop_code; /* server_stop from another thread; -1: none */
};

/* The runtime's pool must be made with server_job_done and the server. Never NULL. */
struct server *server_new(struct runtime *rt);
/* After server_run. */
void server_free(struct server *s);

/* Binds and listens on HOST:PORT, [V6]:PORT or unix:PATH. IO with the address named. */
int server_listen(struct server *s, const char *spec, struct err *e);
const char *server_address(const struct server *s, size_t listener);

/* Serves until a signal, server_stop or a failure of the store, drains, and returns the exit code.
 * A second signal, or a drain that takes too long, ends the process with EXIT_KILLED; but a store
 * that has failed is EXIT_STORE_FAILED whatever else ended it. */
int server_run(struct server *s);

/* Any thread: begins the drain; server_run will return `code`. */
void server_stop(struct server *s, int code);

/* pool_new's `done`. Any thread. `server` is a struct server. */
void server_job_done(void *server, struct job *j);
/* Frees on the housekeeper's thread what would hold up the loop: giving hundreds of megabytes
 * back to the kernel takes milliseconds. Takes both; `a` is left empty. Loop thread. */
void server_reap(struct server *s, void *memory, struct arena *a);
/* After keep_take or keep_give: what is kept beyond its bound goes there too. Loop thread. */
void server_settle(struct server *s);
/* The exchange has something for the loop to look at. Any thread. */
void server_notice(struct server *s, struct exchange *x, bool done);

/* Any thread: the loop takes a turn of the encoder soon. */
void server_wake(struct server *s);

uint64_t server_now(void); /* monotonic nanoseconds; any thread */

#endif
