/* search.c - examples by words. */
#include "client/inner.h"

#include <stdlib.h>

static int body_of(const struct asc_search *s, struct asc__buf *b, struct asc_error *e)
{
    if (!s->text)
        return asc__fail(e, ASC_ARGUMENT, "no_text", "there is no text to search for");
    asc__buf_text(b, "{\"text\":");
    asc__buf_json(b, s->text);
    if (s->filter) {
        asc__buf_text(b, ",\"filter\":");
        asc__buf_json(b, s->filter);
    }
    asc__buf_format(b, ",\"k\":%u,\"texts\":%s}", s->k, s->no_text ? "false" : "true");
    return b->failed ? asc__fail(e, ASC_ARGUMENT, "bad_utf8", "the text or filter is not UTF-8, or "
                                 "there is no memory for it")
                     : 0;
}

int asc_search(struct asc_client *c, const char *corpus, const struct asc_search *search,
               struct asc_answer **out, struct asc_error *e)
{
    struct asc__request r = {
        .method = "POST", .content_type = "application/json", .retry = ASC__RETRY_SAFE};
    struct asc__reply reply = {0};
    struct asc__buf path = {0}, json = {0};
    struct asc__body body = {0};
    struct asc_answer *a = calloc(1, sizeof *a);
    json_t *o = NULL;
    int rc = a ? asc__corpus_path(&path, corpus, "/search", e) : asc__no_memory(e, sizeof *a);

    if (rc == 0)
        rc = body_of(search, &json, e);
    if (rc == 0) {
        asc__body_part(&body, json.data, json.len);
        r.path = path.data;
        r.body = &body;
        rc = asc__perform(c, &r, &reply, e);
    }
    if (rc == 0)
        rc = asc__json_parse(reply.data, reply.len, &o, e);
    if (rc == 0)
        rc = asc__answer_of_search(o, a, e);
    json_decref(o);
    asc__body_free(&body);
    asc__buf_free(&json);
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
