/* server.c - see server.h. The loop's own business: listeners, signals, the tick, the drain, and
 * what workers hand back. A housekeeper (libuv's work queue, one thread) reads the store's
 * numbers, so that the loop never touches the store. */
#include "server/server.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "index/flat.h"
#include "server/audit.h"
#include "server/auth.h"
#include "server/conn.h"
#include "server/encoder.h"
#include "server/exchange.h"
#include "server/http.h"
#include "server/limits.h"
#include "server/listen.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/notify.h"
#include "server/pool.h"
#include "server/thread.h"
#include "storage/base/check.h"
#include "storage/base/keep.h"
#include "storage/base/mem.h"
#include "storage/base/spare.h"
#include "storage/store.h"

/* Freed memory is kept for the next request (storage/base/keep.h) until none came for so long. */
static const uint64_t TRIM_AFTER_NS = UINT64_C(10000000000);
static const uint64_t HOUSEWORK_NS = UINT64_C(1000000000);
enum {
    HOUSEKEEP_EVERY = 60, /* of those: look for reader slots of dead processes */
    COMMITS_REST = 2,     /* of those without a batch: malloc keeps nothing for LMDB any longer */
};
/* After the drain's time is over its jobs are cancelled; this long they may take to notice. */
static const uint64_t LAST_GRACE_NS = UINT64_C(2000000000);

uint64_t server_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- the drain ------------------------------------------------------------------------------- */

static void close_handle(uv_handle_t *h)
{
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

static bool busy(const struct server *s)
{
    return s->conn_count || s->in_pool || s->housework_busy;
}

static void finish_if_idle(struct server *s)
{
    if (!s->draining || s->closing || busy(s) || !encoder_stop(s->rt->encoder))
        return;
    s->closing = true;
    close_handle((uv_handle_t *)&s->notice_async);
    close_handle((uv_handle_t *)&s->tick);
    close_handle((uv_handle_t *)&s->term);
    close_handle((uv_handle_t *)&s->interrupt);
    close_handle((uv_handle_t *)&s->hangup);
}

static void begin_drain(struct server *s, int code, const char *why)
{
    if (code != EXIT_DONE)
        s->exit_code = code;
    if (s->draining)
        return;
    log_note(LOG_INFO, "draining", "%s; %zu connections, %zu requests running", why, s->conn_count,
             s->in_pool);
    notify_send("STOPPING=1");
    s->draining = true;
    s->drain_until = server_now() + s->rt->config->drain_ms * 1000000;
    for (size_t i = 0; i < s->listener_count; i++)
        close_handle(&s->listeners[i]->u.handle);
    for (struct conn *c = s->conns; c; c = c->next)
        conn_drain(c);
    finish_if_idle(s);
}

/* Ends the process at once. That the store failed is what its keeper must know, before anything
 * else: it may have failed after the last tick. */
static _Noreturn void die(const struct server *s)
{
    _exit(s->rt->store && store_has_failed(s->rt->store) ? EXIT_STORE_FAILED : EXIT_KILLED);
}

static void drain_is_over(struct server *s)
{
    if (!s->drain_cut)
        log_note(LOG_ERROR, "drain cut short", "%zu connections, %zu requests still running",
                 s->conn_count, s->in_pool);
    s->drain_cut = true;
    if (s->exit_code == EXIT_DONE)
        s->exit_code = EXIT_KILLED;
    for (struct conn *c = s->conns; c; c = c->next)
        conn_kill(c);
    if (s->now_ns > s->drain_until + LAST_GRACE_NS)
        die(s);
}

static void on_signal(uv_signal_t *h, int number)
{
    struct server *s = h->data;

    if (s->signalled) {
        log_note(LOG_ERROR, "killed", "a second signal (%d) during the drain", number);
        die(s);
    }
    s->signalled = true; /* a drain may have begun without one */
    begin_drain(s, EXIT_DONE, number == SIGTERM  ? "SIGTERM"
                                : number == SIGINT ? "SIGINT"
                                                   : "SIGHUP");
}

/* The audit's file was moved away; without one it is what it always was, a terminal that closed. */
static void on_hangup(uv_signal_t *h, int number)
{
    struct server *s = h->data;

    if (!audit_reopen(s->rt->audit))
        on_signal(h, number);
}

void server_stop(struct server *s, int code)
{
    atomic_store(&s->stop_code, code);
    uv_async_send(&s->notice_async);
}

/* ---- what workers hand back ------------------------------------------------------------------ */

void server_notice(struct server *s, struct exchange *x, bool done)
{
    pthread_mutex_lock(&s->lock);
    if (done)
        x->work_done = true;
    if (!x->noticed) {
        x->noticed = true;
        x->next_notice = s->notices;
        s->notices = x;
    }
    /* inside the lock: once the loop has seen this exchange it may end, and the server with it */
    uv_async_send(&s->notice_async);
    pthread_mutex_unlock(&s->lock);
}

void server_job_done(void *server, struct job *j)
{
    server_notice(server, j->core, true);
}

void server_wake(struct server *s)
{
    uv_async_send(&s->notice_async);
}

static void on_notice(uv_async_t *h)
{
    struct server *s = h->data;
    struct exchange *x, *ordered = NULL;
    int code = atomic_exchange(&s->stop_code, -1);

    s->now_ns = server_now();
    pthread_mutex_lock(&s->lock);
    x = s->notices;
    s->notices = NULL;
    while (x) { /* newest first in the list: turn it round, so that none waits for later ones */
        struct exchange *next = x->next_notice;
        x->next_notice = ordered;
        ordered = x;
        x = next;
    }
    pthread_mutex_unlock(&s->lock);
    while (ordered) {
        struct exchange *next;
        bool done;
        pthread_mutex_lock(&s->lock);
        x = ordered;
        next = x->next_notice;
        x->noticed = false;
        done = x->work_done;
        x->work_done = false;
        pthread_mutex_unlock(&s->lock);
        conn_notice(x, done);
        ordered = next;
    }
    encoder_turn(s->rt->encoder);
    if (code >= 0)
        begin_drain(s, code, "asked to stop");
    finish_if_idle(s);
}

/* ---- the housekeeper ------------------------------------------------------------------------- */

static void rss(struct metrics *m)
{
    unsigned long long pages_all, pages;
    FILE *f = fopen("/proc/self/statm", "r");

    if (!f)
        return;
    if (fscanf(f, "%llu %llu", &pages_all, &pages) == 2)
        metrics_set(m, METRIC_RSS, pages * (uint64_t)sysconf(_SC_PAGESIZE));
    fclose(f);
}

static void trim_memory(void)
{
    keep_drop();
    malloc_trim(0);
}

/* What LMDB took for its last commit, up to 48 MiB, is of no use to scans. */
static void trim_commits(struct server *s)
{
    uint64_t rows = metrics_get(s->rt->metrics, METRIC_ROWS_INGESTED);

    if (rows != s->rows_seen)
        s->rows_rounds = 0;
    else if (s->rows_rounds < COMMITS_REST && ++s->rows_rounds == COMMITS_REST)
        malloc_trim(0);
    s->rows_seen = rows;
}

static void do_housework(uv_work_t *w)
{
    struct server *s = w->data;
    struct metrics *m = s->rt->metrics;
    struct store_stats n;

    trim_commits(s);
    if (s->trim)
        trim_memory();
    rss(m);
    if (s->rt->flat)
        metrics_set(m, METRIC_FLAT_BYTES, flat_bytes(s->rt->flat));
    if (!s->rt->store)
        return;
    if (s->housework_count++ % HOUSEKEEP_EVERY == 0)
        store_housekeep(s->rt->store);
    store_stats(s->rt->store, &n);
    metrics_set(m, METRIC_STORE_CORPORA, n.corpora);
    metrics_set(m, METRIC_STORE_EXAMPLES, n.examples);
    metrics_set(m, METRIC_STORE_TOMBSTONES, n.tombstones);
    metrics_set(m, METRIC_STORE_BATCHES, n.batches);
    metrics_set(m, METRIC_STORE_SHARDS, n.shards);
    metrics_set(m, METRIC_STORE_CHUNKS, n.chunks);
    metrics_set(m, METRIC_STORE_LEDGER, n.bytes_ledger);
    metrics_set(m, METRIC_STORE_BYTES, n.bytes_shards);
    metrics_set(m, METRIC_STORE_SLOTS, n.readers);
}

static void housework_done(uv_work_t *w, int status)
{
    struct server *s = w->data;

    (void)status;
    s->housework_busy = false;
    s->housework_due = s->now_ns + HOUSEWORK_NS;
    finish_if_idle(s);
}

struct reap {
    uv_work_t work;
    void *memory;
    struct arena arena;
};

static void do_reap(uv_work_t *w)
{
    struct reap *r = w->data;

    free(r->memory);
    arena_free(&r->arena);
    keep_settle();
}

static void reaped(uv_work_t *w, int status)
{
    (void)status;
    free(w->data);
}

void server_reap(struct server *s, void *memory, struct arena *a)
{
    struct reap *r = mem_new(1, sizeof *r);

    r->work.data = r;
    r->memory = memory;
    r->arena = *a;
    *a = (struct arena){.head = NULL};
    if (uv_queue_work(&s->loop, &r->work, do_reap, reaped)) {
        do_reap(&r->work);
        free(r);
    }
}

void server_settle(struct server *s)
{
    struct arena none = {.head = NULL};

    if (keep_excess())
        server_reap(s, NULL, &none);
}

/* ---- keys ------------------------------------------------------------------------------------ */

static int write_used(void *arg, struct err *e)
{
    const struct runtime *rt = arg;

    return auth_save_used(rt->auth, rt->store, e);
}

/* On a reader, which may wait for the writer lane. */
static void save_used(void *arg)
{
    struct runtime *rt = arg;
    struct err e = ERR_INIT;

    if (pool_lane(rt->pool, write_used, rt, &e))
        log_note(LOG_WARN, "keys", "when they were last used was not written down: %s", e.text);
}

/* ---- the tick -------------------------------------------------------------------------------- */

static void set_date(struct server *s)
{
    http_date((int64_t)time(NULL), s->date);
}

/* Decides before the housekeeper is sent off: `trim` is its own until it is back. */
static void plan_trim(struct server *s)
{
    if (s->in_pool || s->body_bytes || s->quiet_request != s->next_request) {
        s->quiet_request = s->next_request;
        s->quiet_since = s->now_ns;
        s->trimmed = false;
    }
    if (s->housework_busy)
        return;
    s->trim = !s->trimmed && s->now_ns - s->quiet_since > TRIM_AFTER_NS;
}

/* A number grows; the reads that come after it do the work. */
static void begin_round(struct server *s)
{
    uint64_t seconds = s->rt->config->recheck_s;

    if (!seconds || !s->rt->store || s->now_ns < s->recheck_due)
        return;
    if (s->recheck_due)
        store_recheck(s->rt->store);
    s->recheck_due = s->now_ns + seconds * UINT64_C(1000000000);
}

static void on_tick(uv_timer_t *t)
{
    struct server *s = t->data;

    s->now_ns = server_now();
    set_date(s);
    begin_round(s);
    for (struct conn *c = s->conns; c; c = c->next) /* conn_kill frees later, in a callback */
        conn_sweep(c);
    if (s->rt->store && s->exit_code != EXIT_STORE_FAILED && store_has_failed(s->rt->store)) {
        log_note(LOG_ERROR, "store failed", "a sync or write failed; nothing is retried");
        begin_drain(s, EXIT_STORE_FAILED, "the store failed");
    }
    if (!s->draining && s->rt->auth && s->rt->store && auth_used_due(s->rt->auth))
        pool_call(s->rt->pool, save_used, s->rt);
    plan_trim(s);
    if (!s->draining && !s->housework_busy && s->now_ns >= s->housework_due) {
        s->trimmed = s->trimmed || s->trim;
        s->housework_busy = uv_queue_work(&s->loop, &s->housework, do_housework,
                                          housework_done) == 0;
    }
    encoder_turn(s->rt->encoder);
    if (s->draining && s->now_ns > s->drain_until && busy(s))
        drain_is_over(s);
    finish_if_idle(s);
}

/* Before callbacks of each turn of the loop run, the clock they share is not older than a turn. */
static void on_connection(uv_stream_t *stream, int status)
{
    struct listener *l = stream->data;

    if (status < 0) {
        log_note(LOG_WARN, "accept failed", "%s: %s", l->address, uv_strerror(status));
        return;
    }
    l->server->now_ns = server_now();
    conn_accept(l);
}

/* ---- making ---------------------------------------------------------------------------------- */

static void *nothing(void *arg)
{
    return arg;
}

static void no_work(uv_work_t *w)
{
    (void)w;
}

static void no_work_done(uv_work_t *w, int status)
{
    (void)status;
    free(w);
}

/* libuv makes its one thread when it first has work for it, and aborts without a word where there
 * is none left: so at the start, and after one of ours has shown that there is. */
static void start_worker(struct server *s)
{
    uv_work_t *w = mem_new(1, sizeof *w);
    pthread_t t;

    thread_start(&t, "worker", nothing, NULL);
    pthread_join(t, NULL);
    require(uv_queue_work(&s->loop, w, no_work, no_work_done) == 0);
}

struct server *server_new(struct runtime *rt)
{
    struct server *s = mem_new(1, sizeof *s);

    s->rt = rt;
    rt->server = s;
    signal(SIGPIPE, SIG_IGN); /* libuv writes with write(2); a client that left is an error code */
    setenv("UV_THREADPOOL_SIZE", "1", 1);
    require(uv_replace_allocator(spare_malloc, spare_realloc, spare_calloc, free) == 0);
    require(uv_loop_init(&s->loop) == 0);
    require(uv_async_init(&s->loop, &s->notice_async, on_notice) == 0);
    uv_timer_init(&s->loop, &s->tick);
    uv_signal_init(&s->loop, &s->term);
    uv_signal_init(&s->loop, &s->interrupt);
    uv_signal_init(&s->loop, &s->hangup);
    s->hangup.data = s;
    uv_signal_start(&s->hangup, on_hangup, SIGHUP);
    s->notice_async.data = s->tick.data = s->term.data = s->interrupt.data = s->housework.data = s;
    pthread_mutex_init(&s->lock, NULL);
    atomic_init(&s->stop_code, -1);
    s->started_ns = s->now_ns = server_now();
    s->boot = (uint32_t)(time(NULL) ^ ((int64_t)getpid() << 16));
    set_date(s);
    /* From now on, not from server_run: whoever sees the ready line may send SIGTERM at once. */
    uv_signal_start(&s->term, on_signal, SIGTERM);
    uv_signal_start(&s->interrupt, on_signal, SIGINT);
    start_worker(s);
    return s;
}

static void close_any(uv_handle_t *h, void *arg)
{
    (void)arg;
    close_handle(h);
}

void server_free(struct server *s)
{
    if (!s)
        return;
    uv_walk(&s->loop, close_any, NULL); /* after a start that failed half way */
    uv_run(&s->loop, UV_RUN_DEFAULT);
    require(uv_loop_close(&s->loop) == 0);
    for (size_t i = 0; i < s->listener_count; i++)
        free(s->listeners[i]);
    pthread_mutex_destroy(&s->lock);
    s->rt->server = NULL;
    free(s);
}

static int listen_failed(const char *spec, int rc, struct err *e)
{
    return err_set(e, ERR_IO, "cannot listen on %.100s: %s", spec, uv_strerror(rc));
}

static int bind_unix(struct listener *l, const struct listen_address *a, struct err *e)
{
    if (listen_clear_path(a->path, e))
        return (int)e->code;
    uv_pipe_init(&l->server->loop, &l->u.pipe, 0);
    l->u.handle.data = l;
    snprintf(l->address, sizeof l->address, "unix:%s", a->path);
    /* nobody can connect before listen, so the mode is right from the first moment on */
    int rc = uv_pipe_bind(&l->u.pipe, a->path);
    if (rc == 0 && chmod(a->path, 0600))
        rc = UV_EACCES;
    if (rc == 0)
        rc = uv_listen(&l->u.stream, 511, on_connection);
    return rc ? listen_failed(l->address, rc, e) : 0;
}

static void name_inet(struct listener *l)
{
    struct sockaddr_storage a;
    int len = sizeof a;
    char host[64] = "?";

    memset(&a, 0, sizeof a);
    uv_tcp_getsockname(&l->u.tcp, (struct sockaddr *)&a, &len);
    if (a.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)&a;
        uv_ip6_name(in6, host, sizeof host);
        snprintf(l->address, sizeof l->address, "[%s]:%u", host, ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in = (const void *)&a;
        uv_ip4_name(in, host, sizeof host);
        snprintf(l->address, sizeof l->address, "%s:%u", host, ntohs(in->sin_port));
    }
}

static int bind_inet(struct listener *l, const char *spec, const struct listen_address *a,
                     struct err *e)
{
    int rc;

    uv_tcp_init(&l->server->loop, &l->u.tcp);
    l->u.handle.data = l;
    rc = uv_tcp_bind(&l->u.tcp, (const struct sockaddr *)&a->inet, 0);
    if (rc == 0)
        rc = uv_listen(&l->u.stream, 511, on_connection);
    if (rc)
        return listen_failed(spec, rc, e);
    name_inet(l);
    return 0;
}

int server_listen(struct server *s, const char *spec, struct err *e)
{
    struct listen_address a;
    struct listener *l;

    if (listen_resolve(spec, s->rt->config->behind_tls_proxy, &a, e))
        return (int)e->code;
    if (s->listener_count == CONFIG_LISTEN_MAX)
        return err_set(e, ERR_INVALID, "more than %d addresses", CONFIG_LISTEN_MAX);
    l = mem_new(1, sizeof *l);
    l->server = s;
    s->listeners[s->listener_count++] = l;
    return a.unix_socket ? bind_unix(l, &a, e) : bind_inet(l, spec, &a, e);
}

const char *server_address(const struct server *s, size_t listener)
{
    return s->listeners[listener]->address;
}

int server_run(struct server *s)
{
    uv_timer_start(&s->tick, on_tick, 0, SERVER_TICK_MS);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    return s->exit_code;
}
