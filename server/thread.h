/* thread.h - the threads of the server. All are made at the start and live until the end: none is
 * made for a request, so that none can be missing when one comes.
 */
#ifndef SERVER_THREAD_H
#define SERVER_THREAD_H

#include <pthread.h>

/* Starts run(arg), named `name` (of at most 15 bytes) for top and debuggers. Where the system has
 * no thread left (`ulimit -u`, TasksMax=, a cgroup's pids.max) nothing can be served: says so in
 * one line and ends the process with EXIT_USAGE. A store is open by then; it is left as by a
 * kill. */
void thread_start(pthread_t *t, const char *name, void *(*run)(void *arg), void *arg);

#endif
