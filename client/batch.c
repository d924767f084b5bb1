/* batch.c - the safetensors bodies of batches and queries, and the names of batches. The same input
 * gives the same bytes on every machine, so the same name: that is what makes a run resumable.
 */
#include "client/inner.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROWS_MAX = 65536, DIM_MAX = 1048576, QUERIES_MAX = 1024 }; /* the protocol's */

/* --- Examples as JSON Lines ------------------------------------------------------------------- */

/* Takes a JSON object as its author wrote it (numbers keep their digits), on one line. */
static int add_meta(struct asc__buf *b, const char *meta, uint64_t row, struct asc_error *e)
{
    json_error_t at;
    json_t *o = json_loads(meta, 0, &at);
    bool good = json_is_object(o);

    json_decref(o);
    if (!good)
        return asc__fail(e, ASC_ARGUMENT, "bad_json", "example %" PRIu64 ": meta is not a JSON "
                         "object: %.100s", row, o ? "another type" : at.text);
    for (const char *p = meta; *p; p++) /* outside strings JSON has no line breaks that matter */
        asc__buf_add(b, *p == '\n' || *p == '\r' ? " " : p, 1);
    return 0;
}

static int add_example(struct asc__buf *b, const struct asc_example *x, uint64_t row,
                       struct asc_error *e)
{
    int rc = 0;

    asc__buf_text(b, "{\"id\":");
    if (x->id && *x->id && strlen(x->id) <= ASC_ID_MAX)
        asc__buf_json(b, x->id);
    else
        rc = asc__fail(e, ASC_ARGUMENT, "bad_id", "example %" PRIu64 ": an id has 1 to %d bytes",
                       row, ASC_ID_MAX);
    if (x->text) {
        asc__buf_text(b, ",\"text\":");
        asc__buf_json(b, x->text);
    }
    if (x->meta && rc == 0) {
        asc__buf_text(b, ",\"meta\":");
        rc = add_meta(b, x->meta, row, e);
    }
    asc__buf_text(b, "}\n");
    if (rc == 0 && b->failed)
        rc = asc__fail(e, ASC_ARGUMENT, "bad_utf8", "example %" PRIu64 ": the id or text is not "
                       "UTF-8, or there is no memory for it", row);
    if (rc != 0 && e)
        e->index = (int64_t)row;
    return rc;
}

static int lines_of(const struct asc_batch *batch, struct asc__body *out, const char **lines,
                    size_t *len, struct asc_error *e)
{
    struct asc__buf b = {0};

    if (!batch->examples) {
        *lines = batch->lines;
        *len = batch->lines_len;
        return batch->lines ? 0
                            : asc__fail(e, ASC_ARGUMENT, "no_examples",
                                        "a batch needs examples or lines");
    }
    for (uint64_t i = 0; i < batch->rows; i++) {
        int rc = add_example(&b, &batch->examples[i], i, e);

        if (rc != 0) {
            asc__buf_free(&b);
            return rc;
        }
    }
    out->text = b.data;
    *lines = b.data;
    *len = b.len;
    return 0;
}

/* --- Bodies ----------------------------------------------------------------------------------- */

struct vectors {
    const void *data;
    const struct asc_matrix *matrix;
    uint64_t first, rows, dim;
    enum asc_dtype dtype;
    uint64_t bytes;
};

static int vectors_check(struct vectors *v, uint64_t rows_max, struct asc_error *e)
{
    enum asc_status blame = v->matrix ? ASC_INPUT : ASC_ARGUMENT; /* the file, or the caller */

    if (v->matrix) {
        v->dim = v->matrix->dim;
        v->dtype = v->matrix->dtype;
        if (v->first > v->matrix->rows || v->rows > v->matrix->rows - v->first)
            return asc__fail(e, ASC_ARGUMENT, "bad_rows", "rows %" PRIu64 " to %" PRIu64
                             " of a matrix of %" PRIu64, v->first, v->first + v->rows,
                             v->matrix->rows);
    } else if (!v->data) {
        return asc__fail(e, ASC_ARGUMENT, "no_vectors", "there are no vectors to send");
    }
    if (v->rows < 1 || v->rows > rows_max)
        return asc__fail(e, ASC_ARGUMENT, "bad_rows",
                         "%" PRIu64 " rows; 1 to %" PRIu64 " are taken", v->rows, rows_max);
    if (v->dim < 1 || v->dim > DIM_MAX)
        return asc__fail(e, blame, "wrong_dimension", "dim %" PRIu64 "; 1 to %d are taken",
                         v->dim, DIM_MAX);
    if (v->dtype < ASC_F32 || v->dtype > ASC_BF16)
        return asc__fail(e, blame, "wrong_dtype", "%s; F32, F16 and BF16 are taken",
                         asc_dtype_name(v->dtype));
    v->bytes = v->rows * v->dim * asc_dtype_size(v->dtype); /* at most 2^16 * 2^20 * 4 */
    return 0;
}

static void vectors_part(const struct vectors *v, struct asc__body *out)
{
    uint64_t row = v->dim * asc_dtype_size(v->dtype);

    if (v->matrix)
        asc__body_file(out, v->matrix->fd, v->matrix->offset + v->first * row, v->bytes);
    else
        asc__body_part(out, v->data, v->bytes);
}

/* The 8 length bytes and the header, padded so that data begins on 8 bytes. */
static int head_close(struct asc__buf *b, struct asc__body *out, struct asc_error *e)
{
    uint64_t len;

    asc__buf_text(b, "}");
    while (b->len % 8)
        asc__buf_text(b, " ");
    if (b->failed) {
        asc__buf_free(b);
        return asc__no_memory(e, 1024);
    }
    len = b->len - 8;
    memcpy(b->data, &len, 8);
    out->head = b->data;
    asc__body_part(out, out->head, b->len);
    return 0;
}

static int head_open(struct asc__buf *b, const char *fingerprint, struct asc_error *e)
{
    asc__buf_add(b, "\0\0\0\0\0\0\0\0", 8);
    asc__buf_text(b, "{");
    if (!fingerprint)
        return 0;
    if (strlen(fingerprint) != 64 || strspn(fingerprint, "0123456789abcdef") != 64) {
        asc__buf_free(b);
        return asc__fail(e, ASC_ARGUMENT, "bad_fingerprint", "a fingerprint is 64 hex digits");
    }
    asc__buf_text(b, "\"__metadata__\":{\"fingerprint\":\"");
    asc__buf_text(b, fingerprint);
    asc__buf_text(b, "\"},");
    return 0;
}

static void head_vectors(struct asc__buf *b, const char *name, const struct vectors *v)
{
    asc__buf_format(b, "\"%s\":{\"dtype\":\"%s\",\"shape\":[%" PRIu64 ",%" PRIu64
                    "],\"data_offsets\":[0,%" PRIu64 "]}", name, asc_dtype_name(v->dtype), v->rows,
                    v->dim, v->bytes);
}

int asc__body_of_batch(const struct asc_batch *batch, struct asc__body *out, struct asc_error *e)
{
    struct vectors v = {batch->gradients, batch->matrix, batch->first_row, batch->rows, batch->dim,
                        batch->dtype, 0};
    struct asc__buf head = {0};
    const char *lines = NULL;
    size_t len = 0;
    int rc;

    *out = (struct asc__body){0};
    rc = vectors_check(&v, ROWS_MAX, e);
    if (rc == 0)
        rc = lines_of(batch, out, &lines, &len, e);
    if (rc == 0)
        rc = head_open(&head, batch->fingerprint, e);
    if (rc != 0)
        return rc;
    head_vectors(&head, "gradients", &v);
    asc__buf_text(&head, ",\"examples\":{\"dtype\":\"U8\",");
    asc__buf_format(&head, "\"shape\":[%zu],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", len,
                    v.bytes, v.bytes + len);
    rc = head_close(&head, out, e);
    if (rc != 0)
        return rc;
    vectors_part(&v, out);
    asc__body_part(out, lines, len);
    return 0;
}

int asc__body_of_query(const struct asc_query *q, struct asc__body *out, struct asc_error *e)
{
    return asc__body_of_vectors(q, "queries", QUERIES_MAX, out, e);
}

int asc__body_of_vectors(const struct asc_query *q, const char *name, uint64_t most,
                         struct asc__body *out, struct asc_error *e)
{
    struct vectors v = {q->vectors, q->matrix, q->first_row, q->rows, q->dim, q->dtype, 0};
    struct asc__buf head = {0};
    int rc;

    *out = (struct asc__body){0};
    if (q->body) {
        asc__body_part(out, q->body, q->body_len);
        return 0;
    }
    rc = vectors_check(&v, most, e);
    if (rc == 0)
        rc = head_open(&head, q->fingerprint, e);
    if (rc != 0)
        return rc;
    head_vectors(&head, name, &v);
    rc = head_close(&head, out, e);
    if (rc == 0)
        vectors_part(&v, out);
    return rc;
}

int asc__body_of_saved(const struct asc_query *q, const char *members, struct asc__body *out,
                       struct asc_error *e)
{
    struct vectors v = {q->vectors, q->matrix, q->first_row, q->rows, q->dim, q->dtype, 0};
    struct asc__buf head = {0};
    size_t len = strlen(members);
    int rc;

    *out = (struct asc__body){0};
    rc = vectors_check(&v, 1, e);
    if (rc == 0)
        rc = head_open(&head, q->fingerprint, e);
    if (rc != 0)
        return rc;
    head_vectors(&head, "gradient", &v);
    asc__buf_format(&head, ",\"query\":{\"dtype\":\"U8\",\"shape\":[%zu],", len);
    asc__buf_format(&head, "\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", v.bytes, v.bytes + len);
    rc = head_close(&head, out, e);
    if (rc != 0)
        return rc;
    vectors_part(&v, out);
    asc__body_part(out, members, len);
    return 0;
}

/* --- Names, and files ------------------------------------------------------------------------- */

int asc__name_of(uint64_t position, const struct asc__body *b, char out[ASC_NAME_MAX + 1],
                 struct asc_error *e)
{
    uint64_t hash;
    int rc = asc__body_hash(b, &hash, e);

    if (rc == 0)
        snprintf(out, ASC_NAME_MAX + 1, "b%06" PRIu64 "-%016" PRIx64, position, hash);
    return rc;
}

int asc_batch_name(uint64_t position, const struct asc_batch *batch, char out[ASC_NAME_MAX + 1],
                   struct asc_error *e)
{
    struct asc__body body;
    int rc = asc__body_of_batch(batch, &body, e);

    if (rc == 0)
        rc = asc__name_of(position, &body, out, e);
    asc__body_free(&body);
    return rc;
}

int asc_batch_name_body(uint64_t position, const void *body, size_t len, char out[ASC_NAME_MAX + 1],
                        struct asc_error *e)
{
    struct asc__body b = {0};

    asc__body_part(&b, body, len);
    return asc__name_of(position, &b, out, e);
}

int asc_batch_name_file(uint64_t position, const char *path, char out[ASC_NAME_MAX + 1],
                        struct asc_error *e)
{
    struct asc__body b = {0};
    uint64_t size;
    int fd = asc__file_open(path, &size, e), rc;

    if (fd < 0)
        return ASC_INPUT;
    asc__body_file(&b, fd, 0, size);
    rc = asc__name_of(position, &b, out, e);
    close(fd);
    return rc;
}

int asc_batch_hash(const struct asc_batch *batch, char out[ASC_HASH_MAX + 1], struct asc_error *e)
{
    struct asc__body body;
    int rc = asc__body_of_batch(batch, &body, e);

    if (rc == 0)
        rc = asc__body_content(&body, out, e);
    asc__body_free(&body);
    return rc;
}

int asc_batch_hash_file(const char *path, char out[ASC_HASH_MAX + 1], struct asc_error *e)
{
    struct asc__body b = {0};
    uint64_t size;
    int fd = asc__file_open(path, &size, e), rc;

    if (fd < 0)
        return ASC_INPUT;
    asc__body_file(&b, fd, 0, size);
    rc = asc__body_content(&b, out, e);
    close(fd);
    return rc;
}

int asc_batch_save(const struct asc_batch *batch, const char *path, struct asc_error *e)
{
    struct asc__body body;
    int rc = asc__body_of_batch(batch, &body, e);

    if (rc == 0)
        rc = asc__body_save(&body, path, e);
    asc__body_free(&body);
    return rc;
}

int asc_query_save(const struct asc_query *q, const char *path, struct asc_error *e)
{
    struct asc__body body;
    int rc = asc__body_of_query(q, &body, e);

    if (rc == 0)
        rc = asc__body_save(&body, path, e);
    asc__body_free(&body);
    return rc;
}
