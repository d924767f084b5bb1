/* task_build.h - the job that makes a task: spectra, lambda, lens, denominators, record
 * (docs/encoding.md, 6 and 7); and the one that writes its denominators anew. Memory: the
 * evaluation gradients twice in float32, two blocks of them in float64, one chunk of rows a
 * thread; tasks that wait hold LIMIT_TASK_BYTES of gradients together at most. */
#ifndef SERVER_TASK_BUILD_H
#define SERVER_TASK_BUILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/tasks.h"
#include "storage/store.h"

struct annex;
struct corpus;
struct runtime;

struct task_build {
    char name[STORE_NAME_MAX + 1];
    bool by_rule;        /* lambda by the rule for `downweight` */
    double lambda;       /* else this one: 0 <= lambda < 1 */
    uint64_t downweight; /* of 65,536 dimensions */
    float *gradients;    /* rows x dim, raw, checked; malloc'ed */
    size_t rows;
};

/* Takes what the gradients will cost, before they are copied: BUSY when too much waits already.
 * What was taken and not given to task_build_start is given back by task_build_release. */
int task_build_reserve(uint64_t bytes, struct err *e);
void task_build_release(uint64_t bytes);

/* Queues the job. On success `gradients` and their reservation are the job's. NOT_FITTED, BUSY,
 * DRAINING. */
int task_build_start(struct runtime *rt, struct corpus *c, const struct task_build *b,
                     char id[TASK_ID_MAX], struct buf *out, struct err *e);

/* Queues the job that writes a task's denominators anew, for the rows there are now. False when it
 * could not be queued; when it fails later, lenses_overdue asks for it again. */
bool task_build_extend(struct runtime *rt, struct corpus *c, struct annex *a);

#endif
