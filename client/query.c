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
    }
    free(list);
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
    return 0;
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
    const json_t *all = json_object_get(o, "results"), *work = json_object_get(o, "work");
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
    }
    asc__json_word(o, "exact", a->exact, sizeof a->exact);
    asc__json_word(o, "engine", a->engine, sizeof a->engine);
    a->examples = asc__json_u64(o, "examples");
    a->generation = asc__json_u64(o, "generation");
    a->rows_proposed = asc__json_u64(work, "rows_proposed");
    a->rows_exact = asc__json_u64(work, "rows_exact");
    a->took_ms = asc__json_real(o, "took_ms", 0);
    return rc;
}

void asc_answer_free(struct asc_answer *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->count; i++) {
        hits_free(a->results[i].proponents, a->results[i].proponent_count);
        hits_free(a->results[i].opponents, a->results[i].opponent_count);
    }
    free(a->results);
    free(a->json);
    free(a);
}

/* --- Asking ----------------------------------------------------------------------------------- */

static int query_path(struct asc__buf *path, const char *corpus, const struct asc_query *q,
                      struct asc_error *e)
{
    int rc = asc__corpus_path(path, corpus, "/query", e);

    if (rc != 0)
        return rc;
    asc__buf_format(path, "?k=%u&opponents=%u&text=%d", q->k, q->opponents, q->no_text ? 0 : 1);
    if (q->engine) {
        asc__buf_text(path, "&engine=");
        asc__buf_escape(path, q->engine);
    }
    if (q->task) {
        asc__buf_text(path, "&task=");
        asc__buf_escape(path, q->task);
    }
    return path->failed ? asc__no_memory(e, path->len) : 0;
}

/* Sends the query's vectors to a path; the answer goes to `reply` or to the request's sink. */
static int send_query(struct asc_client *c, struct asc__request *r, const struct asc_query *q,
                      struct asc__reply *reply, struct asc_error *e)
{
    struct asc__body body;
    int rc = asc__body_of_query(q, &body, e);

    if (rc == 0) {
        r->method = "POST";
        r->content_type = "application/vnd.safetensors";
        r->body = &body;
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
    if (rc == 0 && q->task) {
        asc__buf_text(&path, "&task=");
        asc__buf_escape(&path, q->task);
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
