/* tasks.h - the registry behind /v1/jobs: long work (verify, backup, compact) and how far it is.
 *
 * A task runs on the pool's task thread, one at a time, in the order of asking. The registry keeps
 * every task that waits or runs and the last LIMIT_TASKS_KEPT that ended; it is memory only: a
 * restart forgets it, and each kind of work is safe to ask for again.
 * Threads: every call from any thread; one mutex, held for a few copies and never during the work.
 */
#ifndef SERVER_TASKS_H
#define SERVER_TASKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/limits.h"
#include "storage/base/bytes.h"
#include "storage/base/err.h"

struct pool;
struct tasks;
struct task;

enum task_state { TASK_QUEUED, TASK_RUNNING, TASK_SUCCEEDED, TASK_FAILED, TASK_CANCELLED };
enum { TASK_ID_MAX = 24 }; /* "j" and a number */

/* Does the work on the task thread. Reports by tasks_report; on success leaves a JSON object in
 * *result (or nothing). CANCELLED when it stopped because tasks_report said so. */
typedef int task_run(struct task *t, void *arg, struct buf *result, struct err *e);
/* Gives back `arg`, once, after run or instead of it. */
typedef void task_drop(void *arg);

/* `store`, which outlives it: the directory that errors must not show (folders_hide). */
struct tasks *tasks_new(struct pool *pool, const char *store);
/* Asks every task to stop and refuses new ones (DRAINING). At the start of the drain, before
 * pool_free. */
void tasks_stop(struct tasks *ts);
/* After pool_free: no task runs any more. */
void tasks_free(struct tasks *ts);

/* Queues a task, writes its id and, unless out is NULL, appends its description while it still
 * waits. On failure (BUSY, DRAINING) nothing was taken: `arg` stays the
 * caller's. `kind` is a literal. */
int tasks_start(struct tasks *ts, const char *kind, task_run *run, task_drop *drop, void *arg,
                char id[TASK_ID_MAX], struct buf *out, struct err *e);

/* From the running task: bytes done of total. False when it should stop. Has the form that
 * maintain_progress wants, `task` being the struct task. */
bool tasks_report(void *task, uint64_t done, uint64_t total);

/* UNKNOWN_JOB when there is none. A task that waits is cancelled at once; one that runs is asked
 * to; one that ended stays as it is. */
int tasks_cancel(struct tasks *ts, const char *id, struct err *e);

/* Says that the task is about this corpus alone, so that keys of that corpus may see it. One that
 * was trimmed meanwhile is nobody's. */
void tasks_bind(struct tasks *ts, const char *id, const char *corpus);

/* Appends the task as the object of docs/protocol.md; UNKNOWN_JOB. `corpus`: only when it is bound
 * to that one; NULL: any. */
int tasks_describe(struct tasks *ts, const char *id, const char *corpus, struct buf *out,
                   struct err *e);
/* Appends the array of all (of those bound to `corpus`), newest first. */
void tasks_list(struct tasks *ts, const char *corpus, struct buf *out);

#endif
