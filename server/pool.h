/* pool.h - threads: readers (encode, scan), one writer lane, one task thread (long maintenance).
 *
 * All threads start at boot and live to the end; queues are bounded; a full queue refuses at once.
 * If pool_submit returns an error, nothing was taken and no completion will come.
 * Inside a worker OpenBLAS and OpenMP run on one thread: parallelism is jobs and pool_fanout.
 */
#ifndef SERVER_POOL_H
#define SERVER_POOL_H

#include <stdint.h>

#include "server/job.h"

struct pool;

/* `done` is called on a worker thread for each finished job: it hands the job back to the loop
 * (the transport's uv_async). */
struct pool *pool_new(unsigned readers, unsigned queue_max, void (*done)(void *arg, struct job *j),
                      void *arg);
void pool_free(struct pool *p); /* drains what was taken, joins */

/* Loop thread. Takes the job: route->work on a reader, then route->commit on the writer lane with
 * the others that wait, then `done`. BUSY when the queue is full. */
int pool_submit(struct pool *p, struct job *j, struct err *e);

/* Work may leave a job outside the pool without holding a thread: it sets job->park and returns
 * 0, and once the pool has let go of the job it calls park(park_arg), on that reader. From then
 * on the job belongs to whoever parked it, until one of these gives it back; route->work then
 * runs again, even when nobody waits for the job any more, so that it can clean up. Any thread;
 * neither can fail: a parked job keeps its place in the queue's bound. resume: behind what waits,
 * on any reader. run: here and now, on a reader's thread. */
void pool_resume(struct pool *p, struct job *j);
void pool_run(struct pool *p, struct job *j);

/* Queues fn(arg) for a reader, in line with the jobs. Any thread. At most one a parked job. */
void pool_call(struct pool *p, void (*fn)(void *arg), void *arg);

/* From a worker: runs fn(arg, slot) on up to `width` threads at once, the caller's among them
 * (slot 0..width-1, each at most once), and returns when all have ended. Idle readers help; with
 * none idle the caller does it alone, so it never waits for a queue. fn takes its work from a
 * shared counter. */
void pool_fanout(struct pool *p, unsigned width, void (*fn)(void *arg, unsigned slot), void *arg);
unsigned pool_readers(const struct pool *p);

/* From the task thread or a reader: runs work on the writer lane and waits for it. */
int pool_lane(struct pool *p, int (*work)(void *arg, struct err *e), void *arg, struct err *e);

/* Any thread: queues a long task on the task thread (one at a time). BUSY when too many wait. */
int pool_task(struct pool *p, void (*task)(void *arg), void *arg, struct err *e);

struct pool_stats {
    unsigned queued_read, queued_write, running, parked;
};
void pool_stats(struct pool *p, struct pool_stats *out);

#endif
