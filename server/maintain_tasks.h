/* maintain_tasks.h - verify, backup and compact as background tasks of a running server. */
#ifndef SERVER_MAINTAIN_TASKS_H
#define SERVER_MAINTAIN_TASKS_H

#include "server/tasks.h"

struct runtime;
struct verify_report;

/* Each queues a task and writes its id. BUSY, DRAINING; compact: UNKNOWN_CORPUS (corpus NULL: all).
 * Reader threads. */
int maintain_start_verify(struct runtime *rt, char id[TASK_ID_MAX], struct err *e);
int maintain_start_backup(struct runtime *rt, char id[TASK_ID_MAX], struct err *e);
int maintain_start_compact(struct runtime *rt, const char *corpus, char id[TASK_ID_MAX],
                           struct err *e);

/* What a verify found, as JSON; shared with the offline verb. */
enum { FINDINGS_MAX = 1000 }; /* lines kept; all are counted */
struct findings {
    struct buf lines; /* JSON strings, comma-separated */
    uint64_t count;
};
void findings_add(void *findings, const char *line); /* verify_store's `finding` */
void findings_put(struct buf *out, const struct verify_report *r, const struct findings *f);

#endif
