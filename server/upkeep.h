/* upkeep.h - verify, backup and compact as background tasks of a running server. */
#ifndef SERVER_UPKEEP_H
#define SERVER_UPKEEP_H

#include "server/tasks.h"

struct flat;
struct runtime;
struct verify_report;
struct view;

/* Each queues a task, writes its id and appends its description. BUSY, DRAINING; compact:
 * UNKNOWN_CORPUS (corpus NULL: all). Reader threads. */
int upkeep_verify(struct runtime *rt, char id[TASK_ID_MAX], struct buf *out, struct err *e);
/* `base`: a backup whose sealed shards are shared (NULL: the latest; "none": none). */
int upkeep_backup(struct runtime *rt, const char *base, char id[TASK_ID_MAX], struct buf *out,
                  struct err *e);
int upkeep_compact(struct runtime *rt, const char *corpus, char id[TASK_ID_MAX],
                           struct buf *out, struct err *e);

/* Engine copies of chunks that `old` has and `now` has not. Queries still on the old view may
 * bring one back; it then goes as the oldest does, and is never mistaken: keys do not come
 * again. */
void upkeep_forget_gone(struct flat *flat, const struct view *old, const struct view *now);

/* What a verify found, as JSON; shared with the offline verb. */
enum { FINDINGS_MAX = 1000 }; /* lines kept; all are counted */
struct findings {
    struct buf lines; /* JSON strings, comma-separated */
    uint64_t count;
};
void upkeep_finding(void *findings, const char *line); /* verify_store's `finding` */
void upkeep_put_findings(struct buf *out, const struct verify_report *r, const struct findings *f);

#endif
