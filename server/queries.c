/* queries.c - see queries.h. */
#include "server/queries.h"

#include <string.h>

#include "server/api.h"
#include "server/encode.h"
#include "server/ingest.h"
#include "server/limits.h"
#include "server/runtime.h"
#include "server/safetensors.h"
#include "server/saved.h"

static const char field[] = "queries";

static int at_row(struct err *e, size_t row)
{
    err_at_field(e, field);
    return err_at_index(e, (int64_t)row);
}

static int reserve(struct job *j, struct queries *q, size_t dim)
{
    size_t total;

    if (mem_mul(q->count, dim, &total))
        q->vectors = arena_big(&j->arena, total, sizeof *q->vectors);
    if (!q->vectors)
        return err_set(&j->err, ERR_BUSY, "no memory for %zu queries of %zu elements", q->count,
                       dim);
    return 0;
}

/* `rows` is count x dim of type t, from the body; or q->vectors itself, float32. */
static int encode(struct job *j, const struct view *v, struct queries *q, const void *rows,
                  enum dtype t)
{
    struct stop stop = api_stop(j);
    struct encode k = {.in = rows,
                       .in_type = t,
                       .rows = q->count,
                       .dim = corpus_def(v->corpus)->dim,
                       .out_type = DTYPE_F32,
                       .out = q->vectors,
                       .field = field};
    int code = encode_whitening(v, &k.whiten, &j->err);

    k.norms = q->lengths = arena_big(&j->arena, q->count, sizeof *q->lengths);
    if (!code && !q->lengths)
        code = err_set(&j->err, ERR_BUSY, "no memory for %zu queries", q->count);
    return code ? code : api_stopped(j, encode_run(&k, j->rt->pool, &stop, &j->err));
}

static int read_tensors(struct job *j, const struct view *v, struct queries *q)
{
    static const char *const names[] = {field, NULL};
    const struct safetensor *t = NULL;
    struct safetensors st;
    size_t dim = corpus_def(v->corpus)->dim;
    enum dtype type = DTYPE_F32;
    int code = safetensors_read(j->body, j->body_len, &j->arena, &st, &j->err);

    if (!code)
        code = safetensors_only(&st, names, &j->err);
    if (!code)
        code = safetensors_find(&st, field, &t, &j->err);
    if (!code)
        code = ingest_check_fingerprint(v->corpus, st.fingerprint, &j->err);
    if (!code)
        code = safetensors_rows(t, dim, LIMIT_QUERIES, &q->count, &type, &j->err);
    if (!code)
        code = reserve(j, q, dim);
    return code ? code : encode(j, v, q, t->data, type);
}

static int check_row(const json_t *row, size_t i, size_t dim, struct err *e)
{
    if (!json_is_array(row)) {
        err_set(e, ERR_INVALID, "member queries, row %zu: must be an array of numbers", i);
        return at_row(e, i);
    }
    if (json_array_size(row) != dim) {
        err_set(e, ERR_WRONG_DIM, "member queries, row %zu: %zu elements, the corpus has %zu", i,
                json_array_size(row), dim);
        err_at_limit(e, (int64_t)dim);
        return at_row(e, i);
    }
    return 0;
}

/* A number past float32's range becomes infinity here and is refused by name when normalised. */
static int read_row(const json_t *row, size_t i, size_t dim, float *out, struct err *e)
{
    for (size_t k = 0; k < dim; k++) {
        const json_t *number = json_array_get(row, k);

        if (!json_is_number(number)) {
            err_set(e, ERR_INVALID, "member queries, row %zu, element %zu: must be a number", i, k);
            return at_row(e, i);
        }
        out[k] = (float)json_number_value(number);
    }
    return 0;
}

static int check_count(const json_t *rows, struct err *e)
{
    if (!json_is_array(rows)) {
        err_set(e, ERR_INVALID, "member queries: %s",
                rows ? "must be an array of rows" : "missing");
        return err_at_field(e, field);
    }
    if (json_array_size(rows) == 0) {
        err_set(e, ERR_INVALID, "member queries: no rows");
        err_at_field(e, field);
        return err_at_limit(e, 1);
    }
    if (json_array_size(rows) > LIMIT_QUERIES) {
        err_set(e, ERR_TOO_LARGE, "member queries: %zu rows; at most %u are taken",
                json_array_size(rows), LIMIT_QUERIES);
        err_at_field(e, field);
        return err_at_limit(e, LIMIT_QUERIES);
    }
    return 0;
}

static int read_rows(struct job *j, const struct view *v, struct queries *q)
{
    const json_t *rows = json_object_get(q->options, field);
    size_t dim = corpus_def(v->corpus)->dim;
    int code = check_count(rows, &j->err);

    q->count = json_array_size(rows);
    /* All shapes before memory is taken: so it is never more than the document has numbers. */
    for (size_t i = 0; !code && i < q->count; i++)
        code = check_row(json_array_get(rows, i), i, dim, &j->err);
    if (!code)
        code = reserve(j, q, dim);
    /* each row is overwritten by its own encoding */
    for (size_t i = 0; !code && i < q->count; i++)
        code = read_row(json_array_get(rows, i), i, dim, q->vectors + i * dim, &j->err);
    return code ? code : encode(j, v, q, q->vectors, DTYPE_F32);
}

static int read_saved(struct job *j, const struct view *v, const char *name, struct queries *q)
{
    uint32_t corpus = corpus_id(v->corpus);
    struct buf record = {0}, gradient = {0};
    struct saved entry;
    int code = api_check_name(j, "saved", name);

    if (!code)
        code = saved_get(j->rt->store, corpus, name, &record, &entry, &j->err);
    if (!code)
        code = saved_gradient(j->rt->store, corpus, name, &entry, &gradient, &j->err);
    q->count = 1;
    if (!code)
        code = reserve(j, q, corpus_def(v->corpus)->dim);
    if (!code) /* of the corpus's dim: checked when it was saved */
        memcpy(q->vectors, gradient.data, gradient.len);
    buf_free(&record);
    buf_free(&gradient);
    return code ? code : encode(j, v, q, q->vectors, DTYPE_F32);
}

static int both(struct err *e)
{
    err_set(e, ERR_INVALID, "a saved query and queries in the body: one of the two");
    return err_at_field(e, "saved");
}

static int read_json(struct job *j, const struct view *v, const char *const members[],
                     const char *saved, struct queries *q)
{
    int code = json_read_object(j->body, j->body_len, JSON_CONTROL, &q->options, &j->err);

    if (!code)
        code = json_only(q->options, members, &j->err);
    if (!code)
        code = json_get_text(q->options, "saved", STORE_NAME_MAX, &saved, &j->err);
    if (code || !saved)
        return code ? code : read_rows(j, v, q);
    if (json_object_get(q->options, field))
        return both(&j->err);
    return read_saved(j, v, saved, q);
}

int queries_read_saved(struct job *j, const struct view *v, const char *const members[],
                       const char *saved, struct queries *out)
{
    struct queries q = {0};
    int code = ingest_check_fingerprint(v->corpus, j->fingerprint, &j->err);

    if (!code && j->body_len == 0 && !saved)
        code = err_set(&j->err, ERR_LENGTH, "no body: send queries, or name a saved one");
    else if (!code && j->body_len == 0)
        code = read_saved(j, v, saved, &q);
    else if (!code && api_body_is_json(j))
        code = read_json(j, v, members, saved, &q);
    else if (!code)
        code = saved ? both(&j->err) : read_tensors(j, v, &q);
    if (code) {
        queries_free(&q);
        return code;
    }
    *out = q;
    return 0;
}

int queries_read(struct job *j, const struct view *v, const char *const members[],
                 struct queries *out)
{
    return queries_read_saved(j, v, members, NULL, out);
}

void queries_free(struct queries *q)
{
    if (q->options)
        json_decref(q->options);
    q->options = NULL;
}
