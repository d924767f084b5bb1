/* safetensors.c - see safetensors.h. */
#include "server/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "server/json.h"
#include "server/limits.h"
#include "storage/base/plant.h"

enum { LENGTH_BYTES = 8 };

static const struct {
    const char *name;
    size_t size;
} types[] = {
    {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"U8", 1},      {"I8", 1},      {"BOOL", 1}, {"F64", 8},
    {"I64", 8}, {"U64", 8}, {"I32", 4},  {"U32", 4},     {"I16", 2},     {"U16", 2},
    {"F8_E4M3", 1}, {"F8_E5M2", 1},
};

/* Where in the data section a tensor says it lies. */
struct extent {
    struct safetensor tensor;
    uint64_t begin, end;
};

static int bad(struct err *e, const char *tensor, const char *what)
{
    err_set(e, ERR_BAD_TENSOR, "tensor \"%.64s\": %s", tensor, what);
    return err_at_field(e, tensor);
}

static int read_dtype(const json_t *entry, const char *name, struct safetensor *out, size_t *size,
                      struct err *e)
{
    const json_t *dtype = json_object_get(entry, "dtype");

    if (!json_is_string(dtype))
        return bad(e, name, "dtype must be a string");
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(types[i].name, json_string_value(dtype)) == 0) {
            out->dtype = types[i].name;
            *size = types[i].size;
            return 0;
        }
    err_set(e, ERR_BAD_TENSOR, "tensor \"%.64s\": unknown dtype \"%.32s\"", name,
            json_string_value(dtype));
    return err_at_field(e, name);
}

/* Fills rank and shape; *bytes is their product times the element's size, without overflow. */
static int read_shape(const json_t *entry, const char *name, size_t size, struct safetensor *out,
                      size_t *bytes, struct err *e)
{
    const json_t *shape = json_object_get(entry, "shape");
    size_t product = size;
    bool empty = false;

    if (!json_is_array(shape))
        return bad(e, name, "shape must be an array of whole numbers");
    if (json_array_size(shape) > SAFETENSORS_RANK) {
        bad(e, name, "shape has more than 4 axes");
        return err_at_limit(e, SAFETENSORS_RANK);
    }
    out->rank = json_array_size(shape);
    for (size_t i = 0; i < out->rank; i++) {
        const json_t *n = json_array_get(shape, i);

        if (!json_is_integer(n) || json_integer_value(n) < 0)
            return bad(e, name, "shape must be an array of whole numbers");
        out->shape[i] = (uint64_t)json_integer_value(n);
        empty = empty || out->shape[i] == 0;
    }
    /* A zero anywhere makes the product zero, however large the rest is. */
    for (size_t i = 0; !empty && i < out->rank; i++)
        if (planted(PRODUCT_WRAPS))
            product *= out->shape[i];
        else if (!mem_mul(product, out->shape[i], &product))
            return bad(e, name, "the product of the shape is larger than 2^64 bytes");
    *bytes = empty ? 0 : product;
    return 0;
}

static int read_extent(const json_t *entry, const char *name, uint64_t data_len,
                       struct extent *out, struct err *e)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);

    if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !json_is_integer(begin) ||
        !json_is_integer(end) || json_integer_value(begin) < 0 || json_integer_value(end) < 0)
        return bad(e, name, "data_offsets must be two whole numbers");
    out->begin = (uint64_t)json_integer_value(begin);
    out->end = (uint64_t)json_integer_value(end);
    if (out->begin > out->end || out->end > data_len) {
        err_set(e, ERR_BAD_TENSOR,
                "tensor \"%.64s\": data_offsets %llu to %llu do not lie in the %llu bytes of data",
                name, (unsigned long long)out->begin, (unsigned long long)out->end,
                (unsigned long long)data_len);
        return err_at_field(e, name);
    }
    return 0;
}

static int read_entry(const char *name, const json_t *entry, uint64_t data_len, struct arena *a,
                      struct extent *out, struct err *e)
{
    static const char *const members[] = {"dtype", "shape", "data_offsets", NULL};
    struct safetensor *t = &out->tensor;
    size_t size = 0, bytes = 0;
    int code;

    if (!json_is_object(entry))
        return bad(e, name, "its entry in the header must be an object");
    code = json_only(entry, members, e);
    if (code) { /* the member is in the text; the field at fault is the tensor */
        e->code = ERR_BAD_TENSOR;
        err_wrap(e, "tensor \"%.64s\": ", name);
        return err_at_field(e, name);
    }
    code = read_dtype(entry, name, t, &size, e);
    if (!code)
        code = read_shape(entry, name, size, t, &bytes, e);
    if (!code)
        code = read_extent(entry, name, data_len, out, e);
    if (code)
        return code;
    if (out->end - out->begin != bytes) {
        err_set(e, ERR_BAD_TENSOR,
                "tensor \"%.64s\": dtype and shape make %zu bytes, data_offsets %llu", name, bytes,
                (unsigned long long)(out->end - out->begin));
        return err_at_field(e, name);
    }
    t->bytes = bytes;
    t->name = arena_copy(a, name, strlen(name));
    return 0;
}

static int read_metadata(const json_t *notes, struct arena *a, struct safetensors *out,
                         struct err *e)
{
    const json_t *fingerprint = json_object_get(notes, "fingerprint");
    const char *name;
    json_t *value;

    if (!json_is_object(notes))
        return bad(e, "__metadata__", "must be an object of strings");
    json_object_foreach((json_t *)(uintptr_t)notes, name, value)
    {
        if (!json_is_string(value))
            return bad(e, "__metadata__", "must be an object of strings");
    }
    if (fingerprint)
        out->fingerprint =
            arena_copy(a, json_string_value(fingerprint), json_string_length(fingerprint));
    return 0;
}

static int by_begin(const void *left, const void *right)
{
    const struct extent *a = left, *b = right;

    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    return a->end < b->end ? -1 : a->end > b->end;
}

/* Sorts by place and checks that the tensors cover the data section exactly. */
static int lay_out(struct extent *extents, size_t count, const unsigned char *data,
                   uint64_t data_len, struct err *e)
{
    uint64_t at = 0;

    if (count)
        qsort(extents, count, sizeof *extents, by_begin);
    for (size_t i = 0; i < count; i++) {
        const char *name = extents[i].tensor.name;

        if (extents[i].begin != at) {
            err_set(e, ERR_BAD_TENSOR, "tensor \"%.64s\": begins at %llu, %s the %llu before it",
                    name, (unsigned long long)extents[i].begin,
                    extents[i].begin < at ? "overlaps" : "leaves a gap after",
                    (unsigned long long)at);
            return err_at_field(e, name);
        }
        extents[i].tensor.data = data + at;
        at = extents[i].end;
    }
    if (at != data_len)
        return err_set(e, ERR_BAD_TENSOR, "the tensors end at %llu, the body's data at %llu",
                       (unsigned long long)at, (unsigned long long)data_len);
    return 0;
}

static int read_tensors(const json_t *header, const unsigned char *data, uint64_t data_len,
                        struct arena *a, struct safetensors *out, struct err *e)
{
    struct extent *extents;
    const char *name;
    json_t *entry;
    size_t n = 0;
    int code = 0;

    if (json_object_size(header) > SAFETENSORS_COUNT) {
        err_set(e, ERR_BAD_TENSOR, "%zu tensors; at most %d are taken", json_object_size(header),
                SAFETENSORS_COUNT);
        return err_at_limit(e, SAFETENSORS_COUNT);
    }
    extents = arena_new(a, json_object_size(header), sizeof *extents);
    json_object_foreach((json_t *)(uintptr_t)header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            code = read_metadata(entry, a, out, e);
        else
            code = read_entry(name, entry, data_len, a, &extents[n++], e);
        if (code)
            return code;
    }
    code = lay_out(extents, n, data, data_len, e);
    if (code)
        return code;
    out->count = n;
    out->tensors = arena_new(a, n, sizeof *out->tensors);
    for (size_t i = 0; i < n; i++)
        out->tensors[i] = extents[i].tensor;
    return 0;
}

int safetensors_read(const unsigned char *body, size_t len, struct arena *a,
                     struct safetensors *out, struct err *e)
{
    struct safetensors read = {0};
    json_t *header = NULL;
    uint64_t header_len;
    int code;

    if (len < LENGTH_BYTES)
        return err_set(e, ERR_BAD_TENSOR,
                       "%zu bytes: a safetensors file has at least the 8 of its header's length",
                       len);
    header_len = bytes_get_le64(body);
    if (header_len > LIMIT_TENSOR_HEADER) {
        err_set(e, ERR_BAD_TENSOR, "a header of %llu bytes; at most %u are taken",
                (unsigned long long)header_len, LIMIT_TENSOR_HEADER);
        return err_at_limit(e, LIMIT_TENSOR_HEADER);
    }
    if (header_len > len - LENGTH_BYTES)
        return err_set(e, ERR_BAD_TENSOR, "a header of %llu bytes in a body of %zu",
                       (unsigned long long)header_len, len);
    if (header_len == 0 || body[LENGTH_BYTES] != '{')
        return err_set(e, ERR_BAD_TENSOR, "the header must begin with \"{\"");
    code = json_read_object(body + LENGTH_BYTES, header_len, JSON_CONTROL, &header, e);
    if (code) { /* the offset stays: where in the header */
        e->code = ERR_BAD_TENSOR;
        err_wrap(e, "header: ");
        return ERR_BAD_TENSOR;
    }
    code = read_tensors(header, body + LENGTH_BYTES + header_len, len - LENGTH_BYTES - header_len,
                        a, &read, e);
    json_decref(header);
    if (!code)
        *out = read;
    return code;
}

int safetensors_find(const struct safetensors *st, const char *name,
                     const struct safetensor **out, struct err *e)
{
    for (size_t i = 0; i < st->count; i++)
        if (strcmp(st->tensors[i].name, name) == 0) {
            *out = &st->tensors[i];
            return 0;
        }
    return bad(e, name, "missing");
}

int safetensors_only(const struct safetensors *st, const char *const names[], struct err *e)
{
    for (size_t i = 0; i < st->count; i++) {
        size_t n = 0;

        while (names[n] && strcmp(names[n], st->tensors[i].name) != 0)
            n++;
        if (!names[n])
            return bad(e, st->tensors[i].name, "unknown here");
    }
    return 0;
}

int safetensors_rows(const struct safetensor *t, size_t dim, size_t max_rows, size_t *out_rows,
                     enum dtype *out_type, struct err *e)
{
    if (!dtype_from_name(t->dtype, out_type)) {
        err_set(e, ERR_WRONG_DTYPE, "tensor %s: %s; F32, F16 and BF16 are taken", t->name,
                t->dtype);
        return err_at_field(e, t->name);
    }
    if (t->rank != 2) {
        err_set(e, ERR_WRONG_DIM, "tensor %s: %zu axes; it must be [rows, %zu]", t->name, t->rank,
                dim);
        return err_at_field(e, t->name);
    }
    if (t->shape[1] != dim) {
        err_set(e, ERR_WRONG_DIM, "tensor %s: rows of %llu elements, the corpus has %zu", t->name,
                (unsigned long long)t->shape[1], dim);
        err_at_field(e, t->name);
        return err_at_limit(e, (int64_t)dim);
    }
    if (t->shape[0] == 0) {
        err_set(e, ERR_INVALID, "tensor %s: no rows", t->name);
        err_at_field(e, t->name);
        return err_at_limit(e, 1);
    }
    if (t->shape[0] > max_rows) {
        err_set(e, ERR_TOO_LARGE, "tensor %s: %llu rows; at most %zu are taken", t->name,
                (unsigned long long)t->shape[0], max_rows);
        err_at_field(e, t->name);
        return err_at_limit(e, (int64_t)max_rows);
    }
    *out_rows = (size_t)t->shape[0];
    return 0;
}

static void put_spec(struct buf *out, const struct safetensors_spec *s, uint64_t begin)
{
    json_put_text(out, s->name, strlen(s->name));
    buf_format(out, ":{\"dtype\":\"%s\",\"shape\":[", s->dtype);
    for (size_t i = 0; i < s->rank; i++)
        buf_format(out, "%s%llu", i ? "," : "", (unsigned long long)s->shape[i]);
    buf_format(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin,
               (unsigned long long)(begin + s->bytes));
}

void safetensors_header(struct buf *out, const struct safetensors_spec *specs, size_t count,
                        const struct safetensors_note *notes, size_t note_count)
{
    size_t start = out->len;
    uint64_t at = 0;

    buf_add(out, "\0\0\0\0\0\0\0", LENGTH_BYTES);
    buf_add_text(out, "{\"__metadata__\":{");
    for (size_t i = 0; i < note_count; i++) {
        if (i)
            buf_add(out, ",", 1);
        json_put_text(out, notes[i].name, strlen(notes[i].name));
        buf_add(out, ":", 1);
        json_put_text(out, notes[i].value, notes[i].value_len);
    }
    buf_add(out, "}", 1);
    for (size_t i = 0; i < count; i++) {
        buf_add(out, ",", 1);
        put_spec(out, &specs[i], at);
        at += specs[i].bytes;
    }
    buf_add(out, "}", 1);
    while (!out->failed && (out->len - start) % 8)
        buf_add(out, " ", 1);
    if (!out->failed)
        bytes_put_le64(out->data + start, out->len - start - LENGTH_BYTES);
}
