/* crew.c - see crew.h. */
#include "client/lm/crew.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"

struct member {
    struct crew *crew;
    unsigned number;
    pthread_t thread;
};

struct crew {
    unsigned members;
    struct member *member; /* owned; member 0 is the caller and has no thread */
    pthread_mutex_t lock;  /* guards the rest */
    pthread_cond_t called, done;
    void (*work)(void *ctx, unsigned member, unsigned members);
    void *ctx;
    unsigned long round;   /* rises with every call */
    unsigned busy;         /* members still at it */
    bool leaving;
};

static void *serve(void *arg)
{
    struct member *me = arg;
    struct crew *c = me->crew;
    unsigned long seen = 0;

    pthread_mutex_lock(&c->lock);
    for (;;) {
        while (c->round == seen && !c->leaving)
            pthread_cond_wait(&c->called, &c->lock);
        if (c->leaving)
            break;
        seen = c->round;
        pthread_mutex_unlock(&c->lock);
        c->work(c->ctx, me->number, c->members);
        pthread_mutex_lock(&c->lock);
        if (--c->busy == 0)
            pthread_cond_signal(&c->done);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

int crew_start(struct crew **out, unsigned members, struct err *e)
{
    struct crew *c;

    if (members < 1 || members > CREW_MAX)
        return err_set(e, ERR_INVALID, "%u threads: must be 1 to %d", members, CREW_MAX);
    c = mem_new(1, sizeof *c);
    c->member = mem_new(members, sizeof *c->member);
    c->members = 1;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->called, NULL);
    pthread_cond_init(&c->done, NULL);
    for (unsigned i = 1; i < members; i++) {
        int failed;
        c->member[i] = (struct member){.crew = c, .number = i};
        failed = pthread_create(&c->member[i].thread, NULL, serve, &c->member[i]);
        if (failed) {
            crew_stop(c);
            return err_errno(e, failed, "start a thread");
        }
        c->members = i + 1;
    }
    *out = c;
    return 0;
}

void crew_run(struct crew *c, void (*work)(void *ctx, unsigned member, unsigned members),
              void *ctx)
{
    pthread_mutex_lock(&c->lock);
    require(c->busy == 0);
    c->work = work;
    c->ctx = ctx;
    c->busy = c->members - 1;
    c->round++;
    pthread_cond_broadcast(&c->called);
    pthread_mutex_unlock(&c->lock);
    work(ctx, 0, c->members);
    pthread_mutex_lock(&c->lock);
    while (c->busy)
        pthread_cond_wait(&c->done, &c->lock);
    pthread_mutex_unlock(&c->lock);
}

void crew_stop(struct crew *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->leaving = true;
    pthread_cond_broadcast(&c->called);
    pthread_mutex_unlock(&c->lock);
    for (unsigned i = 1; i < c->members; i++)
        pthread_join(c->member[i].thread, NULL);
    pthread_cond_destroy(&c->called);
    pthread_cond_destroy(&c->done);
    pthread_mutex_destroy(&c->lock);
    free(c->member);
    free(c);
}

unsigned crew_processors(void)
{
    cpu_set_t set;
    int count;

    if (sched_getaffinity(0, sizeof set, &set))
        return 1;
    count = CPU_COUNT(&set);
    return count < 1 ? 1 : count > CREW_MAX ? CREW_MAX : (unsigned)count;
}
