/* tasks.c - see tasks.h. */
#include "server/tasks.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/folders.h"
#include "server/json.h"
#include "server/log.h"
#include "server/pool.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

struct task {
    struct tasks *owner;
    struct task *older; /* list, newest first */
    char id[TASK_ID_MAX];
    const char *kind;
    time_t created;
    task_run *run;
    task_drop *drop;
    void *arg;

    /* the running task writes, everybody reads */
    _Atomic uint64_t done, total; /* bytes */
    _Atomic bool stop;

    /* under the mutex */
    enum task_state state;
    bool held; /* the pool will still call: must not be freed */
    char *corpus; /* owned; NULL: of none, or of several */
    struct timespec started;
    struct buf result;
    struct err err;
};

struct tasks {
    struct pool *pool;
    const char *store; /* not owned */
    pthread_mutex_t lock;
    struct task *newest;
    uint64_t next_id;
    bool stopping;
};

static const char *const state_names[] = {"queued", "running", "succeeded", "failed", "cancelled"};

struct tasks *tasks_new(struct pool *pool, const char *store)
{
    struct tasks *ts = mem_new(1, sizeof *ts);

    ts->pool = pool;
    ts->store = store;
    ts->next_id = 1;
    require(pthread_mutex_init(&ts->lock, NULL) == 0);
    return ts;
}

static void task_free(struct task *t)
{
    buf_free(&t->result);
    free(t->corpus);
    free(t);
}

void tasks_free(struct tasks *ts)
{
    struct task *t, *older;

    if (!ts)
        return;
    for (t = ts->newest; t; t = older) {
        older = t->older;
        require(!t->held);
        task_free(t);
    }
    pthread_mutex_destroy(&ts->lock);
    free(ts);
}

void tasks_stop(struct tasks *ts)
{
    pthread_mutex_lock(&ts->lock);
    ts->stopping = true;
    for (struct task *t = ts->newest; t; t = t->older)
        atomic_store(&t->stop, true);
    pthread_mutex_unlock(&ts->lock);
}

/* Forgets the oldest that ended, past the number kept. Under the lock. */
static void trim(struct tasks *ts)
{
    struct task **at = &ts->newest;
    size_t ended = 0;

    while (*at) {
        struct task *t = *at;

        if (!t->held && ++ended > LIMIT_TASKS_KEPT) {
            *at = t->older;
            task_free(t);
        } else {
            at = &t->older;
        }
    }
}

static void put_time(struct buf *out, time_t when)
{
    char text[32];
    struct tm tm;

    gmtime_r(&when, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    json_put_text(out, text, strlen(text));
}

/* progress, rate and time to go: known only once bytes were reported. */
static void put_speed(const struct task *t, struct buf *out)
{
    uint64_t done = atomic_load(&t->done), total = atomic_load(&t->total);
    double progress = t->state == TASK_SUCCEEDED ? 1 : 0, seconds, rate;
    struct timespec now;

    if (t->state != TASK_SUCCEEDED && total)
        progress = done < total ? (double)done / (double)total : 1;
    buf_add_text(out, ",\"progress\":");
    json_put_short(out, progress);
    clock_gettime(CLOCK_MONOTONIC, &now);
    seconds = (double)(now.tv_sec - t->started.tv_sec) +
              (double)(now.tv_nsec - t->started.tv_nsec) * 1e-9;
    if (t->state != TASK_RUNNING || done == 0 || seconds <= 0) {
        buf_add_text(out, ",\"rate\":null,\"eta_s\":null");
        return;
    }
    rate = (double)done / seconds;
    buf_format(out, ",\"rate\":%.1f,\"eta_s\":%.1f", rate,
               total > done ? (double)(total - done) / rate : 0.0);
}

static void put_task(const struct task *t, struct buf *out)
{
    buf_format(out, "{\"id\":\"%s\",\"kind\":\"%s\",\"state\":\"%s\"", t->id, t->kind,
               state_names[t->state]);
    put_speed(t, out);
    buf_add_text(out, ",\"created\":");
    put_time(out, t->created);
    if (t->state == TASK_SUCCEEDED) {
        buf_add_text(out, ",\"result\":");
        if (t->result.len)
            buf_add(out, t->result.data, t->result.len);
        else
            buf_add_text(out, "{}");
    } else if (t->state == TASK_FAILED || t->state == TASK_CANCELLED) {
        buf_format(out, ",\"error\":{\"code\":\"%s\",\"detail\":", err_word(t->err.code));
        json_put_text(out, t->err.text, strlen(t->err.text));
        buf_add(out, "}", 1);
    }
    buf_add(out, "}", 1);
}

static enum task_state end_state(int code)
{
    if (code == 0)
        return TASK_SUCCEEDED;
    return code == ERR_CANCELLED ? TASK_CANCELLED : TASK_FAILED;
}

/* On the task thread. */
static void task_main(void *arg)
{
    struct task *t = arg;
    struct tasks *ts = t->owner;
    struct buf result = {0};
    struct err e = ERR_INIT;
    bool go;
    int code;

    pthread_mutex_lock(&ts->lock);
    go = t->state == TASK_QUEUED && !atomic_load(&t->stop);
    if (go) {
        t->state = TASK_RUNNING;
        clock_gettime(CLOCK_MONOTONIC, &t->started);
    }
    pthread_mutex_unlock(&ts->lock);
    if (go)
        code = t->run(t, t->arg, &result, &e);
    else
        code = err_set(&e, ERR_CANCELLED, "cancelled before it began");
    if (t->drop)
        t->drop(t->arg);
    if (end_state(code) == TASK_FAILED) {
        log_note(LOG_ERROR, "job failed", "%s %s: %s", t->kind, t->id, e.text);
        folders_hide(e.text, ts->store);
    }
    pthread_mutex_lock(&ts->lock);
    t->state = end_state(code);
    t->err = e;
    t->result = result;
    t->held = false;
    trim(ts);
    pthread_mutex_unlock(&ts->lock);
}

int tasks_start(struct tasks *ts, const char *kind, task_run *run, task_drop *drop, void *arg,
                char id[TASK_ID_MAX], struct buf *out, struct err *e)
{
    struct task *t = mem_new(1, sizeof *t);
    int code = 0;

    *t = (struct task){.owner = ts,
                       .kind = kind,
                       .created = time(NULL),
                       .run = run,
                       .drop = drop,
                       .arg = arg,
                       .state = TASK_QUEUED,
                       .held = true,
                       .err = ERR_INIT};
    pthread_mutex_lock(&ts->lock);
    snprintf(t->id, sizeof t->id, "j%" PRIu64, ts->next_id);
    memcpy(id, t->id, sizeof t->id); /* once queued, `t` may end and be trimmed */
    if (ts->stopping)
        code = err_set(e, ERR_DRAINING, "the server is shutting down; no job begins");
    else
        code = pool_task(ts->pool, task_main, t, e);
    if (!code) {
        ts->next_id++;
        t->older = ts->newest;
        ts->newest = t;
        if (out)
            put_task(t, out);
    }
    pthread_mutex_unlock(&ts->lock);
    if (code)
        task_free(t);
    return code;
}

bool tasks_report(void *task, uint64_t done, uint64_t total)
{
    struct task *t = task;

    atomic_store_explicit(&t->done, done, memory_order_relaxed);
    atomic_store_explicit(&t->total, total, memory_order_relaxed);
    return !atomic_load(&t->stop);
}

static struct task *find(struct tasks *ts, const char *id)
{
    for (struct task *t = ts->newest; t; t = t->older)
        if (strcmp(t->id, id) == 0)
            return t;
    return NULL;
}

static int unknown(const char *id, struct err *e)
{
    return err_set(e, ERR_UNKNOWN_JOB, "no job \"%.32s\"", id);
}

int tasks_cancel(struct tasks *ts, const char *id, struct err *e)
{
    struct task *t;

    pthread_mutex_lock(&ts->lock);
    t = find(ts, id);
    if (t) {
        atomic_store(&t->stop, true);
        if (t->state == TASK_QUEUED) {
            t->state = TASK_CANCELLED;
            err_set(&t->err, ERR_CANCELLED, "cancelled before it began");
        }
    }
    pthread_mutex_unlock(&ts->lock);
    return t ? 0 : unknown(id, e);
}

void tasks_bind(struct tasks *ts, const char *id, const char *corpus)
{
    struct task *t;

    pthread_mutex_lock(&ts->lock);
    t = find(ts, id);
    if (t) {
        free(t->corpus);
        t->corpus = mem_new(strlen(corpus) + 1, 1);
        memcpy(t->corpus, corpus, strlen(corpus) + 1);
    }
    pthread_mutex_unlock(&ts->lock);
}

static bool shown(const struct task *t, const char *corpus)
{
    return !corpus || (t->corpus && strcmp(t->corpus, corpus) == 0);
}

int tasks_describe(struct tasks *ts, const char *id, const char *corpus, struct buf *out,
                   struct err *e)
{
    struct task *t;

    pthread_mutex_lock(&ts->lock);
    t = find(ts, id);
    if (t && !shown(t, corpus))
        t = NULL;
    if (t)
        put_task(t, out);
    pthread_mutex_unlock(&ts->lock);
    return t ? 0 : unknown(id, e);
}

void tasks_list(struct tasks *ts, const char *corpus, struct buf *out)
{
    bool first = true;

    buf_add(out, "[", 1);
    pthread_mutex_lock(&ts->lock);
    for (struct task *t = ts->newest; t; t = t->older) {
        if (!shown(t, corpus))
            continue;
        if (!first)
            buf_add(out, ",", 1);
        first = false;
        put_task(t, out);
    }
    pthread_mutex_unlock(&ts->lock);
    buf_add(out, "]", 1);
}
