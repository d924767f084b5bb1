/* queries.c - see queries.h. */
#include "server/queries.h"

#include <string.h>

#include "index/vec.h"
#include "server/api.h"
#include "server/encode.h"
#include "server/examples.h"
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

/* Members that stand beside vectors: those of JSON, but what names vectors. */
static int read_tensor_options(struct job *j, const struct safetensors *st,
                               const char *const members[], struct queries *q)
{
    static const char *const others[] = {field, "saved", "like"};
    const struct safetensor *t = NULL;
    struct err none = ERR_INIT;
    int code;

    if (safetensors_find(st, "options", &t, &none))
        return 0; /* there are none */
    if (strcmp(t->dtype, "U8") != 0 || t->rank != 1) {
        err_set(&j->err, ERR_WRONG_DTYPE, "tensor options: %s of rank %zu; a U8 vector holds JSON",
                t->dtype, t->rank);
        return err_at_field(&j->err, "options");
    }
    code = json_read_object(t->data, t->bytes, JSON_CONTROL, &q->options, &j->err);
    if (code) {
        err_wrap(&j->err, "tensor options: ");
        return code;
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (json_object_get(q->options, others[i])) {
            err_set(&j->err, ERR_INVALID, "tensor options: member %s: the vectors are in the file",
                    others[i]);
            return err_at_field(&j->err, others[i]);
        }
    return json_only(q->options, members, &j->err);
}

static int read_tensors(struct job *j, const struct view *v, const char *const members[],
                        struct queries *q)
{
    static const char *const names[] = {field, "options", NULL};
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
        code = read_tensor_options(j, &st, members, q);
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

/* ---- an example of the corpus ---------------------------------------------------------------- */

/* Stored rows are encoded already: made good is only what a narrow type lost of their length. */
static int take_row(struct job *j, const struct view *v, size_t chunk, uint32_t row,
                    struct queries *q)
{
    const struct corpus_def *def = corpus_def(v->corpus);
    float *scratch = arena_big(&j->arena, def->dim, sizeof *scratch);
    struct block b;
    double unit;
    int code;

    if (!scratch)
        return err_set(&j->err, ERR_BUSY, "no memory for an example of %u elements", def->dim);
    code = block_open(&v->chunks[chunk], BLOCK_ROWS, &b, &j->err);
    if (code)
        return code;
    q->lengths[0] = block_row_norm(&b, row);
    block_close(&b);
    code = block_open_row(&v->chunks[chunk], row, &b, &j->err);
    if (code)
        return code;
    code = vec_normalise(b.bytes, (enum dtype)def->dtype, def->dim, DTYPE_F32, q->vectors, &unit,
                         scratch, "like", 0, &j->err);
    block_close(&b);
    return code;
}

/* An id that leads to no row of the view: it was taken down meanwhile, or its row is damaged. */
static int no_row(struct corpus *c, uint64_t sequence, const char *id, struct err *e)
{
    const struct view *all = corpus_view(c);
    size_t chunk;
    uint32_t row;

    if (view_locate(all, sequence, &chunk, &row, e))
        err_set(e, ERR_CORRUPT, "example \"%.128s\" of corpus %s is damaged", id,
                corpus_def(c)->name);
    else if (!e->code)
        err_set(e, ERR_UNKNOWN_EXAMPLE, "no example \"%.128s\" in corpus %s", id,
                corpus_def(c)->name);
    view_release(all);
    return err_at_field(e, "like");
}

static int read_like(struct job *j, const struct view *v, struct corpus *c, const char *id,
                     struct queries *q)
{
    uint64_t sequence = 0;
    size_t chunk;
    uint32_t row;
    int code = examples_check_id(id, strlen(id), &j->err);

    if (!code)
        code = corpus_find_id(c, id, strlen(id), &sequence, &j->err);
    if (code)
        return err_at_field(&j->err, "like");
    if (!view_locate(v, sequence, &chunk, &row, &j->err))
        return j->err.code ? (int)j->err.code : no_row(c, sequence, id, &j->err);
    q->count = 1;
    q->lengths = arena_new(&j->arena, 1, sizeof *q->lengths);
    code = reserve(j, q, corpus_def(v->corpus)->dim);
    return code ? code : take_row(j, v, chunk, row, q);
}

/* ---- which of them --------------------------------------------------------------------------- */

static int both(const char *name, struct err *e)
{
    err_set(e, ERR_INVALID, "queries in the body, a saved query, an example: one of them");
    return err_at_field(e, name);
}

static int read_named(struct job *j, const struct view *v, const struct queries_named *n,
                      struct queries *q)
{
    struct corpus *c = NULL;
    int code;

    if (n->saved && n->like)
        return both("like", &j->err);
    if (n->saved)
        return read_saved(j, v, n->saved, q);
    code = api_corpus(j, &c);
    if (code)
        return code;
    code = read_like(j, v, c, n->like, q);
    corpus_release(c);
    return code;
}

static int read_json(struct job *j, const struct view *v, const char *const members[],
                     const struct queries_named *named, struct queries *q)
{
    struct queries_named n = *named;
    int code = json_read_object(j->body, j->body_len, JSON_CONTROL, &q->options, &j->err);

    if (!code)
        code = json_only(q->options, members, &j->err);
    if (!code)
        code = json_get_text(q->options, "saved", STORE_NAME_MAX, &n.saved, &j->err);
    if (!code)
        code = json_get_text(q->options, "like", LIMIT_ID_BYTES, &n.like, &j->err);
    if (code || (!n.saved && !n.like))
        return code ? code : read_rows(j, v, q);
    if (json_object_get(q->options, field))
        return both(n.saved ? "saved" : "like", &j->err);
    return read_named(j, v, &n, q);
}

int queries_read_named(struct job *j, const struct view *v, const char *const members[],
                       const struct queries_named *named, struct queries *out)
{
    struct queries q = {0};
    bool any = named->saved || named->like;
    int code = ingest_check_fingerprint(v->corpus, j->fingerprint, &j->err);

    if (!code && j->body_len == 0 && !any)
        code = err_set(&j->err, ERR_LENGTH,
                       "no body: send queries, or name a saved one or an example");
    else if (!code && j->body_len == 0)
        code = read_named(j, v, named, &q);
    else if (!code && api_body_is_json(j))
        code = read_json(j, v, members, named, &q);
    else if (!code)
        code = any ? both(named->saved ? "saved" : "like", &j->err)
                   : read_tensors(j, v, members, &q);
    if (code) {
        queries_free(&q);
        return code;
    }
    *out = q;
    return 0;
}

int queries_read_saved(struct job *j, const struct view *v, const char *const members[],
                       const char *saved, struct queries *out)
{
    const struct queries_named named = {.saved = saved};

    return queries_read_named(j, v, members, &named, out);
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
