/* scrubber.c - see scrubber.h. */
#include "server/scrubber.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "server/log.h"
#include "server/metrics.h"
#include "server/scan.h"
#include "server/thread.h"
#include "storage/base/mem.h"
#include "storage/scrub.h"

#define SECOND_NS UINT64_C(1000000000)
enum { START_S = 2, PASS_S = 24 * 60 * 60, LOWEST_PRIORITY = 19 };

struct scrubber {
    struct store *store;
    struct metrics *metrics;
    uint64_t rate; /* bytes a second */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stopping;
    uint64_t findings; /* of this pass */
};

/* False when the server is going down. */
static bool wait_ns(struct scrubber *s, uint64_t ns)
{
    struct timespec until;
    bool go;

    clock_gettime(CLOCK_MONOTONIC, &until);
    ns += (uint64_t)until.tv_nsec;
    until.tv_sec += (time_t)(ns / SECOND_NS);
    until.tv_nsec = (long)(ns % SECOND_NS);
    pthread_mutex_lock(&s->lock);
    while (!s->stopping && !pthread_cond_timedwait(&s->wake, &s->lock, &until))
        ;
    go = !s->stopping;
    pthread_mutex_unlock(&s->lock);
    return go;
}

static void finding(void *arg, const char *line)
{
    struct scrubber *s = arg;

    s->findings++;
    log_note(LOG_ERROR, "scrub", "%s", line);
}

/* One chunk, and the time that it may take at this rate. */
static bool step(struct scrubber *s, struct scrub *at, bool *end)
{
    struct verify_report found;
    struct err e = ERR_INIT;
    uint64_t began = scan_now(), due, took;

    if (scrub_step(s->store, at, finding, s, &found, end, &e))
        log_note(LOG_WARN, "scrub", "%s", e.text); /* no memory, most likely: the next one may do */
    metrics_add(s->metrics, METRIC_SCRUB_BYTES, found.bytes);
    metrics_add(s->metrics, METRIC_SCRUB_DAMAGE, found.damaged_blocks + found.ledger_faults);
    due = (uint64_t)((double)found.bytes / (double)s->rate * 1e9);
    took = scan_now() - began;
    return wait_ns(s, due > took ? due - took : 0);
}

static void end_pass(struct scrubber *s)
{
    metrics_add(s->metrics, METRIC_SCRUB_PASSES, 1);
    metrics_set(s->metrics, METRIC_SCRUB_LAST, (uint64_t)time(NULL));
    log_note(s->findings ? LOG_WARN : LOG_INFO, "scrub", "everything read, %llu findings",
             (unsigned long long)s->findings);
}

static void *scrubber_main(void *arg)
{
    struct scrubber *s = arg;
    bool go = wait_ns(s, START_S * SECOND_NS);

    setpriority(PRIO_PROCESS, (id_t)gettid(), LOWEST_PRIORITY); /* a wish; nothing depends on it */
    while (go) {
        uint64_t began = scan_now(), spent;
        struct scrub at = {0};
        bool end = false;

        s->findings = 0;
        while (go && !end)
            go = step(s, &at, &end);
        if (end)
            end_pass(s);
        spent = scan_now() - began;
        if (go && spent < PASS_S * SECOND_NS)
            go = wait_ns(s, PASS_S * SECOND_NS - spent);
    }
    return NULL;
}

struct scrubber *scrubber_new(struct store *store, struct metrics *m, uint64_t rate)
{
    struct scrubber *s;
    pthread_condattr_t clock;

    if (!rate)
        return NULL;
    s = mem_new(1, sizeof *s);
    s->store = store;
    s->metrics = m;
    s->rate = rate << 20;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&s->wake, &clock);
    pthread_condattr_destroy(&clock);
    thread_start(&s->thread, "scrubber", scrubber_main, s);
    return s;
}

void scrubber_free(struct scrubber *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
