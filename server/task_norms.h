/* task_norms.h - the file of a task's denominators (server/lenses.h), for all chunks of a view:
 * what is known is copied, the rest computed. Task thread; idle readers help. */
#ifndef SERVER_TASK_NORMS_H
#define SERVER_TASK_NORMS_H

#include <stdint.h>

#include "index/lens.h"
#include "storage/artifact.h"
#include "storage/corpus.h"

struct lensed;
struct runtime;

struct task_norms {
    struct runtime *rt;
    const struct view *view;
    const struct lens *lens;
    struct lensed *known; /* or NULL */
    int (*advance)(void *arg, uint64_t bytes, struct err *e); /* of rows; an error ends the work */
    void *arg;
};

/* A finished artifact, one reference. BUSY, CORRUPT, FULL, and what advance said. */
int task_norms_write(const struct task_norms *t, struct artifact **out, struct err *e);

#endif
