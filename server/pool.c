/* pool.c - see pool.h. One mutex guards all queues; it is held for a few pointer moves only.
 *
 *   submit -> read queue -> reader: work -> lane queue -> writer: commit, with its like -> done
 *                                    \------------- no commit --------------------------> done
 *
 * A job that will commit has its place in the lane's bound from submit on, so nobody computes a
 * batch that is then refused. Lane calls (pool_lane) wait in the same line as commits.
 */
#include "server/pool.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "index/flat.h"
#include "server/limits.h"
#include "server/metrics.h"
#include "server/route.h"
#include "server/runtime.h"
#include "server/thread.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

/* Threads beside the readers that may wait for the lane: the task thread, and main at start. */
enum { LANE_CALLERS = 2 };

/* A call that waits for the writer lane; lives on the caller's stack. */
struct lane_call {
    int (*work)(void *arg, struct err *e);
    void *arg;
    struct err *err;
    int rc;
    bool ended;
};

struct task {
    void (*run)(void *arg);
    void *arg;
};

/* What waits in line: a job, a call of the lane, or a task for a reader. */
struct item {
    struct job *job;
    struct lane_call *call;
    struct task task;
};

struct ring {
    struct item *items; /* owned, `max` of them */
    unsigned head, count, max;
};

/* Open for helpers while on the pool's stack of fanouts; lives on the caller's stack. */
struct fanout {
    struct fanout *below;
    void (*fn)(void *arg, unsigned slot);
    void *arg;
    unsigned width, next_slot, helping;
};

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t work;    /* readers: a job or a fanout */
    pthread_cond_t lane;    /* the writer */
    pthread_cond_t tasks;   /* the task thread */
    pthread_cond_t ended;   /* callers of lane and fanout */
    struct ring read, write;
    unsigned queue_max;
    unsigned write_owed;    /* jobs with a commit, submitted and not done */
    unsigned running, idle;
    unsigned parked, calls; /* jobs outside; of the read queue, what is no job */
    struct fanout *fanouts;
    struct task task_queue[LIMIT_TASK_QUEUE];
    unsigned task_head, task_count;
    bool stop_readers, stop_lane, stop_tasks;

    unsigned readers;
    pthread_t *reader_threads;
    pthread_t writer_thread, task_thread;
    void (*done)(void *arg, struct job *j);
    void *done_arg;
};

static void ring_init(struct ring *r, unsigned max)
{
    r->items = mem_new(max, sizeof *r->items);
    r->max = max;
}

static void ring_put(struct ring *r, struct item i)
{
    require(r->count < r->max);
    r->items[(r->head + r->count++) % r->max] = i;
}

static struct item ring_take(struct ring *r)
{
    struct item i = r->items[r->head];

    r->head = (r->head + 1) % r->max;
    r->count--;
    return i;
}

/* ---- readers --------------------------------------------------------------------------------- */

/* Lock held. Hands the job over; it is not ours any more afterwards. */
static void job_done(struct pool *p, struct job *j)
{
    if (j->route->commit)
        p->write_owed--;
    pthread_mutex_unlock(&p->lock);
    p->done(p->done_arg, j);
    pthread_mutex_lock(&p->lock);
}

/* Lock held, let go while the job is handed over; it is not ours afterwards. */
static void park(struct pool *p, struct job *j)
{
    void (*to)(void *arg) = j->park;

    j->park = NULL;
    j->parked = true;
    p->parked++;
    pthread_mutex_unlock(&p->lock);
    to(j->park_arg);
    pthread_mutex_lock(&p->lock);
}

/* Lock held, let go while working. */
static void run_job(struct pool *p, struct job *j)
{
    bool again = j->parked;

    j->parked = false;
    p->running++;
    pthread_mutex_unlock(&p->lock);
    if ((again || !job_stopped(j)) && j->route->work && j->route->work(j) && !j->err.code)
        err_set(&j->err, ERR_INTERNAL, "the work failed without saying why");
    pthread_mutex_lock(&p->lock);
    p->running--;
    if (j->park) {
        park(p, j);
    } else if (j->route->commit && !j->err.code) {
        ring_put(&p->write, (struct item){.job = j});
        pthread_cond_signal(&p->lane);
    } else {
        job_done(p, j);
    }
}

/* Lock held, let go while it runs. */
static void run_read(struct pool *p, struct item i)
{
    if (i.job) {
        run_job(p, i.job);
        return;
    }
    p->calls--;
    p->running++;
    pthread_mutex_unlock(&p->lock);
    i.task.run(i.task.arg);
    pthread_mutex_lock(&p->lock);
    p->running--;
}

/* Lock held, let go while helping. */
static void help(struct pool *p, struct fanout *f)
{
    unsigned slot = f->next_slot++;

    f->helping++;
    if (f->next_slot == f->width)
        p->fanouts = f->below; /* it is on top: helpers take the top one only */
    pthread_mutex_unlock(&p->lock);
    f->fn(f->arg, slot);
    pthread_mutex_lock(&p->lock);
    if (--f->helping == 0)
        pthread_cond_broadcast(&p->ended);
}

/* Jobs come before helping: more requests at once beat one request faster. */
static void *reader_main(void *arg)
{
    struct pool *p = arg;

    flat_thread_init();
    pthread_mutex_lock(&p->lock);
    for (;;) {
        if (p->read.count)
            run_read(p, ring_take(&p->read));
        else if (p->fanouts)
            help(p, p->fanouts);
        else if (p->stop_readers)
            break;
        else {
            p->idle++;
            pthread_cond_wait(&p->work, &p->lock);
            p->idle--;
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void put_read(struct pool *p, struct item i)
{
    ring_put(&p->read, i);
    pthread_cond_signal(&p->work);
}

void pool_resume(struct pool *p, struct job *j)
{
    pthread_mutex_lock(&p->lock);
    p->parked--;
    put_read(p, (struct item){.job = j});
    pthread_mutex_unlock(&p->lock);
}

void pool_run(struct pool *p, struct job *j)
{
    pthread_mutex_lock(&p->lock);
    p->parked--;
    run_job(p, j);
    pthread_mutex_unlock(&p->lock);
}

void pool_call(struct pool *p, void (*fn)(void *arg), void *arg)
{
    pthread_mutex_lock(&p->lock);
    p->calls++;
    put_read(p, (struct item){.task = {fn, arg}});
    pthread_mutex_unlock(&p->lock);
}

/* Lock held. Jobs that wait for a reader. Of the parked ones as many as there are readers count as
 * running: so it is as long a queue as without parking. */
static unsigned waiting(const struct pool *p)
{
    unsigned outside = p->parked > p->readers ? p->parked - p->readers : 0;

    return p->read.count - p->calls + outside;
}

static void fanout_close(struct pool *p, struct fanout *f)
{
    for (struct fanout **at = &p->fanouts; *at; at = &(*at)->below)
        if (*at == f) {
            *at = f->below;
            break;
        }
    while (f->helping)
        pthread_cond_wait(&p->ended, &p->lock);
}

void pool_fanout(struct pool *p, unsigned width, void (*fn)(void *arg, unsigned slot), void *arg)
{
    struct fanout f = {.fn = fn, .arg = arg, .width = width, .next_slot = 1};

    if (width > 1) {
        pthread_mutex_lock(&p->lock);
        f.below = p->fanouts;
        p->fanouts = &f;
        if (p->idle)
            pthread_cond_broadcast(&p->work);
        pthread_mutex_unlock(&p->lock);
    }
    fn(arg, 0);
    if (width > 1) {
        pthread_mutex_lock(&p->lock);
        fanout_close(p, &f);
        pthread_mutex_unlock(&p->lock);
    }
}

unsigned pool_readers(const struct pool *p)
{
    return p->readers;
}

/* ---- the writer lane ------------------------------------------------------------------------- */

/* Lock held. Takes from the line all jobs of this route, the others keep their order. Not one of
 * the jobs has been answered, so any order among them is as good. */
static size_t gather(struct pool *p, const struct route *route, struct job *group[])
{
    unsigned waiting = p->write.count;
    size_t n = 0;

    for (unsigned i = 0; i < waiting; i++) {
        struct item it = ring_take(&p->write);
        if (it.job && it.job->route == route && n < LIMIT_COMMIT_GROUP)
            group[n++] = it.job;
        else
            ring_put(&p->write, it);
    }
    return n;
}

/* Those whose client left or whose time is up fall out before anything is written. */
static size_t still_wanted(struct job *group[], size_t n, struct job *wanted[])
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++)
        if (!job_stopped(group[i]))
            wanted[kept++] = group[i];
    return kept;
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void count_commit(const struct job *j, size_t n, uint64_t ns)
{
    struct metrics *m = j->rt ? j->rt->metrics : NULL;

    if (!m)
        return;
    metrics_add(m, METRIC_COMMITS, 1);
    metrics_add(m, METRIC_COMMIT_JOBS, n);
    metrics_add(m, METRIC_COMMIT_NS, ns);
}

/* Lock held. Its place in the lane's bound stays its own. */
static void work_again(struct pool *p, struct job *j)
{
    j->again = false;
    if (p->stop_readers) {
        err_set(&j->err, ERR_DRAINING, "the server is shutting down; send it again");
        job_done(p, j);
        return;
    }
    put_read(p, (struct item){.job = j});
}

/* Lock held, let go while committing. */
static void run_commit(struct pool *p, const struct route *route)
{
    struct job *group[LIMIT_COMMIT_GROUP], *wanted[LIMIT_COMMIT_GROUP];
    size_t n = gather(p, route, group), kept;

    p->running++;
    pthread_mutex_unlock(&p->lock);
    kept = still_wanted(group, n, wanted);
    if (kept) {
        uint64_t begun = now_ns();
        route->commit(wanted, kept);
        count_commit(wanted[0], kept, now_ns() - begun);
    }
    pthread_mutex_lock(&p->lock);
    p->running--;
    for (size_t i = 0; i < n; i++)
        if (!group[i]->again)
            job_done(p, group[i]);
        else
            work_again(p, group[i]);
}

static void run_call(struct pool *p, struct lane_call *c)
{
    int rc;

    pthread_mutex_unlock(&p->lock);
    rc = c->work(c->arg, c->err);
    pthread_mutex_lock(&p->lock);
    c->rc = rc;
    c->ended = true;
    pthread_cond_broadcast(&p->ended);
}

static void *writer_main(void *arg)
{
    struct pool *p = arg;

    flat_thread_init();
    pthread_mutex_lock(&p->lock);
    for (;;) {
        if (p->write.count) {
            struct item *first = &p->write.items[p->write.head];
            if (first->job)
                run_commit(p, first->job->route);
            else
                run_call(p, ring_take(&p->write).call);
        } else if (p->stop_lane) {
            break;
        } else {
            pthread_cond_wait(&p->lane, &p->lock);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

int pool_lane(struct pool *p, int (*work)(void *arg, struct err *e), void *arg, struct err *e)
{
    struct lane_call c = {.work = work, .arg = arg, .err = e};

    pthread_mutex_lock(&p->lock);
    ring_put(&p->write, (struct item){.call = &c});
    pthread_cond_signal(&p->lane);
    while (!c.ended)
        pthread_cond_wait(&p->ended, &p->lock);
    pthread_mutex_unlock(&p->lock);
    return c.rc;
}

/* ---- tasks ----------------------------------------------------------------------------------- */

/* Maintenance yields to requests: on Linux the nice value is the thread's own. */
enum { TASK_NICE = 10 };

static void *task_main(void *arg)
{
    struct pool *p = arg;

    flat_thread_init();
    setpriority(PRIO_PROCESS, (id_t)gettid(), TASK_NICE); /* a wish; nothing depends on it */
    pthread_mutex_lock(&p->lock);
    for (;;) {
        if (p->task_count) {
            struct task t = p->task_queue[p->task_head];
            p->task_head = (p->task_head + 1) % LIMIT_TASK_QUEUE;
            p->task_count--;
            pthread_mutex_unlock(&p->lock);
            t.run(t.arg);
            pthread_mutex_lock(&p->lock);
        } else if (p->stop_tasks) {
            break;
        } else {
            pthread_cond_wait(&p->tasks, &p->lock);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

int pool_task(struct pool *p, void (*task)(void *arg), void *arg, struct err *e)
{
    int rc = 0;

    pthread_mutex_lock(&p->lock);
    if (p->task_count == LIMIT_TASK_QUEUE) {
        err_set(e, ERR_BUSY, "%u tasks wait already", LIMIT_TASK_QUEUE);
        rc = err_at_limit(e, LIMIT_TASK_QUEUE);
    } else {
        p->task_queue[(p->task_head + p->task_count++) % LIMIT_TASK_QUEUE] =
            (struct task){task, arg};
        pthread_cond_signal(&p->tasks);
    }
    pthread_mutex_unlock(&p->lock);
    return rc;
}

/* ---- the pool -------------------------------------------------------------------------------- */

int pool_submit(struct pool *p, struct job *j, struct err *e)
{
    const struct route *r = j->route;
    int rc = 0;

    pthread_mutex_lock(&p->lock);
    if (r->commit && p->write_owed == LIMIT_WRITE_QUEUE) {
        err_set(e, ERR_BUSY, "%u requests wait for the writer already", LIMIT_WRITE_QUEUE);
        rc = err_at_limit(e, LIMIT_WRITE_QUEUE);
    } else if (waiting(p) >= p->queue_max) {
        err_set(e, ERR_BUSY, "%u requests wait already", p->queue_max);
        rc = err_at_limit(e, p->queue_max);
    } else {
        if (r->commit)
            p->write_owed++;
        put_read(p, (struct item){.job = j});
    }
    pthread_mutex_unlock(&p->lock);
    return rc;
}

struct pool *pool_new(unsigned readers, unsigned queue_max, void (*done)(void *arg, struct job *j),
                      void *arg)
{
    struct pool *p = mem_new(1, sizeof *p);

    p->readers = readers ? readers : 1;
    p->queue_max = queue_max ? queue_max : 1;
    p->done = done;
    p->done_arg = arg;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->lane, NULL);
    pthread_cond_init(&p->tasks, NULL);
    pthread_cond_init(&p->ended, NULL);
    /* The queue and what was parked (another `readers` may park after the last look at the bound),
     * a call for each of those, and what commit sends back to be worked again. */
    ring_init(&p->read, 2 * (p->queue_max + 2 * p->readers) + LIMIT_WRITE_QUEUE);
    /* every job owed, and one call from each thread that may wait for one: no put can fail */
    ring_init(&p->write, LIMIT_WRITE_QUEUE + p->readers + LANE_CALLERS);
    p->reader_threads = mem_new(p->readers, sizeof *p->reader_threads);
    for (unsigned i = 0; i < p->readers; i++)
        thread_start(&p->reader_threads[i], "reader", reader_main, p);
    thread_start(&p->writer_thread, "writer", writer_main, p);
    thread_start(&p->task_thread, "task", task_main, p);
    return p;
}

static void stop(struct pool *p, bool *flag, pthread_cond_t *wake)
{
    pthread_mutex_lock(&p->lock);
    *flag = true;
    pthread_cond_broadcast(wake);
    pthread_mutex_unlock(&p->lock);
}

/* In the order of who may wait for whom: tasks and readers use the lane, tasks use the readers. */
void pool_free(struct pool *p)
{
    if (!p)
        return;
    stop(p, &p->stop_tasks, &p->tasks);
    pthread_join(p->task_thread, NULL);
    stop(p, &p->stop_readers, &p->work);
    for (unsigned i = 0; i < p->readers; i++)
        pthread_join(p->reader_threads[i], NULL);
    stop(p, &p->stop_lane, &p->lane);
    pthread_join(p->writer_thread, NULL);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->lane);
    pthread_cond_destroy(&p->tasks);
    pthread_cond_destroy(&p->ended);
    pthread_mutex_destroy(&p->lock);
    free(p->reader_threads);
    free(p->read.items);
    free(p->write.items);
    free(p);
}

void pool_stats(struct pool *p, struct pool_stats *out)
{
    pthread_mutex_lock(&p->lock);
    *out = (struct pool_stats){
        .queued_read = p->read.count - p->calls,
        .queued_write = p->write.count,
        .running = p->running,
        .parked = p->parked};
    pthread_mutex_unlock(&p->lock);
}
