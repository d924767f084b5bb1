/* task.c - what the method does to a corpus: fitting it, and tasks, which are evaluation sets. */
#include "client/inner.h"

#include <stdlib.h>
#include <string.h>

enum { TASK_ROWS_MAX = 65536 };

/* --- Fit -------------------------------------------------------------------------------------- */

int asc_fit(struct asc_client *c, const char *corpus, const struct asc_fit *how,
            struct asc_job *out, struct asc_error *e)
{
    struct asc__buf path = {0};
    json_t *o = NULL;
    int rc = asc__corpus_path(&path, corpus, "/fit", e);

    if (rc != 0)
        return rc;
    asc__buf_text(&path, "?");
    if (how && how->damping >= 0)
        asc__buf_format(&path, "damping=%.17g&", how->damping);
    if (how && how->sample > 0)
        asc__buf_format(&path, "sample=%llu&", (unsigned long long)how->sample);
    if (path.failed) {
        rc = asc__no_memory(e, path.len);
    } else {
        path.data[--path.len] = '\0'; /* the last ? or & */
        rc = asc__call(c, "POST", path.data, NULL, ASC__RETRY_UNSENT, &o, NULL, e);
    }
    if (rc == 0)
        rc = asc__job_fill(o, out, e);
    json_decref(o);
    asc__buf_free(&path);
    return rc;
}

/* --- Tasks ------------------------------------------------------------------------------------ */

static int task_path(struct asc__buf *path, const char *corpus, const char *task,
                     struct asc_error *e)
{
    int rc;

    if (task && !*task)
        return asc__fail(e, ASC_ARGUMENT, "bad_name", "a task's name is missing");
    rc = asc__corpus_path(path, corpus, task ? "/tasks/" : "/tasks", e);
    if (rc == 0 && task)
        asc__buf_escape(path, task);
    return rc == 0 && path->failed ? asc__no_memory(e, path->len) : rc;
}

int asc_task_put(struct asc_client *c, const char *corpus, const char *task,
                 const struct asc_query *gradients, const struct asc_lambda *lambda,
                 struct asc_job *out, struct asc_error *e)
{
    struct asc__request r = {.method = "PUT",
                             .content_type = "application/vnd.safetensors",
                             .retry = ASC__RETRY_UNSENT};
    struct asc__reply reply = {0};
    struct asc__buf path = {0};
    struct asc__body body = {0};
    json_t *o = NULL;
    int rc = task_path(&path, corpus, task ? task : "", e);

    if (rc == 0 && lambda && lambda->value >= 0)
        asc__buf_format(&path, "?lambda=%.17g", lambda->value);
    else if (rc == 0 && lambda && lambda->downweight > 0)
        asc__buf_format(&path, "?downweight=%llu", (unsigned long long)lambda->downweight);
    if (rc == 0 && path.failed)
        rc = asc__no_memory(e, path.len);
    if (rc == 0)
        rc = asc__body_of_vectors(gradients, "gradients", TASK_ROWS_MAX, &body, e);
    if (rc == 0) {
        r.path = path.data;
        r.body = &body;
        r.fingerprint = gradients->body ? gradients->fingerprint : NULL;
        rc = asc__perform(c, &r, &reply, e);
    }
    if (rc == 0)
        rc = asc__json_parse(reply.data, reply.len, &o, e);
    if (rc == 0)
        rc = asc__job_fill(o, out, e);
    json_decref(o);
    free(reply.data);
    asc__body_free(&body);
    asc__buf_free(&path);
    return rc;
}

/* GET one or all, DELETE one; the answer as compact JSON when `out` wants it. */
static int call(struct asc_client *c, const char *method, const char *corpus, const char *task,
                char **out, struct asc_error *e)
{
    struct asc__buf path = {0};
    json_t *o = NULL;
    int rc = task_path(&path, corpus, task, e);

    if (rc == 0)
        rc = asc__call(c, method, path.data, NULL, ASC__RETRY_SAFE, out ? &o : NULL, NULL, e);
    if (rc == 0 && out) {
        *out = json_dumps(o, JSON_COMPACT);
        rc = *out ? 0 : asc__no_memory(e, 4096);
    }
    json_decref(o);
    asc__buf_free(&path);
    return rc;
}

int asc_task_list(struct asc_client *c, const char *corpus, char **out_json, struct asc_error *e)
{
    return call(c, "GET", corpus, NULL, out_json, e);
}

int asc_task_get(struct asc_client *c, const char *corpus, const char *task, char **out_json,
                 struct asc_error *e)
{
    return call(c, "GET", corpus, task ? task : "", out_json, e);
}

int asc_task_delete(struct asc_client *c, const char *corpus, const char *task,
                    struct asc_error *e)
{
    return call(c, "DELETE", corpus, task ? task : "", NULL, e);
}
