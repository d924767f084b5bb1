/* query.c - queries and their typed answers; every score of a corpus, streamed. */
#include "client/inner.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- The answer ------------------------------------------------------------------------------- */

static void hits_free(struct asc_hit *list, size_t count)
{
    for (size_t i = 0; list && i < count; i++) {
        free(list[i].id);
        free(list[i].text);
        free(list[i].meta);
        for (size_t b = 0; b < list[i].block_count; b++)
            free(list[i].blocks[b].block);
        free(list[i].blocks);
    }
    free(list);
}

static void groups_free(struct asc_group *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(list[i].value);
    free(list);
}

static int fill_blocks(const json_t *all, struct asc_hit *h, struct asc_error *e)
{
    size_t count = json_array_size(all);

    if (!all)
        return 0;
    h->blocks = calloc(count + 1, sizeof *h->blocks);
    if (!h->blocks)
        return asc__no_memory(e, count * sizeof *h->blocks);
    h->block_count = count;
    for (size_t i = 0; i < count; i++) {
        h->blocks[i].block = asc__json_copy(json_array_get(all, i), "name", NULL);
        h->blocks[i].share = asc__json_real(json_array_get(all, i), "share", 0);
        if (!h->blocks[i].block)
            return asc__json_missing(e, "query", "blocks.name");
    }
    return 0;
}

static void fill_sums(const json_t *o, struct asc_group *g)
{
    g->count = asc__json_u64(o, "count");
    g->sum = asc__json_real(o, "sum", 0);
    g->mean = asc__json_real(o, "mean", 0);
}

static int fill_groups(const json_t *result, struct asc_result *to, struct asc_error *e)
{
    const json_t *all = json_object_get(result, "groups"),
                 *rest = json_object_get(result, "groups_other");
    size_t count = json_array_size(all);

    if (!all)
        return 0;
    to->groups = calloc(count + 2, sizeof *to->groups);
    if (!to->groups)
        return asc__no_memory(e, count * sizeof *to->groups);
    for (size_t i = 0; i < count; i++) {
        struct asc_group *g = &to->groups[to->group_count++];

        fill_sums(json_array_get(all, i), g);
        g->value = json_dumps(json_object_get(json_array_get(all, i), "value"),
                              JSON_COMPACT | JSON_ENCODE_ANY);
        if (!g->value)
            return asc__json_missing(e, "query", "groups.value");
    }
    if (json_is_object(rest))
        fill_sums(rest, &to->groups[to->group_count++]);
    return 0;
}

static int fill_hit(const json_t *o, struct asc_hit *h, struct asc_error *e)
{
    if (!json_is_string(json_object_get(o, "id")))
        return asc__json_missing(e, "query", "id");
    if (!json_is_number(json_object_get(o, "score")))
        return asc__json_missing(e, "query", "score");
    h->score = asc__json_real(o, "score", 0);
    h->rank = (uint32_t)asc__json_u64(o, "rank");
    h->sequence = asc__json_u64(o, "sequence");
    h->id = asc__json_copy(o, "id", NULL);
    h->text = asc__json_copy(o, "text", &h->text_len);
    h->meta = asc__json_dump(o, "meta");
    if (!h->id || (!h->text && json_is_string(json_object_get(o, "text"))) ||
        (!h->meta && json_is_object(json_object_get(o, "meta"))))
        return asc__no_memory(e, 4096);
    h->text_damaged = json_object_get(o, "damaged") != NULL;
    h->percentile = asc__json_real(o, "percentile", -1);
    return fill_blocks(json_object_get(o, "blocks"), h, e);
}

static int fill_hits(const json_t *all, struct asc_hit **out, size_t *out_count,
                     struct asc_error *e)
{
    size_t count = json_array_size(all);
    int rc = 0;

    *out = calloc(count + 1, sizeof **out);
    if (!*out)
        return asc__no_memory(e, count * sizeof **out);
    *out_count = count;
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = fill_hit(json_array_get(all, i), &(*out)[i], e);
    return rc;
}

static int fill_answer(const json_t *o, struct asc_answer *a, struct asc_error *e)
{
    const json_t *all = json_object_get(o, "results"), *read = json_object_get(o, "read");
    size_t count = json_array_size(all);
    int rc = 0;

    if (!json_is_array(all))
        return asc__json_missing(e, "query", "results");
    a->results = calloc(count + 1, sizeof *a->results);
    if (!a->results)
        return asc__no_memory(e, count * sizeof *a->results);
    a->count = count;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const json_t *r = json_array_get(all, i);
        struct asc_result *to = &a->results[i];

        rc = fill_hits(json_object_get(r, "proponents"), &to->proponents, &to->proponent_count, e);
        if (rc == 0)
            rc = fill_hits(json_object_get(r, "opponents"), &to->opponents, &to->opponent_count, e);
        if (rc == 0)
            rc = fill_groups(r, to, e);
    }
    asc__json_word(o, "exact", a->exact, sizeof a->exact);
    asc__json_word(o, "engine", a->engine, sizeof a->engine);
    a->examples = asc__json_u64(o, "examples");
    a->generation = asc__json_u64(o, "generation");
    a->delta = asc__json_real(o, "delta", 0);
    a->rows_proposed = asc__json_u64(read, "proposed");
    a->rows_exact = asc__json_u64(read, "exact");
    a->rows_bits = asc__json_u64(read, "bits");
    a->rows_six = asc__json_u64(read, "six");
    a->rows_low = asc__json_u64(read, "low");
    a->took_ms = asc__json_real(o, "took_ms", 0);
    return rc ? rc : asc__damage_fill(o, &a->damage, e);
}

int asc__answer_of_search(const json_t *o, struct asc_answer *a, struct asc_error *e)
{
    const json_t *all = json_object_get(o, "results");
    int rc;

    if (!json_is_array(all))
        return asc__json_missing(e, "search", "results");
    a->results = calloc(1, sizeof *a->results);
    if (!a->results)
        return asc__no_memory(e, sizeof *a->results);
    a->count = 1;
    a->examples = asc__json_u64(o, "examples");
    a->generation = asc__json_u64(o, "generation");
    a->matches = asc__json_u64(o, "matches");
    a->indexed_through = asc__json_u64(o, "indexed_through");
    a->missing = asc__json_u64(o, "missing");
    a->took_ms = asc__json_real(o, "took_ms", 0);
    rc = fill_hits(all, &a->results->proponents, &a->results->proponent_count, e);
    return rc ? rc : asc__damage_fill(o, &a->damage, e);
}

void asc_answer_free(struct asc_answer *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->count; i++) {
        hits_free(a->results[i].proponents, a->results[i].proponent_count);
        hits_free(a->results[i].opponents, a->results[i].opponent_count);
        groups_free(a->results[i].groups, a->results[i].group_count);
    }
    asc__damage_clear(&a->damage);
    free(a->results);
    free(a->json);
    free(a);
}

/* --- Asking ----------------------------------------------------------------------------------- */

static void add_text(struct asc__buf *path, const char *name, const char *value)
{
    if (!value)
        return;
    asc__buf_format(path, "&%s=", name);
    asc__buf_escape(path, value);
}

static int query_path(struct asc__buf *path, const char *corpus, const struct asc_query *q,
                      struct asc_error *e)
{
    int rc = asc__corpus_path(path, corpus, "/query", e);

    if (rc != 0)
        return rc;
    asc__buf_format(path, "?k=%u&opponents=%u&text=%d", q->k, q->opponents, q->no_text ? 0 : 1);
    add_text(path, "engine", q->engine);
    add_text(path, "task", q->task);
    add_text(path, "filter", q->filter);
    add_text(path, "saved", q->saved);
    add_text(path, "like", q->like);
    add_text(path, "group", q->group);
    add_text(path, "score", q->score);
    add_text(path, "precision", q->precision);
    if (q->delta != 0)
        asc__buf_format(path, "&delta=%.17g", q->delta);
    asc__buf_text(path, q->blocks ? "&blocks=1" : "");
    asc__buf_text(path, q->percentile ? "&percentile=1" : "");
    return path->failed ? asc__no_memory(e, path->len) : 0;
}

/* Sends the query's vectors to a path; the answer goes to `reply` or to the request's sink. */
static int send_query(struct asc_client *c, struct asc__request *r, const struct asc_query *q,
                      struct asc__reply *reply, struct asc_error *e)
{
    struct asc__body body = {0};
    bool named = q->saved || q->like;
    int rc = named ? 0 : asc__body_of_query(q, &body, e);

    if (rc == 0) {
        r->method = "POST";
        r->content_type = named ? NULL : "application/vnd.safetensors";
        r->body = named ? NULL : &body;
        r->fingerprint = q->body ? q->fingerprint : NULL; /* else it is inside the file */
        r->retry = ASC__RETRY_SAFE;                       /* a query changes nothing */
        rc = asc__perform(c, r, reply, e);
    }
    asc__body_free(&body);
    return rc;
}

int asc_query(struct asc_client *c, const char *corpus, const struct asc_query *q,
              struct asc_answer **out, struct asc_error *e)
{
    struct asc__request r = {0};
    struct asc__reply reply = {0};
    struct asc__buf path = {0};
    struct asc_answer *a = calloc(1, sizeof *a);
    json_t *o = NULL;
    int rc = a ? query_path(&path, corpus, q, e) : asc__no_memory(e, sizeof *a);

    if (rc == 0) {
        r.path = path.data;
        rc = send_query(c, &r, q, &reply, e);
    }
    if (rc == 0)
        rc = asc__json_parse(reply.data, reply.len, &o, e);
    if (rc == 0)
        rc = fill_answer(o, a, e);
    json_decref(o);
    asc__buf_free(&path);
    if (rc != 0) {
        free(reply.data);
        asc_answer_free(a);
        return rc;
    }
    a->json = reply.data;
    a->json_len = reply.len;
    *out = a;
    return 0;
}

/* --- Every score ------------------------------------------------------------------------------ */

/* A stream that the server breaks off is a broken connection (chunked, or shorter than its length);
 * asc_scores_save reads the whole file's header besides. */
struct stream {
    int (*sink)(void *user, const void *bytes, size_t len);
    void *user;
    uint64_t seen;
};

static int pass_on(void *user, const void *bytes, size_t len)
{
    struct stream *s = user;

    s->seen += len;
    return s->sink(s->user, bytes, len);
}

int asc_scores(struct asc_client *c, const char *corpus, const struct asc_query *q,
               enum asc_dtype dtype, int (*sink)(void *user, const void *bytes, size_t len),
               void *user, struct asc_error *e)
{
    struct stream s = {sink, user, 0};
    struct asc__request r = {.sink = pass_on, .user = &s};
    struct asc__reply reply = {0};
    struct asc__buf path = {0};
    int rc;

    if (dtype != ASC_F32 && dtype != ASC_F64)
        return asc__fail(e, ASC_ARGUMENT, "wrong_dtype", "scores are F32 or F64");
    rc = asc__corpus_path(&path, corpus,
                          dtype == ASC_F64 ? "/scores?dtype=f64" : "/scores?dtype=f32", e);
    if (rc == 0) {
        add_text(&path, "task", q->task);
        add_text(&path, "filter", q->filter);
        add_text(&path, "score", q->score);
        rc = path.failed ? asc__no_memory(e, path.len) : 0;
    }
    if (rc == 0) {
        r.path = path.data;
        rc = send_query(c, &r, q, &reply, e);
    }
    if (rc == 0 && s.seen < 8)
        rc = asc__fail(e, ASC_PROTOCOL, "bad_answer",
                       "scores: %llu bytes are not a safetensors file",
                       (unsigned long long)s.seen);
    free(reply.data);
    asc__buf_free(&path);
    return rc;
}

struct saving {
    struct asc__save file;
    struct asc_error error;
    int rc;
};

static int save_piece(void *user, const void *bytes, size_t len)
{
    struct saving *s = user;

    s->rc = asc__save_write(&s->file, bytes, len, &s->error);
    return s->rc;
}

/* The whole file must stand before it gets its name. */
static int check_saved(const char *path, struct asc_error *e)
{
    struct asc__tensors t;
    uint64_t size;
    int fd = asc__file_open(path, &size, e), rc = fd < 0 ? ASC_INPUT : 0;

    if (rc == 0)
        rc = asc__tensors_read(fd, size, &t, e);
    if (rc == 0)
        asc__tensors_free(&t);
    else if (e)
        e->status = ASC_PROTOCOL; /* the file is the server's */
    if (fd >= 0)
        close(fd);
    return rc ? ASC_PROTOCOL : 0;
}

int asc_scores_save(struct asc_client *c, const char *corpus, const struct asc_query *q,
                    enum asc_dtype dtype, const char *path, struct asc_error *e)
{
    struct saving s = {0};
    int rc = asc__save_open(&s.file, path, e);

    if (rc != 0)
        return rc;
    rc = asc_scores(c, corpus, q, dtype, save_piece, &s, e);
    if (rc == ASC_ABORTED && s.rc != 0) { /* it was the disk that stopped it */
        rc = s.rc;
        if (e)
            *e = s.error;
    }
    if (rc == 0)
        rc = check_saved(s.file.temporary, e);
    return asc__save_close(&s.file, rc, e);
}
