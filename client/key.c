/* key.c - making, listing, rotating and revoking keys. A secret is seen once, in the answer that
 * makes it, and is wiped from memory when its struct is cleared. */
#include "client/inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fill(const json_t *o, struct asc_key *out, struct asc_error *e)
{
    struct asc_key k = {0};

    if (!json_is_string(json_object_get(o, "id")))
        return asc__json_missing(e, "key", "id");
    asc__json_word(o, "id", k.id, sizeof k.id);
    asc__json_word(o, "scope", k.scope, sizeof k.scope);
    asc__json_word(o, "created", k.created, sizeof k.created);
    asc__json_word(o, "expires", k.expires, sizeof k.expires);
    asc__json_word(o, "last_used", k.last_used, sizeof k.last_used);
    asc__json_word(o, "corpus", k.corpus, sizeof k.corpus);
    k.rate = (uint64_t)json_integer_value(json_object_get(o, "rate"));
    k.label = asc__json_copy(o, "label", NULL);
    k.secret = asc__json_copy(o, "key", NULL);
    *out = k;
    return 0;
}

static void add_number(struct asc__buf *b, const char *name, uint64_t n)
{
    char text[64];

    snprintf(text, sizeof text, ",\"%s\":%llu", name, (unsigned long long)n);
    asc__buf_text(b, text);
}

static int key_body(const struct asc_key_grant *g, struct asc__buf *b, struct asc_error *e)
{
    asc__buf_text(b, "{\"scope\":");
    asc__buf_json(b, g->scope ? g->scope : "read");
    if (g->label) {
        asc__buf_text(b, ",\"label\":");
        asc__buf_json(b, g->label);
    }
    if (g->corpus) {
        asc__buf_text(b, ",\"corpus\":");
        asc__buf_json(b, g->corpus);
    }
    if (g->expires_s)
        add_number(b, "expires_s", g->expires_s);
    if (g->rate)
        add_number(b, "rate", g->rate);
    asc__buf_text(b, "}");
    return b->failed ? asc__fail(e, ASC_ARGUMENT, "bad_utf8", "the label is not UTF-8") : 0;
}

/* An answer that has a secret in it. */
static int made(struct asc_client *c, const char *path, const char *body, struct asc_key *out,
                struct asc_error *e)
{
    json_t *o = NULL;
    int rc = asc__call(c, "POST", path, body, ASC__RETRY_UNSENT, &o, NULL, e);

    if (rc == 0 && !json_is_string(json_object_get(o, "key")))
        rc = asc__json_missing(e, "key", "key");
    if (rc == 0)
        rc = fill(o, out, e);
    json_decref(o);
    return rc;
}

int asc_key_create(struct asc_client *c, const struct asc_key_grant *grant, struct asc_key *out,
                   struct asc_error *e)
{
    struct asc__buf body = {0};
    int rc = key_body(grant, &body, e);

    if (rc == 0)
        rc = made(c, "/v1/admin/keys", body.data, out, e);
    asc__buf_free(&body);
    return rc;
}

int asc_key_rotate(struct asc_client *c, const char *id, uint64_t overlap_s, struct asc_key *out,
                   struct asc_error *e)
{
    struct asc__buf path = {0};
    char body[64] = "{}";
    int rc;

    if (!id || !*id)
        return asc__fail(e, ASC_ARGUMENT, "bad_id", "a key id is missing");
    if (overlap_s != UINT64_MAX)
        snprintf(body, sizeof body, "{\"overlap_s\":%llu}", (unsigned long long)overlap_s);
    asc__buf_text(&path, "/v1/admin/keys/");
    asc__buf_escape(&path, id);
    asc__buf_text(&path, "/rotate");
    rc = path.failed ? asc__no_memory(e, path.len) : made(c, path.data, body, out, e);
    asc__buf_free(&path);
    return rc;
}

int asc_key_list(struct asc_client *c, struct asc_key **out, size_t *out_count,
                 struct asc_error *e)
{
    struct asc_key *list = NULL;
    json_t *o = NULL, *all;
    size_t count = 0;
    int rc = asc__call(c, "GET", "/v1/admin/keys", NULL, ASC__RETRY_SAFE, &o, NULL, e);

    if (rc != 0)
        return rc;
    all = json_object_get(o, "keys");
    if (!json_is_array(all))
        rc = asc__json_missing(e, "keys", "keys");
    else if (!(list = calloc(json_array_size(all) + 1, sizeof *list)))
        rc = asc__no_memory(e, json_array_size(all) * sizeof *list);
    for (; rc == 0 && count < json_array_size(all); count++)
        rc = fill(json_array_get(all, count), &list[count], e);
    json_decref(o);
    if (rc != 0) {
        asc_keys_free(list, count);
        return rc;
    }
    *out = list;
    *out_count = count;
    return 0;
}

int asc_key_revoke(struct asc_client *c, const char *id, struct asc_error *e)
{
    struct asc__buf path = {0};
    int rc;

    if (!id || !*id)
        return asc__fail(e, ASC_ARGUMENT, "bad_id", "a key id is missing");
    asc__buf_text(&path, "/v1/admin/keys/");
    asc__buf_escape(&path, id);
    rc = path.failed ? asc__no_memory(e, path.len)
                     : asc__call(c, "DELETE", path.data, NULL, ASC__RETRY_SAFE, NULL, NULL, e);
    asc__buf_free(&path);
    return rc;
}

void asc_key_clear(struct asc_key *key)
{
    if (key->secret)
        explicit_bzero(key->secret, strlen(key->secret));
    free(key->secret);
    free(key->label);
    key->secret = key->label = NULL;
}

void asc_keys_free(struct asc_key *list, size_t count)
{
    for (size_t i = 0; list && i < count; i++)
        asc_key_clear(&list[i]);
    free(list);
}
