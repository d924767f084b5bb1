/* api_saved.c - /v1/corpora/{c}/queries: save, list, look, fetch the gradient, delete. Running one
 * is api_query.c's, with saved=NAME. */
#include "server/api.h"

#include <string.h>
#include <time.h>

#include "index/vec.h"
#include "server/ingest.h"
#include "server/json.h"
#include "server/limits.h"
#include "server/runtime.h"
#include "server/safetensors.h"
#include "server/saved.h"

enum { PAGE_DEFAULT = 100 };

static const char field[] = "gradient";

/* ---- an entry as JSON ------------------------------------------------------------------------ */

static void put_entry(struct buf *b, const char *name, const struct saved *x)
{
    time_t seconds = (time_t)x->created;
    char created[32] = "";
    struct tm when;

    if (gmtime_r(&seconds, &when))
        strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", &when);
    buf_format(b, "{\"name\":\"%s\",\"dim\":%u,\"created\":\"%s\",", name, (unsigned)x->dim,
               created);
    buf_add(b, x->text + 1, x->text_len - 1); /* its members, and the closing brace */
}

/* ---- PUT ------------------------------------------------------------------------------------- */

struct saving {
    float *gradient;
    uint32_t corpus, dim;
    struct buf text; /* freed by saved_put_finish */
    bool created;
};

int saved_parse(struct job *j)
{
    int code = api_parse_corpus(j);

    return code ? code : api_check_name(j, "query", j->path[1]);
}

static int check_tags(const json_t *tags, struct err *e)
{
    bool good = json_is_array(tags) && json_array_size(tags) <= LIMIT_SAVED_TAGS;

    for (size_t i = 0; good && i < json_array_size(tags); i++) {
        size_t len = json_string_length(json_array_get(tags, i));

        good = json_is_string(json_array_get(tags, i)) && len >= 1 && len <= STORE_NAME_MAX;
    }
    if (good)
        return 0;
    err_set(e, ERR_INVALID, "member tags: up to %u strings of 1 to %d bytes", LIMIT_SAVED_TAGS,
            STORE_NAME_MAX);
    err_at_field(e, "tags");
    return err_at_limit(e, LIMIT_SAVED_TAGS);
}

/* The entry's text in canonical form: every member there, null where nothing was given. */
static int read_members(const json_t *body, struct buf *out, struct err *e)
{
    static const char *const texts[] = {"prompt", "target", "output"};
    const json_t *tags = json_object_get(body, "tags"), *methods = json_object_get(body, "methods");
    const char *text;
    int code = tags ? check_tags(tags, e) : 0;

    buf_add(out, "{", 1);
    for (size_t i = 0; !code && i < 3; i++) {
        text = NULL;
        code = json_get_text(body, texts[i], LIMIT_SAVED_BYTES, &text, e);
        buf_format(out, "\"%s\":", texts[i]);
        if (text)
            json_put_text(out, text, strlen(text));
        else
            buf_add_text(out, "null");
        buf_add(out, ",", 1);
    }
    if (code)
        return code;
    buf_add_text(out, "\"tags\":");
    if (tags)
        json_put_canonical(out, tags);
    else
        buf_add_text(out, "[]");
    buf_add_text(out, ",\"methods\":");
    if (methods)
        json_put_canonical(out, methods);
    else
        buf_add_text(out, "null");
    buf_add(out, "}", 1);
    if (out->failed)
        return err_set(e, ERR_BUSY, "no memory for a saved query");
    if (out->len <= LIMIT_SAVED_BYTES)
        return 0;
    err_set(e, ERR_TOO_LARGE, "a saved query of %zu bytes without its gradient; at most %u",
            out->len, LIMIT_SAVED_BYTES);
    return err_at_limit(e, LIMIT_SAVED_BYTES);
}

static int read_numbers(const json_t *list, struct saving *s, struct err *e)
{
    if (!json_is_array(list)) {
        err_set(e, ERR_INVALID, "member gradient: %s",
                list ? "must be an array of numbers" : "missing");
        return err_at_field(e, field);
    }
    if (json_array_size(list) != s->dim) {
        err_set(e, ERR_WRONG_DIM, "member gradient: %zu elements, the corpus has %u",
                json_array_size(list), (unsigned)s->dim);
        err_at_field(e, field);
        return err_at_limit(e, s->dim);
    }
    for (size_t i = 0; i < s->dim; i++) {
        if (!json_is_number(json_array_get(list, i))) {
            err_set(e, ERR_INVALID, "member gradient, element %zu: must be a number", i);
            return err_at_field(e, field);
        }
        s->gradient[i] = (float)json_number_value(json_array_get(list, i));
    }
    return 0;
}

static int read_json(struct job *j, struct saving *s)
{
    static const char *const members[] = {"prompt", "target",  "output", "tags",
                                          "methods", "gradient", NULL};
    json_t *body = NULL;
    int code = json_read_object(j->body, j->body_len, JSON_CONTROL, &body, &j->err);

    if (!code)
        code = json_only(body, members, &j->err);
    if (!code)
        code = read_numbers(json_object_get(body, field), s, &j->err);
    if (!code)
        code = read_members(body, &s->text, &j->err);
    if (body)
        json_decref(body);
    return code;
}

static int read_query_tensor(struct job *j, const struct safetensor *t, struct saving *s)
{
    static const char *const members[] = {"prompt", "target", "output", "tags", "methods", NULL};
    json_t *query = NULL;
    int code;

    if (strcmp(t->dtype, "U8") != 0 || t->rank != 1) {
        err_set(&j->err, ERR_WRONG_DTYPE, "tensor query: %s of rank %zu; a U8 vector holds JSON",
                t->dtype, t->rank);
        return err_at_field(&j->err, "query");
    }
    code = json_read_object(t->data, t->bytes, JSON_CONTROL, &query, &j->err);
    if (!code)
        code = json_only(query, members, &j->err);
    if (!code)
        code = read_members(query, &s->text, &j->err);
    if (query)
        json_decref(query);
    return code;
}

static int read_tensors(struct job *j, const struct corpus *c, struct saving *s)
{
    static const char *const names[] = {"gradient", "query", NULL};
    const struct safetensor *g = NULL, *q = NULL;
    struct safetensor row;
    struct safetensors st;
    enum dtype type = DTYPE_F32;
    size_t rows;
    int code = safetensors_read(j->body, j->body_len, &j->arena, &st, &j->err);

    if (!code)
        code = safetensors_only(&st, names, &j->err);
    if (!code)
        code = safetensors_find(&st, field, &g, &j->err);
    if (!code)
        code = safetensors_find(&st, "query", &q, &j->err);
    if (!code)
        code = ingest_check_fingerprint(c, st.fingerprint, &j->err);
    if (code)
        return code;
    row = *g;
    if (row.rank == 1) { /* one vector is a matrix of one row */
        row.rank = 2;
        row.shape[1] = row.shape[0];
        row.shape[0] = 1;
    }
    code = safetensors_rows(&row, s->dim, 1, &rows, &type, &j->err);
    if (code)
        return code;
    vec_widen(row.data, type, s->dim, s->gradient);
    return read_query_tensor(j, q, s);
}

/* It must have a direction; stored is what was given. */
static int check_gradient(struct job *j, const struct saving *s)
{
    float *unit = arena_big(&j->arena, s->dim, sizeof *unit);
    float *scratch = arena_big(&j->arena, s->dim, sizeof *scratch);
    double norm;

    if (!unit || !scratch)
        return err_set(&j->err, ERR_BUSY, "no memory for a gradient");
    return vec_normalise(s->gradient, DTYPE_F32, s->dim, DTYPE_F32, unit, &norm, scratch, field, 0,
                         &j->err);
}

static int check_size(const struct saving *s, struct err *e)
{
    uint64_t bytes = (uint64_t)s->dim * sizeof(float);

    if (bytes <= LIMIT_SAVED_GRADIENT)
        return 0;
    err_set(e, ERR_TOO_LARGE, "a gradient of %u elements; at most %u can be saved",
            (unsigned)s->dim, LIMIT_SAVED_GRADIENT / 4);
    err_at_field(e, field);
    return err_at_limit(e, LIMIT_SAVED_GRADIENT / 4);
}

int saved_put_work(struct job *j)
{
    struct saving *s = arena_new(&j->arena, 1, sizeof *s);
    struct corpus *c = NULL;
    int code = api_corpus(j, &c);

    j->state = s;
    if (code)
        return code;
    s->corpus = corpus_id(c);
    s->dim = corpus_def(c)->dim;
    code = check_size(s, &j->err);
    if (!code) {
        s->gradient = arena_big(&j->arena, s->dim, sizeof *s->gradient);
        if (!s->gradient)
            code = err_set(&j->err, ERR_BUSY, "no memory for a gradient");
    }
    if (!code)
        code = ingest_check_fingerprint(c, j->fingerprint, &j->err);
    if (!code)
        code = api_body_is_json(j) ? read_json(j, s) : read_tensors(j, c, s);
    if (!code)
        code = check_gradient(j, s);
    corpus_release(c);
    return code;
}

/* The corpus as it is now: it may have been dropped while the body was read. */
static int current_corpus(struct job *j, uint32_t *out)
{
    struct corpus *c = NULL;
    int code = api_corpus(j, &c);

    if (code)
        return code;
    *out = corpus_id(c);
    corpus_release(c);
    return 0;
}

static int save(struct job *j, struct saving *s)
{
    struct saved entry;
    struct buf record = {0};
    uint32_t corpus = 0;
    int code = current_corpus(j, &corpus);

    if (!code && corpus != s->corpus)
        code = err_set(&j->err, ERR_UNKNOWN_CORPUS, "corpus \"%s\" was made anew", j->path[0]);
    if (!code)
        code = saved_put(j->rt->store, corpus, j->path[1], (const char *)s->text.data, s->text.len,
                         s->gradient, s->dim, &s->created, &j->err);
    if (!code)
        code = saved_get(j->rt->store, corpus, j->path[1], &record, &entry, &j->err);
    if (!code)
        put_entry(&j->reply_body, j->path[1], &entry);
    buf_free(&record);
    return code ? code : api_body_done(j);
}

void saved_put_commit(struct job *const *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!job_stopped(jobs[i]))
            save(jobs[i], jobs[i]->state);
}

int saved_put_reply(struct job *j)
{
    const struct saving *s = j->state;

    j->status = s->created ? 201 : 200;
    j->reply_location =
        arena_format(&j->arena, "/v1/corpora/%s/queries/%s", j->path[0], j->path[1]);
    return 0;
}

void saved_put_finish(struct job *j)
{
    struct saving *s = j->state;

    if (s)
        buf_free(&s->text);
}

/* ---- GET ------------------------------------------------------------------------------------- */

int saved_get_work(struct job *j)
{
    struct buf record = {0};
    struct saved entry;
    uint32_t corpus = 0;
    int code = current_corpus(j, &corpus);

    if (!code)
        code = saved_get(j->rt->store, corpus, j->path[1], &record, &entry, &j->err);
    if (!code)
        put_entry(&j->reply_body, j->path[1], &entry);
    buf_free(&record);
    return code ? api_seen(j, code) : api_body_done(j);
}

/* As a body that query takes. */
int saved_gradient_work(struct job *j)
{
    struct safetensors_spec spec = {.name = "queries", .dtype = "F32", .rank = 2};
    struct buf record = {0}, gradient = {0};
    struct saved entry;
    uint32_t corpus = 0;
    int code = current_corpus(j, &corpus);

    if (!code)
        code = saved_get(j->rt->store, corpus, j->path[1], &record, &entry, &j->err);
    if (!code)
        code = saved_gradient(j->rt->store, corpus, j->path[1], &entry, &gradient, &j->err);
    if (!code) {
        spec.shape[0] = 1;
        spec.shape[1] = entry.dim;
        spec.bytes = gradient.len;
        safetensors_header(&j->reply_body, &spec, 1, NULL, 0);
        buf_add(&j->reply_body, gradient.data, gradient.len);
        j->reply_type = "application/vnd.safetensors";
    }
    buf_free(&record);
    buf_free(&gradient);
    return code ? api_seen(j, code) : api_body_done(j);
}

struct listing {
    uint64_t limit;
    const char *after, *tag;
    struct buf *out;
    size_t count;
    char last[STORE_NAME_MAX + 1];
    bool more;
};

int saved_list_parse(struct job *j)
{
    static const char *const names[] = {"after", "limit", "tag", NULL};
    struct listing *l = arena_new(&j->arena, 1, sizeof *l);
    int code = job_query_only(j, names);

    j->state = l;
    l->after = job_query(j, "after");
    l->tag = job_query(j, "tag");
    l->out = &j->reply_body;
    if (!code)
        code = api_check_name(j, "corpus", j->path[0]);
    if (!code)
        code = job_query_number(j, "limit", PAGE_DEFAULT, 1, LIMIT_PAGE, &l->limit);
    if (!code && l->after)
        code = api_check_name(j, "after", l->after);
    return code;
}

static bool has_tag(const struct saved *x, const char *tag)
{
    json_t *entry = json_loadb(x->text, x->text_len, 0, NULL);
    const json_t *tags = json_object_get(entry, "tags");
    bool found = false;

    for (size_t i = 0; !found && i < json_array_size(tags); i++)
        found = strcmp(json_string_value(json_array_get(tags, i)), tag) == 0;
    json_decref(entry);
    return found;
}

static bool list_entry(void *arg, const char *name, const struct saved *entry)
{
    struct listing *l = arg;

    if ((l->after && strcmp(name, l->after) <= 0) || (l->tag && !has_tag(entry, l->tag)))
        return true;
    if (l->count == l->limit || l->out->len > LIMIT_PAGE_BYTES) {
        l->more = true;
        return false;
    }
    if (l->count++)
        buf_add(l->out, ",", 1);
    put_entry(l->out, name, entry);
    memcpy(l->last, name, strlen(name) + 1);
    return true;
}

int saved_list_work(struct job *j)
{
    struct listing *l = j->state;
    uint32_t corpus = 0;
    int code = current_corpus(j, &corpus);

    if (code)
        return code;
    buf_add_text(l->out, "{\"queries\":[");
    code = saved_each(j->rt->store, corpus, list_entry, l, &j->err);
    if (l->more)
        buf_format(l->out, "],\"next\":\"%s\"}", l->last);
    else
        buf_add_text(l->out, "],\"next\":null}");
    return code ? api_seen(j, code) : api_body_done(j);
}

/* ---- DELETE ---------------------------------------------------------------------------------- */

int saved_delete_work(struct job *j)
{
    uint32_t corpus;

    return current_corpus(j, &corpus);
}

void saved_delete_commit(struct job *const *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct job *j = jobs[i];
        uint32_t corpus;

        if (!job_stopped(j) && !current_corpus(j, &corpus))
            saved_delete(j->rt->store, corpus, j->path[1], &j->err);
    }
}
