/* api_tasks.c - /v1/corpora/{c}/tasks: put, list, look, delete; and what query and scores do with
 * `task=`. The gradients are checked here, before anything is queued; the job does the rest. */
#include "server/api.h"

#include <stdlib.h>
#include <string.h>

#include "index/lambda.h"
#include "index/vec.h"
#include "server/encode.h"
#include "server/ingest.h"
#include "server/lenses.h"
#include "server/limits.h"
#include "server/manifest.h"
#include "server/metrics.h"
#include "server/queries.h"
#include "server/runtime.h"
#include "server/safetensors.h"
#include "server/task_build.h"
#include "storage/annex.h"

/* ---- PUT ------------------------------------------------------------------------------------- */

int tasks_put_parse(struct job *j)
{
    static const char *const names[] = {"lambda", "downweight", NULL};
    struct task_build *b = arena_new(&j->arena, 1, sizeof *b);
    int code = job_query_only(j, names);

    j->state = b;
    if (!code)
        code = api_check_name(j, "corpus", j->path[0]);
    if (!code)
        code = api_check_name(j, "task", j->path[1]);
    if (!code)
        code = api_query_real(j, "lambda", 0, &b->lambda);
    if (!code && !(b->lambda >= 0 && b->lambda < 1)) {
        err_set(&j->err, ERR_INVALID, "parameter lambda: %g; it must be at least 0 and below 1",
                b->lambda);
        code = err_at_field(&j->err, "lambda");
    }
    if (!code)
        code = job_query_number(j, "downweight", LAMBDA_DOWNWEIGHT, 1, INT32_MAX, &b->downweight);
    if (!code && job_query(j, "lambda") && job_query(j, "downweight")) {
        err_set(&j->err, ERR_INVALID, "lambda and downweight: one of the two");
        code = err_at_field(&j->err, "downweight");
    }
    b->by_rule = !job_query(j, "lambda");
    if (!code && api_body_is_json(j))
        code = err_set(&j->err, ERR_MEDIA, "a task is a safetensors file with tensor gradients");
    return code;
}

static int find_gradients(struct job *j, const struct corpus *c, const struct safetensor **out)
{
    static const char *const names[] = {"gradients", NULL};
    struct safetensors st;
    int code = safetensors_read(j->body, j->body_len, &j->arena, &st, &j->err);

    if (!code)
        code = safetensors_only(&st, names, &j->err);
    if (!code)
        code = safetensors_find(&st, "gradients", out, &j->err);
    if (!code)
        code = ingest_check_fingerprint(c, j->fingerprint, &j->err);
    if (!code)
        code = ingest_check_fingerprint(c, st.fingerprint, &j->err);
    return code;
}

/* Each row has a direction; what the job works on is the rows as they came. */
static int check_rows(struct job *j, const struct safetensor *t, size_t rows, enum dtype type,
                      size_t dim)
{
    float *unit = mem_big(dim, sizeof *unit), *scratch = mem_big(dim, sizeof *scratch);
    double norm;
    int code = unit && scratch ? 0 : err_set(&j->err, ERR_BUSY, "no memory for a row");

    for (size_t i = 0; !code && i < rows; i++) {
        code = vec_normalise(t->data + i * dim * dtype_size(type), type, dim, DTYPE_F32, unit,
                             &norm, scratch, t->name, i, &j->err);
        if (!code && job_stopped(j))
            code = (int)j->err.code;
    }
    free(unit);
    free(scratch);
    return code;
}

static int start(struct job *j, struct corpus *c, struct task_build *b, const struct safetensor *t,
                 enum dtype type)
{
    size_t dim = corpus_def(c)->dim;
    uint64_t bytes = (uint64_t)b->rows * dim * sizeof(float);
    char id[TASK_ID_MAX];
    int code = task_build_reserve(bytes, &j->err);

    if (code)
        return code;
    b->gradients = mem_big(b->rows * dim, sizeof(float));
    if (!b->gradients)
        code = err_set(&j->err, ERR_BUSY, "no memory for %zu evaluation gradients", b->rows);
    if (!code) {
        vec_widen(t->data, type, b->rows * dim, b->gradients);
        buf_add_text(&j->reply_body, "{\"job\":");
        code = task_build_start(j->rt, c, b, id, &j->reply_body, &j->err);
    }
    if (code) {
        free(b->gradients);
        task_build_release(bytes);
        return code;
    }
    j->reply_location = arena_format(&j->arena, "/v1/jobs/%s", id);
    buf_add(&j->reply_body, "}", 1);
    return api_body_done(j);
}

static int check_corpus(struct job *j, struct corpus *c)
{
    const struct view *v = corpus_view(c);
    bool fitted = v->state != NULL;
    struct manifest_shape shape;
    int code;

    view_release(v);
    if (fitted)
        return 0;
    code = manifest_shape(corpus_def(c), &j->arena, &shape, &j->err);
    if (!code && shape.encoded)
        code = err_set(&j->err, ERR_ENCODED,
                       "corpus %s was created encoded: it cannot be fitted, and a task stands on a "
                       "fit", j->path[0]);
    return code ? code
                : err_set(&j->err, ERR_NOT_FITTED,
                          "corpus %s is not fitted; a task stands on its whitening", j->path[0]);
}

int tasks_put_work(struct job *j)
{
    struct task_build *b = j->state;
    const struct safetensor *t = NULL;
    struct corpus *c = NULL;
    enum dtype type = DTYPE_F32;
    int code = api_corpus(j, &c);

    if (code)
        return code;
    code = check_corpus(j, c);
    if (!code)
        code = find_gradients(j, c, &t);
    if (!code)
        code = safetensors_rows(t, corpus_def(c)->dim, LIMIT_BATCH_ROWS, &b->rows, &type, &j->err);
    if (!code)
        code = check_rows(j, t, b->rows, type, corpus_def(c)->dim);
    memcpy(b->name, j->path[1], strlen(j->path[1]));
    if (!code)
        code = start(j, c, b, t, type);
    corpus_release(c);
    return code;
}

int tasks_put_reply(struct job *j)
{
    j->status = 202;
    return 0;
}

/* ---- GET ------------------------------------------------------------------------------------- */

static void put_task(struct buf *out, const struct annex *a, const struct view *v)
{
    const struct annex_def *def = annex_def(a);
    uint64_t bytes = 0;

    for (size_t i = 0; i < def->artifact_count; i++)
        bytes += artifact_bytes(def->artifacts[i]);
    buf_format(out, "{\"name\":\"%s\",\"state\":\"%s\",\"fit\":%llu,\"bytes\":%llu,%s", def->name,
               def->epoch == view_epoch(v) ? "ready" : "stale", (unsigned long long)def->epoch,
               (unsigned long long)bytes, def->text + 1);
}

int tasks_list_work(struct job *j)
{
    struct annex **list = NULL;
    const struct view *v;
    struct corpus *c = NULL;
    size_t count;
    int code = api_corpus(j, &c);

    if (code)
        return code;
    v = corpus_view(c);
    count = annex_list(c, &list);
    buf_add_text(&j->reply_body, "{\"tasks\":[");
    for (size_t i = 0; i < count; i++) {
        if (i)
            buf_add(&j->reply_body, ",", 1);
        put_task(&j->reply_body, list[i], v);
        annex_release(list[i]);
    }
    free(list);
    buf_add_text(&j->reply_body, "]}");
    view_release(v);
    corpus_release(c);
    return api_body_done(j);
}

int tasks_parse(struct job *j)
{
    int code = api_parse_corpus(j);

    return code ? code : api_check_name(j, "task", j->path[1]);
}

int tasks_get_work(struct job *j)
{
    struct corpus *c = NULL;
    struct annex *a;
    int code = api_corpus(j, &c);

    if (code)
        return code;
    a = annex_find(c, j->path[1]);
    if (a) {
        const struct view *v = corpus_view(c);

        put_task(&j->reply_body, a, v);
        view_release(v);
        annex_release(a);
    } else {
        code = err_set(&j->err, ERR_UNKNOWN_TASK, "corpus %s has no task \"%s\"", j->path[0],
                       j->path[1]);
    }
    corpus_release(c);
    return code ? code : api_body_done(j);
}

/* ---- DELETE ---------------------------------------------------------------------------------- */

int tasks_delete_work(struct job *j)
{
    struct corpus *c = NULL;
    int code = api_corpus(j, &c);

    if (!code)
        corpus_release(c);
    return code;
}

void tasks_delete_commit(struct job *const *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct corpus *c = NULL;

        if (job_stopped(jobs[i]) || api_corpus(jobs[i], &c))
            continue;
        annex_delete(c, jobs[i]->path[1], &jobs[i]->err);
        corpus_release(c);
    }
}

/* ---- task= ----------------------------------------------------------------------------------- */

int api_task_open(struct job *j, const char *name, struct corpus *c, const struct view *v,
                  struct queries *q, struct api_task *out)
{
    struct stop stop = api_stop(j);
    int code;

    *out = (struct api_task){0};
    if (!name)
        return 0;
    if (api_check_name(j, "task", name))
        return (int)j->err.code;
    code = api_seen(j, lenses_open(c, v, name, &out->annex, &out->lens, &j->err));
    if (!code)
        code = api_stopped(j, lenses_queries(out->lens, q->vectors, q->lengths, q->count,
                                             j->rt->pool, &stop, &j->err));
    if (!code)
        metrics_add(j->rt->metrics, METRIC_QUERIES_TASK, q->count);
    return code;
}

void api_task_close(struct job *j, struct corpus *c, const struct view *v, struct api_task *t)
{
    if (t->annex && !j->err.code && lenses_overdue(t->lens, v) &&
        !task_build_extend(j->rt, c, t->annex))
        lenses_ask_again(t->lens);
    annex_release(t->annex);
    *t = (struct api_task){0};
}
