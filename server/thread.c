/* thread.c - see thread.h. */
#include "server/thread.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/server.h"

void thread_start(pthread_t *t, const char *name, void *(*run)(void *arg), void *arg)
{
    int rc = pthread_create(t, NULL, run, arg);

    if (rc) {
        fprintf(stderr, "ascribed: cannot start thread %s: %s; see the limits on threads (ulimit "
                "-u, "
                        "TasksMax=, pids.max)\n", name, strerror(rc));
        _exit(EXIT_USAGE); /* other threads run: no handler of exit() may take their things away */
    }
    pthread_setname_np(*t, name);
}
