/* definition.c - see definition.h. */
#include "client/lm/definition.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { TEXT_MAX = 1 << 20 }; /* the largest model's blocks make about 20 KiB */

static int read_text(struct buf *out, const char *path, struct err *e)
{
    FILE *file = fopen(path, "re");
    char part[4096];
    size_t got;
    int rc = 0;

    if (!file)
        return err_errno(e, errno, path);
    while (out->len <= TEXT_MAX && (got = fread(part, 1, sizeof part, file)) > 0)
        buf_add(out, part, got);
    if (ferror(file))
        rc = err_errno(e, errno, path);
    else if (out->failed)
        rc = err_set(e, ERR_BUSY, "no memory for %s", path);
    else if (out->len > TEXT_MAX)
        rc = err_set(e, ERR_TOO_LARGE, "%s has more than %d bytes", path, TEXT_MAX);
    fclose(file);
    return rc;
}

static int parse(struct definition *d, const json_t *root, struct err *e)
{
    const json_t *projection = json_object_get(root, "projection");
    const json_t *moment = json_object_get(root, "second_moment");
    const json_t *seed = json_object_get(projection, "seed");
    const json_int_t dim = json_integer_value(json_object_get(root, "dim"));
    const char *dtype = json_string_value(json_object_get(root, "dtype"));
    const char *kind = json_string_value(json_object_get(moment, "kind"));

    if (dim < 1 || dim > ENCODER_DIM_MAX || !dtype || strlen(dtype) >= sizeof d->dtype || !kind ||
        !json_is_integer(seed) || json_integer_value(seed) < 0)
        return err_set(e, ERR_BAD_JSON,
                       "not a corpus.json of ascribe-lm: no dim, dtype, projection.seed or "
                       "second_moment.kind");
    d->dim = (uint32_t)dim;
    d->seed = (uint64_t)json_integer_value(seed);
    snprintf(d->dtype, sizeof d->dtype, "%s", dtype);
    if (encoder_second_parse(kind, &d->second, e) || d->second == ENCODER_AUTO)
        return err_set(e, ERR_BAD_JSON,
                       "not a corpus.json of ascribe-lm: second_moment.kind is \"%.40s\"", kind);
    return 0;
}

int definition_read(struct definition *d, const char *path, struct err *e)
{
    json_error_t why;
    json_t *root = NULL;
    int rc;

    *d = (struct definition){.path = path};
    rc = read_text(&d->text, path, e);
    if (rc)
        return rc;
    root = json_loadb((const char *)d->text.data, d->text.len, JSON_REJECT_DUPLICATES, &why);
    rc = root ? parse(d, root, e) : err_set(e, ERR_BAD_JSON, "%s", why.text);
    json_decref(root);
    if (rc) {
        err_wrap(e, "%s: ", path);
        definition_free(d);
    }
    return rc;
}

int definition_take(struct definition *d, const char *path, uint64_t *dim, uint64_t *seed,
                    enum encoder_second *second, struct err *e)
{
    int rc;

    *d = (struct definition){0};
    if (!path)
        return 0;
    rc = definition_read(d, path, e);
    if (rc)
        return rc;
    *dim = d->dim;
    *seed = d->seed;
    *second = d->second;
    return 0;
}

int definition_plan(const struct definition *d, struct encoder_plan *plan, const struct model *m,
                    uint64_t dim, uint64_t seed, enum encoder_second second, struct err *e)
{
    int rc = encoder_plan_init(plan, m, (uint32_t)dim, second, seed, e);

    if (rc && d->path)
        err_wrap(e, "%s: ", d->path);
    if (rc || !d->path)
        return rc;
    rc = definition_check(d, plan, e);
    if (rc)
        encoder_plan_fini(plan);
    return rc;
}

int definition_check(const struct definition *d, const struct encoder_plan *plan, struct err *e)
{
    struct buf own = {0};
    int rc = 0;

    encoder_plan_describe(plan, d->dtype, &own);
    if (own.failed)
        rc = err_set(e, ERR_BUSY, "no memory for a definition");
    else if (own.len != d->text.len || memcmp(own.data, d->text.data, own.len) != 0)
        rc = err_set(e, ERR_CONFLICT, "the encodings are of another model than %s",
                     plan->model->fingerprint);
    buf_free(&own);
    return rc;
}

void definition_free(struct definition *d)
{
    buf_free(&d->text);
}
