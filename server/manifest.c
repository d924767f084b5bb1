/* manifest.c - see manifest.h. */
#include "server/manifest.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "server/json.h"
#include "server/limits.h"
#include "storage/base/dtype.h"
#include "storage/base/spare.h"

_Static_assert(crypto_hash_sha256_BYTES == STORE_FINGERPRINT_BYTES, "SHA-256 fits");

enum { BLOCK_NAME_MAX = 256 };

static int wrong(const char *field, const char *what, struct err *e)
{
    err_set(e, ERR_INVALID, "member %s: %s", field, what);
    return err_at_field(e, field);
}

static int need_dim(const json_t *object, const char *member, uint64_t *out, struct err *e)
{
    if (!json_object_get(object, member))
        return wrong(member, "missing", e);
    return json_get_number(object, member, 1, LIMIT_DIM, out, e);
}

static int read_dtype(const json_t *doc, enum dtype *out, struct err *e)
{
    const char *name = "f32";
    int code = json_get_text(doc, "dtype", 64, &name, e);

    if (code)
        return code;
    if (!dtype_from_name(name, out) || strcmp(name, dtype_name(*out)) != 0)
        return wrong("dtype", "must be f32, f16 or bf16", e);
    return 0;
}

static bool has_control(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return true;
    return false;
}

/* One block: {"name","dim"}. `names` holds the ones before, to refuse a second of the same name. */
static int read_block(const json_t *block, json_t *names, uint64_t *dim, struct err *e)
{
    static const char *const members[] = {"name", "dim", NULL};
    const char *name = "";
    int code;

    if (!json_is_object(block))
        return err_set(e, ERR_INVALID, "must be an object {\"name\",\"dim\"}");
    code = json_only(block, members, e);
    if (!code)
        code = json_get_text(block, "name", BLOCK_NAME_MAX, &name, e);
    if (!code)
        code = need_dim(block, "dim", dim, e);
    if (code)
        return code;
    if (!*name || has_control(name))
        return err_set(e, ERR_INVALID, "name: must be 1 to %d bytes without control characters",
                       BLOCK_NAME_MAX);
    if (json_object_get(names, name))
        return err_set(e, ERR_INVALID, "name: two blocks are named \"%.64s\"", name);
    json_object_set_new(names, name, json_true());
    return 0;
}

static int read_blocks(const json_t *blocks, uint64_t dim, struct err *e)
{
    json_t *names;
    uint64_t sum = 0;
    int code = 0;

    if (!json_is_array(blocks) || json_array_size(blocks) == 0 ||
        json_array_size(blocks) > LIMIT_BLOCKS) {
        wrong("blocks", "must be an array of 1 to 1024 blocks", e);
        return err_at_limit(e, LIMIT_BLOCKS);
    }
    (void)spare_failed();
    names = json_object();
    for (size_t i = 0; !code && i < json_array_size(blocks); i++) {
        uint64_t one = 0;

        code = read_block(json_array_get(blocks, i), names, &one, e);
        sum += one; /* at most LIMIT_BLOCKS x LIMIT_DIM */
        if (code) {
            err_wrap(e, "member blocks, entry %zu: ", i);
            err_at_field(e, "blocks");
            err_at_index(e, (int64_t)i);
        }
    }
    json_decref(names);
    if (!code && spare_failed())
        return err_set(e, ERR_BUSY, "no memory for the names of the blocks");
    if (!code && sum != dim) {
        err_set(e, ERR_INVALID, "member blocks: their dims add up to %llu, dim is %llu",
                (unsigned long long)sum, (unsigned long long)dim);
        err_at_field(e, "blocks");
        code = err_at_limit(e, (int64_t)dim);
    }
    return code;
}

/* Members that are recorded as given: objects and strings. */
static int read_recorded(const json_t *doc, struct err *e)
{
    static const char *const objects[] = {"projection", "second_moment", "sample", NULL};
    static const char *const texts[] = {"loss", "model", NULL};
    int code = 0;

    for (size_t i = 0; objects[i]; i++) {
        const json_t *value = json_object_get(doc, objects[i]);

        if (value && !json_is_object(value))
            return wrong(objects[i], "must be an object", e);
    }
    for (size_t i = 0; !code && texts[i]; i++) {
        const char *text;

        code = json_get_text(doc, texts[i], MANIFEST_TEXT_MAX, &text, e);
    }
    return code;
}

static int check(const json_t *doc, struct corpus_def *out, struct err *e)
{
    static const char *const members[] = {"dim",    "dtype", "blocks", "encoded", "projection",
                                          "sample", "loss",  "model",  "second_moment", NULL};
    enum dtype dtype = DTYPE_F32;
    const json_t *blocks;
    uint64_t dim = 0;
    bool encoded = false;
    int code = json_only(doc, members, e);

    if (!code)
        code = need_dim(doc, "dim", &dim, e);
    if (!code)
        code = read_dtype(doc, &dtype, e);
    blocks = json_object_get(doc, "blocks");
    if (!code && blocks)
        code = read_blocks(blocks, dim, e);
    if (!code)
        code = json_get_bool(doc, "encoded", &encoded, e);
    if (!code)
        code = read_recorded(doc, e);
    if (!code) {
        out->dim = (uint32_t)dim;
        out->dtype = (uint32_t)dtype;
    }
    return code;
}

/* What was left out, said. */
static void fill(json_t *doc, const struct corpus_def *def)
{
    if (!json_object_get(doc, "dtype"))
        json_object_set_new(doc, "dtype", json_string(dtype_name((enum dtype)def->dtype)));
    if (!json_object_get(doc, "encoded"))
        json_object_set_new(doc, "encoded", json_false());
    if (!json_object_get(doc, "blocks"))
        json_object_set_new(doc, "blocks",
                            json_pack("[{s:s,s:I}]", "name", "all", "dim", (json_int_t)def->dim));
}

/* A text as long as this is not read at all: a million members take a second to sort. Spaces and
 * escapes have room to spare. */
#define TEXT_MAX ((size_t)4 * LIMIT_MANIFEST)

int manifest_read(const char *name, const void *json, size_t len, struct arena *a,
                  struct corpus_def *out, struct err *e)
{
    struct corpus_def def = {0};
    struct buf text = {0};
    json_t *doc = NULL;
    int code;

    if (len > TEXT_MAX) {
        err_set(e, ERR_TOO_LARGE, "a definition of %zu bytes; at most %zu are taken", len,
                TEXT_MAX);
        return err_at_limit(e, (int64_t)TEXT_MAX);
    }
    code = json_read_object(json, len, JSON_CONTROL, &doc, e);
    if (code)
        return code;
    code = check(doc, &def, e);
    if (code)
        goto end;
    (void)spare_failed();
    fill(doc, &def);
    json_put_canonical(&text, doc);
    if (text.failed || spare_failed()) {
        code = err_set(e, ERR_BUSY, "no memory for the manifest");
        goto end;
    }
    if (text.len > LIMIT_MANIFEST) {
        err_set(e, ERR_TOO_LARGE, "the manifest has %zu bytes; at most %u are taken", text.len,
                LIMIT_MANIFEST);
        code = err_at_limit(e, LIMIT_MANIFEST);
        goto end;
    }
    snprintf(def.name, sizeof def.name, "%s", name);
    crypto_hash_sha256(def.fingerprint, text.data, text.len);
    def.manifest = arena_copy(a, text.data, text.len);
    *out = def;
end:
    buf_free(&text);
    json_decref(doc);
    return code;
}

static int shape_blocks(const json_t *blocks, const struct corpus_def *def, struct arena *a,
                        struct manifest_shape *out, struct err *e)
{
    size_t sum = 0;

    out->count = json_array_size(blocks);
    out->names = arena_new(a, out->count + 1, sizeof *out->names);
    out->dims = arena_new(a, out->count + 1, sizeof *out->dims);
    for (size_t i = 0; i < out->count; i++) {
        const json_t *block = json_array_get(blocks, i);
        const char *name = json_string_value(json_object_get(block, "name"));

        out->names[i] = arena_copy(a, name ? name : "", name ? strlen(name) : 0);
        out->dims[i] = (size_t)json_integer_value(json_object_get(block, "dim"));
        sum += out->dims[i];
    }
    if (out->count == 0 || sum != def->dim)
        return err_set(e, ERR_CORRUPT, "corpus %s: the manifest's blocks have %zu dimensions of %u",
                       def->name, sum, def->dim);
    return 0;
}

int manifest_shape(const struct corpus_def *def, struct arena *a, struct manifest_shape *out,
                   struct err *e)
{
    struct manifest_shape shape = {0};
    json_t *doc = NULL;
    int code = json_read_object(def->manifest, strlen(def->manifest), JSON_CONTROL, &doc, e);

    if (code) {
        e->code = ERR_CORRUPT;
        err_wrap(e, "corpus %s: the manifest: ", def->name);
        return (int)e->code;
    }
    shape.encoded = json_is_true(json_object_get(doc, "encoded"));
    code = shape_blocks(json_object_get(doc, "blocks"), def, a, &shape, e);
    json_decref(doc);
    if (!code)
        *out = shape;
    return code;
}
