/* thread.c - see thread.h. */
#include "server/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/server.h"
#include "storage/base/mem.h"

struct start {
    char name[16]; /* the kernel's own limit */
    void *(*run)(void *arg);
    void *arg;
};

/* A thread names itself by prctl; naming another would write to a file of /proc. */
static void *begin(void *arg)
{
    struct start s = *(struct start *)arg;

    free(arg);
    pthread_setname_np(pthread_self(), s.name);
    return s.run(s.arg);
}

void thread_start(pthread_t *t, const char *name, void *(*run)(void *arg), void *arg)
{
    struct start *s = mem_new(1, sizeof *s);
    int rc;

    snprintf(s->name, sizeof s->name, "%s", name);
    s->run = run;
    s->arg = arg;
    rc = pthread_create(t, NULL, begin, s);
    if (rc) {
        fprintf(stderr,
                "ascribed: cannot start thread %s: %s; see the limits on threads (ulimit -u, "
                "TasksMax=, pids.max)\n",
                name, strerror(rc));
        _exit(EXIT_USAGE); /* other threads run: no handler of exit() may take their things away */
    }
}
