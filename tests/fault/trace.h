/* trace.h - a fixed row of steps over a store, and what there must be after each.
 *
 * Steps run one at a time, so that after a fault in step k the store must be exactly what it was
 * before k or exactly what it is after it; nothing else is right (look.h compares). Everything
 * lives below one root: root/store, root/backup, root/restored.
 */
#ifndef TESTS_FAULT_TRACE_H
#define TESTS_FAULT_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/err.h"
#include "storage/store.h"

enum { TRACE_EXAMPLES = 512, TRACE_TASKS = 2 };

/* What can be seen of a store. */
struct trace_corpus {
    bool exists;
    uint32_t next; /* examples [0, next) were ingested */
    uint32_t epoch;
    uint32_t tasks[TRACE_TASKS]; /* the step that made it; 0: there is none */
    unsigned char dead[TRACE_EXAMPLES];
};
struct trace_store {
    bool exists;
    struct trace_corpus c, other;
    uint32_t record; /* value of a small record; 0: none */
};
struct trace_model {
    struct trace_store store, backup, restored;
};

extern const struct store_options trace_options;

size_t trace_steps(void);
const char *trace_name(size_t step);

/* What there is after the first `steps`. */
void trace_model(size_t steps, struct trace_model *out);

/* A process that runs the steps. */
struct trace;
struct trace *trace_begin(const char *root);
/* One step; 0, or its error. It may be run again after an error that did not latch the store. */
int trace_run(struct trace *t, size_t step, struct err *e);
bool trace_latched(const struct trace *t); /* the store takes no more writes */
/* A copy of what is not the store itself: an error in it does not touch the store. */
bool trace_is_copy(size_t step);
/* What a person does before asking again for a copy that failed. */
void trace_remove_copy(struct trace *t, size_t step);
void trace_end(struct trace *t);

/* Rows [first, first + count) as one batch: what steps do, and whoever goes on after them. */
int trace_ingest(struct store *s, struct corpus *c, uint32_t first, uint32_t count, struct err *e);

#endif
