/* saved.c - saved queries: put, get, list, delete. Running one is asc_query's. */
#include "client/inner.h"

#include <stdlib.h>
#include <string.h>

static int saved_path(struct asc__buf *path, const char *corpus, const char *name,
                      struct asc_error *e)
{
    int rc;

    if (!name || !*name)
        return asc__fail(e, ASC_ARGUMENT, "bad_name", "a saved query's name is missing");
    rc = asc__corpus_path(path, corpus, "/queries/", e);
    if (rc == 0)
        asc__buf_escape(path, name);
    return rc == 0 && path->failed ? asc__no_memory(e, path->len) : rc;
}

static int check_members(const char *members, struct asc_error *e)
{
    json_error_t at;
    json_t *o = json_loads(members, 0, &at);
    bool good = json_is_object(o);

    json_decref(o);
    return good ? 0
                : asc__fail(e, ASC_ARGUMENT, "bad_json", "a saved query: not a JSON object: %.100s",
                            o ? "another type" : at.text);
}

int asc_saved_put(struct asc_client *c, const char *corpus, const char *name, const char *members,
                  const struct asc_query *gradient, char **out_json, struct asc_error *e)
{
    struct asc__request r = {.method = "PUT",
                             .content_type = "application/vnd.safetensors",
                             .retry = ASC__RETRY_SAFE};
    struct asc__reply reply = {0};
    struct asc__buf path = {0};
    struct asc__body body = {0};
    int rc = saved_path(&path, corpus, name, e);

    if (!members)
        members = "{}";
    if (rc == 0)
        rc = check_members(members, e);
    if (rc == 0)
        rc = asc__body_of_saved(gradient, members, &body, e);
    if (rc == 0) {
        r.path = path.data;
        r.body = &body;
        rc = asc__perform(c, &r, &reply, e);
    }
    asc__body_free(&body);
    asc__buf_free(&path);
    if (rc == 0 && out_json)
        *out_json = reply.data;
    else
        free(reply.data);
    return rc;
}

/* The answer as it came, when `out` wants it; takes the path. */
static int call(struct asc_client *c, const char *method, struct asc__buf *path, int rc, char **out,
                struct asc_error *e)
{
    struct asc__request r = {.method = method, .path = path->data, .retry = ASC__RETRY_SAFE};
    struct asc__reply reply = {0};

    if (rc == 0 && path->failed)
        rc = asc__no_memory(e, path->len);
    if (rc == 0)
        rc = asc__perform(c, &r, &reply, e);
    asc__buf_free(path);
    if (rc == 0 && out)
        *out = reply.data;
    else
        free(reply.data);
    return rc;
}

int asc_saved_get(struct asc_client *c, const char *corpus, const char *name, char **out_json,
                  struct asc_error *e)
{
    struct asc__buf path = {0};
    int rc = saved_path(&path, corpus, name, e);

    return call(c, "GET", &path, rc, out_json, e);
}

int asc_saved_delete(struct asc_client *c, const char *corpus, const char *name,
                     struct asc_error *e)
{
    struct asc__buf path = {0};
    int rc = saved_path(&path, corpus, name, e);

    return call(c, "DELETE", &path, rc, NULL, e);
}

int asc_saved_list(struct asc_client *c, const char *corpus, const char *after, const char *tag,
                   unsigned limit, char **out_json, struct asc_error *e)
{
    struct asc__buf path = {0};
    int rc = asc__corpus_path(&path, corpus, "/queries", e);

    asc__buf_format(&path, "?limit=%u", limit ? limit : 100);
    if (after) {
        asc__buf_text(&path, "&after=");
        asc__buf_escape(&path, after);
    }
    if (tag) {
        asc__buf_text(&path, "&tag=");
        asc__buf_escape(&path, tag);
    }
    return call(c, "GET", &path, rc, out_json, e);
}
