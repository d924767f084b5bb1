/* encoder.c - the program behind the server that turns text into gradients: its state, what its
 * model says, questions as gradients, and which tokens a score comes from. */
#include "client/inner.h"

#include <stdlib.h>
#include <string.h>

/* One POST; rc as far as path and body went. Takes both. An encoder is slow and asked once: what it
 * may have begun is not sent again. */
static int post(struct asc_client *c, struct asc__buf *path, const char *type,
                const struct asc__body *body, struct asc__reply *out, struct asc_error *e)
{
    struct asc__request r = {.method = "POST",
                             .path = path->data,
                             .content_type = type,
                             .body = body,
                             .retry = ASC__RETRY_UNSENT};

    return path->failed ? asc__no_memory(e, path->len) : asc__perform(c, &r, out, e);
}

static int post_json(struct asc_client *c, const char *where, struct asc__buf *json,
                     struct asc__reply *out, struct asc_error *e)
{
    struct asc__buf path = {0};
    struct asc__body body = {0};
    int rc = 0;

    if (json->failed)
        rc = asc__fail(e, ASC_ARGUMENT, "bad_utf8",
                       "a text is not UTF-8, or there is no memory for it");
    asc__buf_text(&path, where);
    if (rc == 0) {
        asc__body_part(&body, json->data, json->len);
        rc = post(c, &path, "application/json", &body, out, e);
    }
    asc__body_free(&body);
    asc__buf_free(&path);
    return rc;
}

static void put(struct asc__buf *json, const char *name, const char *text)
{
    asc__buf_format(json, "%s\"%s\":", json->len ? "," : "{", name);
    asc__buf_json(json, text);
}

int asc_encoder_get(struct asc_client *c, char **out_json, struct asc_error *e)
{
    struct asc__request r = {
        .method = "GET", .path = "/v1/encoder", .retry = ASC__RETRY_SAFE};
    struct asc__reply reply = {0};
    int rc = asc__perform(c, &r, &reply, e);

    if (rc == 0)
        *out_json = reply.data;
    return rc;
}

int asc_continue(struct asc_client *c, const char *prompt, unsigned tokens, char **out,
                 size_t *out_len, struct asc_error *e)
{
    struct asc__buf json = {0};
    struct asc__reply reply = {0};
    json_t *o = NULL;
    int rc;

    put(&json, "prompt", prompt);
    asc__buf_format(&json, ",\"tokens\":%u}", tokens ? tokens : 8);
    rc = post_json(c, "/v1/encoder/continue", &json, &reply, e);
    if (rc == 0)
        rc = asc__json_parse(reply.data, reply.len, &o, e);
    if (rc == 0 && !json_is_string(json_object_get(o, "output")))
        rc = asc__json_missing(e, "continue", "output");
    if (rc == 0) {
        *out = asc__json_copy(o, "output", out_len);
        rc = *out ? 0 : asc__no_memory(e, 4096);
    }
    json_decref(o);
    free(reply.data);
    asc__buf_free(&json);
    return rc;
}

int asc_encode(struct asc_client *c, const char *prompt, const char *target, void **out,
               size_t *out_len, struct asc_error *e)
{
    struct asc__buf json = {0};
    struct asc__reply reply = {0};
    int rc;

    put(&json, "prompt", prompt);
    put(&json, "target", target);
    asc__buf_text(&json, "}");
    rc = post_json(c, "/v1/encoder/encode", &json, &reply, e);
    asc__buf_free(&json);
    if (rc == 0) {
        *out = reply.data;
        *out_len = reply.len;
    }
    return rc;
}

/* ---- explain --------------------------------------------------------------------------------- */

static int explain_path(struct asc__buf *path, const char *corpus, const char *id,
                        const struct asc_query *q, struct asc_error *e)
{
    int rc = asc__corpus_path(path, corpus, "/examples/", e);

    if (rc == 0 && (!id || !*id))
        rc = asc__fail(e, ASC_ARGUMENT, "bad_id", "an example's id is missing");
    if (rc != 0)
        return rc;
    asc__buf_escape(path, id);
    asc__buf_format(path, "/explain?score=%s", q->score ? q->score : "cosine");
    if (q->task) {
        asc__buf_text(path, "&task=");
        asc__buf_escape(path, q->task);
    }
    if (q->saved) {
        asc__buf_text(path, "&saved=");
        asc__buf_escape(path, q->saved);
    }
    return path->failed ? asc__no_memory(e, path->len) : 0;
}

static int fill(const json_t *o, struct asc_explanation *x, struct asc_error *e)
{
    const json_t *tokens = json_object_get(o, "tokens");
    const size_t count = json_array_size(tokens);

    if (!json_is_array(tokens) || !json_is_number(json_object_get(o, "sum")))
        return asc__json_missing(e, "explain", "tokens");
    x->score = asc__json_real(o, "score", 0);
    x->sum = asc__json_real(o, "sum", 0);
    x->tokens = calloc(count + 1, sizeof *x->tokens);
    if (!x->tokens)
        return asc__no_memory(e, count * sizeof *x->tokens);
    for (x->count = 0; x->count < count; x->count++) {
        const json_t *t = json_array_get(tokens, x->count);
        struct asc_token *to = &x->tokens[x->count];

        to->text = asc__json_copy(t, "text", &to->text_len);
        if (!to->text)
            return asc__json_missing(e, "explain", "tokens.text");
        to->from = asc__json_u64(t, "from");
        to->to = asc__json_u64(t, "to");
        to->score = asc__json_real(t, "score", 0);
    }
    return 0;
}

int asc_explain(struct asc_client *c, const char *corpus, const char *id,
                const struct asc_query *q, struct asc_explanation *out, struct asc_error *e)
{
    struct asc__buf path = {0};
    struct asc__body body = {0};
    struct asc__reply reply = {0};
    struct asc_explanation x = {0};
    json_t *o = NULL;
    int rc = explain_path(&path, corpus, id, q, e);

    if (rc == 0 && !q->saved)
        rc = asc__body_of_query(q, &body, e);
    if (rc == 0)
        rc = post(c, &path, q->saved ? NULL : "application/vnd.safetensors",
                  q->saved ? NULL : &body, &reply, e);
    if (rc == 0)
        rc = asc__json_parse(reply.data, reply.len, &o, e);
    if (rc == 0)
        rc = fill(o, &x, e);
    json_decref(o);
    free(reply.data);
    asc__body_free(&body);
    asc__buf_free(&path);
    if (rc == 0)
        *out = x;
    else
        asc_explanation_clear(&x);
    return rc;
}

void asc_explanation_clear(struct asc_explanation *x)
{
    for (size_t i = 0; i < x->count; i++)
        free(x->tokens[i].text);
    free(x->tokens);
    *x = (struct asc_explanation){0};
}
