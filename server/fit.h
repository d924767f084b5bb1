/* fit.h - the fit of a corpus as a job: Hessian of the stored gradients, whitening, rewrite,
 * swap (docs/encoding.md, 4 and 5). Bounded memory: LIMIT_FIT_BYTES of Gram sums, or one block's
 * when that is more; one chunk of rows; five matrices of each block that is being solved, again
 * LIMIT_FIT_BYTES or one block's. A block that half of the machine's memory cannot solve is
 * refused. */
#ifndef SERVER_FIT_H
#define SERVER_FIT_H

#include <stdint.h>

#include "server/tasks.h"

struct corpus;
struct runtime;

struct fit_options {
    double damping;  /* finite, not negative: times the mean eigenvalue of each block */
    uint64_t sample; /* rows the Hessian is taken from, evenly spread; UINT64_MAX: all */
};

/* Queues the job, writes its id and appends its description. Takes a reference of its own to `c`.
 * ENCODED, EMPTY, INVALID (damping; more dimensions than LAPACK takes), TOO_LARGE (a block for this
 * machine's memory), BUSY, DRAINING. Reader threads. */
int fit_start(struct runtime *rt, struct corpus *c, const struct fit_options *o,
              char id[TASK_ID_MAX], struct buf *out, struct err *e);

#endif
