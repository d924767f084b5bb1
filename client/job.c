/* job.c - long work on the server: looking, listing, cancelling, waiting, and what starts it. */
#include "client/inner.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

int asc__job_fill(const json_t *o, struct asc_job *out, struct asc_error *e)
{
    struct asc_job j = {0};

    if (json_is_object(json_object_get(o, "job"))) /* an answer wraps it; a list does not */
        o = json_object_get(o, "job");
    if (!json_is_string(json_object_get(o, "id")) || !json_is_string(json_object_get(o, "state")))
        return asc__json_missing(e, "job", "id and state");
    asc__json_word(o, "id", j.id, sizeof j.id);
    asc__json_word(o, "kind", j.kind, sizeof j.kind);
    asc__json_word(o, "state", j.state, sizeof j.state);
    asc__json_word(o, "created", j.created, sizeof j.created);
    j.progress = asc__json_real(o, "progress", 0);
    j.rate = asc__json_real(o, "rate", -1);
    j.eta_s = asc__json_real(o, "eta_s", -1);
    j.result = asc__json_dump(o, "result");
    j.error = asc__json_dump(o, "error");
    *out = j;
    return 0;
}

static int call(struct asc_client *c, const char *method, const char *id, struct asc_job *out,
                struct asc_error *e)
{
    struct asc__buf path = {0};
    json_t *o = NULL;
    int rc = 0;

    if (!id || !*id)
        return asc__fail(e, ASC_ARGUMENT, "bad_id", "a job id is missing");
    asc__buf_text(&path, "/v1/jobs/");
    asc__buf_escape(&path, id);
    if (path.failed)
        rc = asc__no_memory(e, path.len);
    if (rc == 0)
        rc = asc__call(c, method, path.data, NULL, ASC__RETRY_SAFE, out ? &o : NULL, NULL, e);
    if (rc == 0 && out)
        rc = asc__job_fill(o, out, e);
    json_decref(o);
    asc__buf_free(&path);
    return rc;
}

bool asc_job_done(const struct asc_job *job)
{
    return strcmp(job->state, "succeeded") == 0 || strcmp(job->state, "failed") == 0 ||
           strcmp(job->state, "cancelled") == 0;
}

int asc_job_get(struct asc_client *c, const char *id, struct asc_job *out, struct asc_error *e)
{
    return call(c, "GET", id, out, e);
}

int asc_job_cancel(struct asc_client *c, const char *id, struct asc_error *e)
{
    return call(c, "DELETE", id, NULL, e);
}

int asc_job_list(struct asc_client *c, struct asc_job **out, size_t *out_count,
                 struct asc_error *e)
{
    struct asc_job *list = NULL;
    json_t *o = NULL, *all;
    size_t count = 0;
    int rc = asc__call(c, "GET", "/v1/jobs", NULL, ASC__RETRY_SAFE, &o, NULL, e);

    if (rc != 0)
        return rc;
    all = json_object_get(o, "jobs");
    if (!json_is_array(all))
        rc = asc__json_missing(e, "jobs", "jobs");
    else if (!(list = calloc(json_array_size(all) + 1, sizeof *list)))
        rc = asc__no_memory(e, json_array_size(all) * sizeof *list);
    for (; rc == 0 && count < json_array_size(all); count++)
        rc = asc__job_fill(json_array_get(all, count), &list[count], e);
    json_decref(o);
    if (rc != 0) {
        asc_jobs_free(list, count);
        return rc;
    }
    *out = list;
    *out_count = count;
    return 0;
}

/* Sleeps in steps, so that a cancel is noticed. */
static bool wait_ms(struct asc_client *c, unsigned ms)
{
    struct asc_transfer none = {0};

    for (uint64_t now = asc__now_ms(), end = now + ms; now < end; now = asc__now_ms()) {
        struct timespec t = {.tv_nsec = (end - now < 100 ? (long)(end - now) : 100) * 1000000};

        if (atomic_load(&c->cancelled) ||
            (c->options.on_tick && c->options.on_tick(c->options.user, &none) != 0))
            return false;
        nanosleep(&t, NULL);
    }
    return true;
}

int asc_job_wait(struct asc_client *c, const char *id, unsigned poll_ms,
                 int (*look)(void *user, const struct asc_job *job), void *user,
                 struct asc_job *out, struct asc_error *e)
{
    for (;;) {
        struct asc_job job;
        int rc = asc_job_get(c, id, &job, e);

        if (rc != 0)
            return rc;
        if (look && look(user, &job) != 0) {
            asc_job_clear(&job);
            return asc__fail(e, ASC_ABORTED, "aborted", "stopped by the caller");
        }
        if (asc_job_done(&job)) {
            *out = job;
            return 0;
        }
        asc_job_clear(&job);
        if (!wait_ms(c, poll_ms ? poll_ms : 500))
            return asc__fail(e, ASC_ABORTED, "aborted", "stopped by the caller");
    }
}

void asc_job_clear(struct asc_job *job)
{
    free(job->result);
    free(job->error);
    job->result = job->error = NULL;
}

void asc_jobs_free(struct asc_job *list, size_t count)
{
    for (size_t i = 0; list && i < count; i++)
        asc_job_clear(&list[i]);
    free(list);
}

/* --- What starts a job ------------------------------------------------------------------------ */

static int begin(struct asc_client *c, const char *path, struct asc_job *out, struct asc_error *e)
{
    json_t *o = NULL;
    int rc = asc__call(c, "POST", path, NULL, ASC__RETRY_UNSENT, &o, NULL, e);

    if (rc == 0)
        rc = asc__job_fill(o, out, e);
    json_decref(o);
    return rc;
}

/* With one parameter, where it has a value. */
static int begin_with(struct asc_client *c, const char *route, const char *name, const char *value,
                      struct asc_job *out, struct asc_error *e)
{
    struct asc__buf path = {0};
    int rc;

    asc__buf_text(&path, route);
    if (value) {
        asc__buf_format(&path, "?%s=", name);
        asc__buf_escape(&path, value);
    }
    rc = path.failed ? asc__no_memory(e, path.len) : begin(c, path.data, out, e);
    asc__buf_free(&path);
    return rc;
}

int asc_backup(struct asc_client *c, const char *base, struct asc_job *out, struct asc_error *e)
{
    return begin_with(c, "/v1/admin/backup", "base", base, out, e);
}

int asc_verify(struct asc_client *c, struct asc_job *out, struct asc_error *e)
{
    return begin(c, "/v1/admin/verify", out, e);
}

int asc_compact(struct asc_client *c, const char *corpus, struct asc_job *out,
                struct asc_error *e)
{
    return begin_with(c, "/v1/admin/compact", "corpus", corpus, out, e);
}
