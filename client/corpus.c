/* corpus.c - creating, looking at, listing and dropping corpora. */
#include "client/inner.h"

#include <stdlib.h>
#include <string.h>

static int fill(const json_t *o, struct asc_corpus *out, struct asc_error *e)
{
    const json_t *manifest = json_object_get(o, "manifest");

    if (!json_is_string(json_object_get(o, "name")))
        return asc__json_missing(e, "corpus", "name");
    *out = (struct asc_corpus){0};
    asc__json_word(o, "name", out->name, sizeof out->name);
    asc__json_word(o, "fingerprint", out->fingerprint, sizeof out->fingerprint);
    out->whitened = json_is_true(json_object_get(o, "whitened"));
    out->examples = asc__json_u64(o, "examples");
    out->deleted = asc__json_u64(o, "deleted");
    out->batches = asc__json_u64(o, "batches");
    out->chunks = asc__json_u64(o, "chunks");
    out->shards = asc__json_u64(o, "shards");
    out->bytes = asc__json_u64(o, "bytes");
    out->next_sequence = asc__json_u64(o, "next_sequence");
    out->generation = asc__json_u64(o, "generation");
    if (json_is_object(manifest)) {
        out->dim = asc__json_u64(manifest, "dim");
        out->encoded = json_is_true(json_object_get(manifest, "encoded"));
        asc__json_word(manifest, "dtype", out->dtype, sizeof out->dtype);
        out->manifest = asc__json_dump(o, "manifest");
        if (!out->manifest)
            return asc__no_memory(e, 1024);
    }
    return 0;
}

static int call_one(struct asc_client *c, const char *method, const char *name, const char *json,
                    json_t **out, int *out_status, struct asc_error *e)
{
    struct asc__buf path = {0};
    int rc = asc__corpus_path(&path, name, "", e);

    if (rc == 0)
        rc = asc__call(c, method, path.data, json, ASC__RETRY_SAFE, out, out_status, e);
    asc__buf_free(&path);
    return rc;
}

int asc_corpus_create(struct asc_client *c, const char *name, const char *definition,
                      struct asc_corpus *out, bool *out_created, struct asc_error *e)
{
    json_t *o = NULL;
    int status = 0, rc = call_one(c, "PUT", name, definition, &o, &status, e);

    if (rc == 0 && out)
        rc = fill(o, out, e);
    if (rc == 0 && out_created)
        *out_created = status == 201;
    json_decref(o);
    return rc;
}

int asc_corpus_get(struct asc_client *c, const char *name, struct asc_corpus *out,
                   struct asc_error *e)
{
    json_t *o = NULL;
    int rc = call_one(c, "GET", name, NULL, &o, NULL, e);

    if (rc == 0)
        rc = fill(o, out, e);
    json_decref(o);
    return rc;
}

int asc_corpus_list(struct asc_client *c, struct asc_corpus **out, size_t *out_count,
                    struct asc_error *e)
{
    struct asc_corpus *list;
    json_t *o = NULL, *all;
    size_t count = 0;
    int rc = asc__call(c, "GET", "/v1/corpora", NULL, ASC__RETRY_SAFE, &o, NULL, e);

    if (rc != 0)
        return rc;
    all = json_object_get(o, "corpora");
    list = calloc(json_array_size(all) + 1, sizeof *list);
    if (!json_is_array(all))
        rc = asc__json_missing(e, "corpora", "corpora");
    else if (!list)
        rc = asc__no_memory(e, json_array_size(all) * sizeof *list);
    for (; rc == 0 && count < json_array_size(all); count++)
        rc = fill(json_array_get(all, count), &list[count], e);
    json_decref(o);
    if (rc != 0) {
        asc_corpora_free(list, count);
        return rc;
    }
    *out = list;
    *out_count = count;
    return 0;
}

int asc_corpus_drop(struct asc_client *c, const char *name, struct asc_error *e)
{
    return call_one(c, "DELETE", name, NULL, NULL, NULL, e);
}

void asc_corpus_clear(struct asc_corpus *corpus)
{
    free(corpus->manifest);
    corpus->manifest = NULL;
}

void asc_corpora_free(struct asc_corpus *list, size_t count)
{
    for (size_t i = 0; list && i < count; i++)
        asc_corpus_clear(&list[i]);
    free(list);
}
