/* ingest.c - sending batches, and asking what became of them. Every way in ends in `send_body`: one
 * PUT, safe to repeat. */
#include "client/inner.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int read_record(const json_t *o, const char *name, bool stood, struct asc_ingested *out,
                       struct asc_error *e)
{
    if (!json_is_integer(json_object_get(o, "examples")))
        return asc__json_missing(e, "batch", "examples");
    if (!out)
        return 0;
    *out = (struct asc_ingested){.examples = asc__json_u64(o, "examples"),
                                 .duplicates = asc__json_u64(o, "duplicates"),
                                 .sequence = asc__json_u64(o, "sequence"),
                                 .resent = stood};
    memcpy(out->batch, name, strlen(name));
    return 0;
}

static int read_answer(const struct asc__reply *reply, const char *name, struct asc_ingested *out,
                       struct asc_error *e)
{
    json_t *o;
    int rc = asc__json_parse(reply->data, reply->len, &o, e);

    if (rc != 0)
        return rc;
    rc = read_record(o, name, reply->status == 200, out, e);
    json_decref(o);
    return rc;
}

static int batch_path(struct asc__buf *path, const char *corpus, const char *name,
                      struct asc_error *e)
{
    int rc;

    if (!*name || strlen(name) > ASC_NAME_MAX)
        return asc__fail(e, ASC_ARGUMENT, "bad_name", "a batch name has 1 to %d characters",
                         ASC_NAME_MAX);
    rc = asc__corpus_path(path, corpus, "/batches/", e);
    if (rc == 0)
        asc__buf_escape(path, name);
    return rc == 0 && path->failed ? asc__no_memory(e, path->len) : rc;
}

static int send_body(struct asc_client *c, const char *corpus, const char *name,
                     const struct asc__body *body, struct asc_ingested *out, struct asc_error *e)
{
    struct asc__request r = {.method = "PUT",
                             .content_type = "application/vnd.safetensors",
                             .body = body,
                             .retry = ASC__RETRY_SAFE};
    char made[ASC_NAME_MAX + 1];
    struct asc__buf path = {0};
    struct asc__reply reply = {0};
    int rc = 0;

    if (!name) {
        rc = asc__name_of(0, body, made, e);
        name = made;
    }
    if (rc == 0)
        rc = batch_path(&path, corpus, name, e);
    if (rc == 0) {
        r.path = path.data;
        rc = asc__perform(c, &r, &reply, e);
    }
    if (rc == 0)
        rc = read_answer(&reply, name, out, e);
    free(reply.data);
    asc__buf_free(&path);
    return rc;
}

int asc_ingest(struct asc_client *c, const char *corpus, const struct asc_batch *batch,
               struct asc_ingested *out, struct asc_error *e)
{
    struct asc__body body;
    struct asc_ingested got;
    int rc = asc__body_of_batch(batch, &body, e);

    if (rc == 0)
        rc = send_body(c, corpus, batch->name, &body, &got, e);
    if (rc == 0 && batch->matrix)
        rc = asc__matrix_unchanged(batch->matrix, e);
    if (rc == 0 && out)
        *out = got;
    asc__body_free(&body);
    return rc;
}

int asc_ingest_body(struct asc_client *c, const char *corpus, const char *name, const void *body,
                    size_t len, struct asc_ingested *out, struct asc_error *e)
{
    struct asc__body b = {0};

    asc__body_part(&b, body, len);
    return send_body(c, corpus, name, &b, out, e);
}

int asc_ingest_file(struct asc_client *c, const char *corpus, const char *name, const char *path,
                    struct asc_ingested *out, struct asc_error *e)
{
    struct asc__body b = {0};
    uint64_t size;
    int fd = asc__file_open(path, &size, e), rc;

    if (fd < 0)
        return ASC_INPUT;
    asc__body_file(&b, fd, 0, size);
    rc = send_body(c, corpus, name, &b, out, e);
    close(fd);
    return rc;
}

int asc_batch_get(struct asc_client *c, const char *corpus, const char *name,
                  struct asc_ingested *out, char out_hash[ASC_HASH_MAX + 1], struct asc_error *e)
{
    struct asc__buf path = {0};
    json_t *o = NULL;
    int rc = batch_path(&path, corpus, name, e);

    if (rc == 0)
        rc = asc__call(c, "GET", path.data, NULL, ASC__RETRY_SAFE, &o, NULL, e);
    if (rc == 0)
        rc = read_record(o, name, true, out, e);
    if (rc == 0 && !json_is_string(json_object_get(o, "content_hash")))
        rc = asc__json_missing(e, "batch", "content_hash");
    if (rc == 0)
        asc__json_word(o, "content_hash", out_hash, ASC_HASH_MAX + 1);
    json_decref(o);
    asc__buf_free(&path);
    return rc;
}
