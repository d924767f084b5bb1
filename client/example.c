/* example.c - stored examples: one, a page, its encoding, takedown. */
#include "client/inner.h"

#include <stdlib.h>
#include <string.h>

static int example_path(struct asc__buf *b, const char *corpus, const char *id, const char *rest,
                        struct asc_error *e)
{
    int rc;

    if (!id || !*id || strlen(id) > ASC_ID_MAX)
        return asc__fail(e, ASC_ARGUMENT, "bad_id", "an id has 1 to %d bytes", ASC_ID_MAX);
    rc = asc__corpus_path(b, corpus, "/examples/", e);
    if (rc != 0)
        return rc;
    asc__buf_escape(b, id);
    asc__buf_text(b, rest);
    return b->failed ? asc__no_memory(e, b->len) : 0;
}

static int fill(const json_t *o, struct asc_stored *out, struct asc_error *e)
{
    struct asc_stored s = {0};

    if (!json_is_string(json_object_get(o, "id")))
        return asc__json_missing(e, "example", "id");
    s.id = asc__json_copy(o, "id", NULL);
    s.sequence = asc__json_u64(o, "sequence");
    s.norm = asc__json_real(o, "norm", 0);
    s.text = asc__json_copy(o, "text", &s.text_len);
    s.meta = asc__json_dump(o, "meta");
    if (!s.id || (!s.text && json_is_string(json_object_get(o, "text"))) ||
        (!s.meta && json_is_object(json_object_get(o, "meta")))) {
        asc_stored_clear(&s);
        return asc__no_memory(e, 4096);
    }
    *out = s;
    return 0;
}

int asc_example_get(struct asc_client *c, const char *corpus, const char *id,
                    struct asc_stored *out, struct asc_error *e)
{
    struct asc__buf path = {0};
    json_t *o = NULL;
    int rc = example_path(&path, corpus, id, "", e);

    if (rc == 0)
        rc = asc__call(c, "GET", path.data, NULL, ASC__RETRY_SAFE, &o, NULL, e);
    if (rc == 0)
        rc = fill(o, out, e);
    json_decref(o);
    asc__buf_free(&path);
    return rc;
}

static int fill_page(const json_t *o, struct asc_page *out, struct asc_error *e)
{
    const json_t *all = json_object_get(o, "examples");
    struct asc_page p = {0};
    int rc = 0;

    if (!json_is_array(all))
        return asc__json_missing(e, "examples", "examples");
    p.examples = calloc(json_array_size(all) + 1, sizeof *p.examples);
    if (!p.examples)
        return asc__no_memory(e, json_array_size(all) * sizeof *p.examples);
    for (; rc == 0 && p.count < json_array_size(all); p.count++)
        rc = fill(json_array_get(all, p.count), &p.examples[p.count], e);
    if (rc == 0)
        rc = asc__damage_fill(o, &p.damage, e);
    if (rc == 0 && json_is_string(json_object_get(o, "next"))) {
        p.next = asc__json_copy(o, "next", NULL);
        if (!p.next)
            rc = asc__no_memory(e, 512);
    }
    if (rc != 0)
        asc_page_clear(&p);
    else
        *out = p;
    return rc;
}

int asc_example_page(struct asc_client *c, const char *corpus, const char *after, unsigned limit,
                     struct asc_page *out, struct asc_error *e)
{
    return asc_example_find(c, corpus, NULL, after, limit, out, e);
}

int asc_example_find(struct asc_client *c, const char *corpus, const char *filter,
                     const char *after, unsigned limit, struct asc_page *out, struct asc_error *e)
{
    struct asc__buf path = {0};
    json_t *o = NULL;
    int rc = asc__corpus_path(&path, corpus, "/examples", e);

    asc__buf_format(&path, "?limit=%u", limit ? limit : 100);
    if (after) {
        asc__buf_text(&path, "&after=");
        asc__buf_escape(&path, after);
    }
    if (filter) {
        asc__buf_text(&path, "&filter=");
        asc__buf_escape(&path, filter);
    }
    if (rc == 0 && path.failed)
        rc = asc__no_memory(e, path.len);
    if (rc == 0)
        rc = asc__call(c, "GET", path.data, NULL, ASC__RETRY_SAFE, &o, NULL, e);
    if (rc == 0)
        rc = fill_page(o, out, e);
    json_decref(o);
    asc__buf_free(&path);
    return rc;
}

int asc_example_delete(struct asc_client *c, const char *corpus, const char *id,
                       struct asc_error *e)
{
    struct asc__buf path = {0};
    int rc = example_path(&path, corpus, id, "", e);

    if (rc == 0)
        rc = asc__call(c, "DELETE", path.data, NULL, ASC__RETRY_SAFE, NULL, NULL, e);
    asc__buf_free(&path);
    return rc;
}

/* Metadata values are strings in a safetensors file. */
static const char *meta_text(const struct asc__tensors *t, const char *name)
{
    const char *v = json_string_value(json_object_get(t->metadata, name));

    return v ? v : "0";
}

static int fill_encoding(const struct asc__reply *reply, struct asc_encoding *out,
                         struct asc_error *e)
{
    struct asc__tensors all;
    const struct asc__tensor *t;
    struct asc_encoding x = {0};
    int rc = asc__tensors_bytes(reply->data, reply->len, &all, e);

    if (rc != 0) {
        if (e)
            e->status = ASC_PROTOCOL; /* the file is the server's */
        return ASC_PROTOCOL;
    }
    t = asc__tensors_find(&all, "encoding");
    if (!t || t->rank != 1 || !asc__dtype_parse(t->dtype, &x.dtype)) {
        rc = asc__json_missing(e, "encoding", "tensor encoding [dim]");
    } else if (!(x.data = malloc((size_t)(t->end - t->begin) + 1))) {
        rc = asc__no_memory(e, t->end - t->begin);
    } else {
        memcpy(x.data, reply->data + t->begin, (size_t)(t->end - t->begin));
        x.dim = t->shape[0];
        x.sequence = strtoull(meta_text(&all, "sequence"), NULL, 10);
        x.norm = strtod(meta_text(&all, "norm"), NULL);
        *out = x;
    }
    asc__tensors_free(&all);
    return rc;
}

int asc_example_encoding(struct asc_client *c, const char *corpus, const char *id,
                         struct asc_encoding *out, struct asc_error *e)
{
    struct asc__request r = {.method = "GET", .retry = ASC__RETRY_SAFE};
    struct asc__reply reply = {0};
    struct asc__buf path = {0};
    int rc = example_path(&path, corpus, id, "/encoding", e);

    if (rc == 0) {
        r.path = path.data;
        rc = asc__perform(c, &r, &reply, e);
    }
    if (rc == 0)
        rc = fill_encoding(&reply, out, e);
    free(reply.data);
    asc__buf_free(&path);
    return rc;
}

void asc_stored_clear(struct asc_stored *s)
{
    free(s->id);
    free(s->text);
    free(s->meta);
    *s = (struct asc_stored){0};
}

void asc_page_clear(struct asc_page *p)
{
    for (size_t i = 0; i < p->count; i++)
        asc_stored_clear(&p->examples[i]);
    asc__damage_clear(&p->damage);
    free(p->examples);
    free(p->next);
    *p = (struct asc_page){0};
}

void asc_encoding_clear(struct asc_encoding *x)
{
    free(x->data);
    *x = (struct asc_encoding){0};
}
