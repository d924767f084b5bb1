/* json.c - reading the server's JSON answers. Bounded by max_response before it comes here; members
 * that a later server adds are ignored, members that must be there are named when they are not.
 */
#include "client/inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int asc__json_parse(const char *text, size_t len, json_t **out, struct asc_error *e)
{
    json_error_t at;
    json_t *o = json_loadb(text, len, JSON_ALLOW_NUL, &at);

    if (!json_is_object(o)) {
        json_decref(o);
        return asc__fail(e, ASC_PROTOCOL, "bad_answer",
                         "the answer is not a JSON object%s%.100s: is this an ascribe server?",
                         o ? "" : ": ", o ? "" : at.text);
    }
    *out = o;
    return 0;
}

int asc__call(struct asc_client *c, const char *method, const char *path, const char *json,
              enum asc__retry retry, json_t **out, int *out_status, struct asc_error *e)
{
    struct asc__body body = {0};
    struct asc__request r = {.method = method, .path = path, .retry = retry};
    struct asc__reply reply = {0};
    int rc;

    if (json) {
        asc__body_part(&body, json, strlen(json));
        r.body = &body;
        r.content_type = "application/json";
    }
    rc = asc__perform(c, &r, &reply, e);
    if (rc == 0 && out)
        rc = asc__json_parse(reply.data, reply.len, out, e);
    if (rc == 0 && out_status)
        *out_status = reply.status;
    free(reply.data);
    return rc;
}

uint64_t asc__json_u64(const json_t *o, const char *name)
{
    json_int_t v = json_integer_value(json_object_get(o, name));

    return v > 0 ? (uint64_t)v : 0;
}

double asc__json_real(const json_t *o, const char *name, double otherwise)
{
    const json_t *v = json_object_get(o, name);

    return json_is_number(v) ? json_number_value(v) : otherwise;
}

void asc__json_word(const json_t *o, const char *name, char *out, size_t cap)
{
    const char *v = json_string_value(json_object_get(o, name));

    snprintf(out, cap, "%s", v ? v : "");
}

char *asc__json_text(const json_t *v, size_t *out_len)
{
    size_t len = json_string_length(v);
    char *copy;

    if (!json_is_string(v) || !(copy = malloc(len + 1)))
        return NULL;
    memcpy(copy, json_string_value(v), len + 1);
    if (out_len)
        *out_len = len;
    return copy;
}

char *asc__json_copy(const json_t *o, const char *name, size_t *out_len)
{
    return asc__json_text(json_object_get(o, name), out_len);
}

char *asc__json_dump(const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);

    if (!v || json_is_null(v))
        return NULL;
    return json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
}

int asc__json_missing(struct asc_error *e, const char *what, const char *member)
{
    return asc__fail(e, ASC_PROTOCOL, "bad_answer", "%s: the answer has no %s", what, member);
}
