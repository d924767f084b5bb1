/* api.h - what the endpoint files share, and the functions that routes.c puts into the table.
 *
 * Naming: RESOURCE_ACTION_STEP, where STEP is parse, work, commit, reply or finish (server/job.h).
 * A reply with nothing to decide is api_ok or api_no_content. */
#ifndef SERVER_API_H
#define SERVER_API_H

#include <stdbool.h>
#include <stdint.h>

#include "server/job.h"
#include "server/stop.h"
#include "storage/corpus.h"

/* ---- parse ----------------------------------------------------------------------------------- */

int api_parse_plain(struct job *j);  /* no query parameter is taken */
int api_parse_corpus(struct job *j); /* and path[0] is a corpus name */
/* 0, or INVALID naming `what`: text is a name as docs/protocol.md has it. */
int api_check_name(struct job *j, const char *what, const char *text);
/* A switch: 1, 0, true or false. */
int api_query_bool(struct job *j, const char *name, bool fallback, bool *out);
/* A finite decimal number. */
int api_query_real(struct job *j, const char *name, double fallback, double *out);

/* ---- work ------------------------------------------------------------------------------------ */

/* A reference to corpus path[0]; UNKNOWN_CORPUS. Give back with corpus_release. */
int api_corpus(struct job *j, struct corpus **out);
/* True when nobody waits for the job any more. Unlike job_stopped it changes nothing, so several
 * threads may ask; the job's own thread then makes the error with api_stopped. */
bool api_ended(void *job);
struct stop api_stop(struct job *j);
/* A CANCELLED from work that was told to stop becomes what job_stopped says (left, or late). */
int api_stopped(struct job *j, int code);
/* The part of `v` that the filter lets through (server/sift.h); NULL: all of it, `v` itself. It
 * borrows from `v` and is never released. BAD_FILTER and whatever reading brings. */
int api_filter(struct job *j, const char *filter, const struct view *v, const struct view **out);
/* What a score is: "cosine" or "dot"; NULL leaves *dot as it is. */
int api_score(const char *name, bool *dot, struct err *e);
/* The reply's body is whole; BUSY when it ran out of memory. */
int api_body_done(struct job *j);
/* Is the body JSON rather than a tensor file? */
bool api_body_is_json(const struct job *j);
/* A task that a query or scores request goes through. name NULL: none, *out is empty. `v` is the
 * whole view, held; queries become the task's. UNKNOWN_TASK, TASK_STALE, CORRUPT, CANCELLED. */
struct annex;
struct lensed;
struct queries;
struct api_task {
    struct annex *annex; /* a reference, or NULL */
    struct lensed *lens;
};
int api_task_open(struct job *j, const char *name, struct corpus *c, const struct view *v,
                  struct queries *q, struct api_task *out);
void api_task_close(struct job *j, struct corpus *c, const struct view *v, struct api_task *t);
/* Counts damage that was met, and passes the code on. */
int api_seen(struct job *j, int code);
/* A failure in reading what the encoder answered is the encoder's: 502. Passes 0 on. */
int api_encoder_fault(struct job *j, int code);
/* What the audit's line says beside route and key: what was done, and the id that came of it. */
void api_audit(struct job *j, const char *what, const char *on);

/* ---- reply ----------------------------------------------------------------------------------- */

int api_ok(struct job *j);         /* 200 */
int api_no_content(struct job *j); /* 204 */

/* ---- endpoints ------------------------------------------------------------------------------- */

int corpora_put_parse(struct job *j);
int corpora_put_work(struct job *j);
void corpora_put_commit(struct job *const *jobs, size_t count);
int corpora_put_reply(struct job *j);
int corpora_list_work(struct job *j);
int corpora_get_work(struct job *j);
int corpora_delete_work(struct job *j);
void corpora_delete_commit(struct job *const *jobs, size_t count);

int norms_parse(struct job *j);
int norms_work(struct job *j);

int batches_put_parse(struct job *j);
int batches_put_work(struct job *j);
void batches_put_commit(struct job *const *jobs, size_t count);
int batches_put_reply(struct job *j);
void batches_put_finish(struct job *j);
int batches_get_parse(struct job *j);
int batches_get_work(struct job *j);

int examples_list_parse(struct job *j);
int examples_list_work(struct job *j);
int examples_parse(struct job *j);
int examples_get_work(struct job *j);
int examples_encoding_work(struct job *j);
int examples_encoding_reply(struct job *j);
int examples_delete_work(struct job *j);
void examples_delete_commit(struct job *const *jobs, size_t count);

int query_parse(struct job *j);
int query_work(struct job *j);

int fit_parse(struct job *j);
int fit_work(struct job *j);
int fit_reply(struct job *j);

int tasks_put_parse(struct job *j);
int tasks_put_work(struct job *j);
int tasks_put_reply(struct job *j);
int tasks_list_work(struct job *j);
int tasks_parse(struct job *j);
int tasks_get_work(struct job *j);
int tasks_delete_work(struct job *j);
void tasks_delete_commit(struct job *const *jobs, size_t count);

int search_work(struct job *j);

int encoder_get_reply(struct job *j);
int encoder_continue_work(struct job *j);
int encoder_encode_work(struct job *j);
int encoder_encode_reply(struct job *j);
void encoder_finish(struct job *j);
int explain_parse(struct job *j);
int explain_work(struct job *j);
void explain_finish(struct job *j);

int saved_parse(struct job *j);
int saved_put_work(struct job *j);
void saved_put_commit(struct job *const *jobs, size_t count);
int saved_put_reply(struct job *j);
void saved_put_finish(struct job *j);
int saved_get_work(struct job *j);
int saved_gradient_work(struct job *j);
int saved_list_parse(struct job *j);
int saved_list_work(struct job *j);
int saved_delete_work(struct job *j);
void saved_delete_commit(struct job *const *jobs, size_t count);

int scores_parse(struct job *j);
int scores_work(struct job *j);

int jobs_list_reply(struct job *j);
int jobs_get_reply(struct job *j);
int jobs_delete_reply(struct job *j);

int admin_backup_parse(struct job *j);
int admin_backup_work(struct job *j);
int admin_verify_work(struct job *j);
int admin_compact_parse(struct job *j);
int admin_compact_work(struct job *j);
int admin_reply(struct job *j);
int keys_list_reply(struct job *j);
int keys_post_work(struct job *j);
void keys_post_commit(struct job *const *jobs, size_t count);
int keys_post_reply(struct job *j);
void keys_post_finish(struct job *j);
int keys_rotate_work(struct job *j);
void keys_rotate_commit(struct job *const *jobs, size_t count);
int keys_delete_work(struct job *j);
void keys_delete_commit(struct job *const *jobs, size_t count);

#endif
