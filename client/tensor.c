/* tensor.c - safetensors headers: reading them strictly (from a file, or from bytes), and writing
 * those of batches and queries. Nothing here trusts a length before it is checked.
 *
 * Format: 8 bytes little-endian header length, a JSON object {name: {dtype, shape, data_offsets}},
 * data. Offsets lie in order, without gap or overlap, and end where the data ends.
 */
#include "client/inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    size_t size;
} types[] = {
    [ASC_F32] = {"F32", 4},
    [ASC_F16] = {"F16", 2},
    [ASC_BF16] = {"BF16", 2},
    [ASC_F64] = {"F64", 8},
};

size_t asc_dtype_size(enum asc_dtype t)
{
    return t >= ASC_F32 && t <= ASC_F64 ? types[t].size : 0;
}

const char *asc_dtype_name(enum asc_dtype t)
{
    return t >= ASC_F32 && t <= ASC_F64 ? types[t].name : "?";
}

bool asc__dtype_parse(const char *name, enum asc_dtype *out)
{
    for (unsigned t = ASC_F32; t <= ASC_F64; t++)
        if (strcmp(name, types[t].name) == 0) {
            *out = (enum asc_dtype)t;
            return true;
        }
    return false;
}

static size_t element_size(const char *dtype)
{
    static const struct {
        const char *name;
        size_t size;
    } known[] = {{"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8}, {"I32", 4},
                 {"I16", 2}, {"I8", 1},  {"U64", 8}, {"U32", 4},  {"U16", 2}, {"U8", 1},
                 {"BOOL", 1}};

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(dtype, known[i].name) == 0)
            return known[i].size;
    return 0;
}

static bool is_printable(const char *name)
{
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    return true;
}

static int bad(struct asc_error *e, const char *name, const char *why)
{
    int rc = asc__fail(e, ASC_INPUT, "bad_safetensors", "tensor %.64s: %s", name, why);

    if (e)
        snprintf(e->field, sizeof e->field, "%.63s", is_printable(name) ? name : "");
    return rc;
}

static bool count_of(const json_t *v, uint64_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

static int parse_one(const char *name, const json_t *o, struct asc__tensor *t, struct asc_error *e)
{
    const char *dtype = json_string_value(json_object_get(o, "dtype"));
    const json_t *shape = json_object_get(o, "shape"), *ends = json_object_get(o, "data_offsets");
    uint64_t bytes;

    if (strlen(name) >= sizeof t->name)
        return bad(e, name, "the name is too long");
    if (!dtype || !json_is_array(shape) || !json_is_array(ends) || json_array_size(ends) != 2 ||
        json_object_size(o) != 3)
        return bad(e, name, "needs dtype, shape and data_offsets, and nothing else");
    bytes = element_size(dtype);
    if (bytes == 0)
        return bad(e, name, "the dtype is not known");
    snprintf(t->name, sizeof t->name, "%s", name);
    snprintf(t->dtype, sizeof t->dtype, "%s", dtype);
    t->rank = (unsigned)json_array_size(shape);
    if (json_array_size(shape) > 8)
        return bad(e, name, "more than 8 dimensions");
    for (unsigned i = 0; i < t->rank; i++)
        if (!count_of(json_array_get(shape, i), &t->shape[i]) ||
            __builtin_mul_overflow(bytes, t->shape[i], &bytes))
            return bad(e, name, "the shape is not one, or overflows 64 bits");
    if (!count_of(json_array_get(ends, 0), &t->begin) ||
        !count_of(json_array_get(ends, 1), &t->end) || t->end < t->begin)
        return bad(e, name, "data_offsets are not [begin, end]");
    if (t->end - t->begin != bytes)
        return bad(e, name, "the shape and the data_offsets do not agree");
    return 0;
}

static int by_begin(const void *a, const void *b)
{
    const struct asc__tensor *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* In order, no gap, no overlap, all of it: then every byte has one owner. */
static int check_cover(struct asc__tensors *t, size_t header_len, uint64_t data_len,
                       struct asc_error *e)
{
    uint64_t at = 0;

    qsort(t->list, t->count, sizeof *t->list, by_begin);
    for (size_t i = 0; i < t->count; i++) {
        if (t->list[i].begin != at)
            return bad(e, t->list[i].name, "a gap or an overlap lies before its data");
        at = t->list[i].end;
        t->list[i].begin += 8 + header_len;
        t->list[i].end += 8 + header_len;
    }
    if (at != data_len)
        return asc__fail(e, ASC_INPUT, "bad_safetensors",
                         "the tensors take %llu bytes; the file has %llu for them",
                         (unsigned long long)at, (unsigned long long)data_len);
    return 0;
}

int asc__tensors_parse(const char *header, size_t len, uint64_t data_len, struct asc__tensors *out,
                       struct asc_error *e)
{
    struct asc__tensors t = {0};
    json_error_t at;
    json_t *o = json_loadb(header, len, JSON_REJECT_DUPLICATES, &at), *value;
    const char *name;
    int rc = 0;

    if (!json_is_object(o)) {
        rc = asc__fail(e, ASC_INPUT, "bad_safetensors", "the header is not a JSON object: %.150s",
                       o ? "another type" : at.text);
        goto out;
    }
    t.list = calloc(json_object_size(o) + 1, sizeof *t.list);
    if (!t.list) {
        rc = asc__no_memory(e, json_object_size(o) * sizeof *t.list);
        goto out;
    }
    json_object_foreach (o, name, value) {
        if (strcmp(name, "__metadata__") == 0) {
            t.metadata = json_incref(value);
            continue;
        }
        rc = parse_one(name, value, &t.list[t.count], e);
        if (rc != 0)
            goto out;
        t.count++;
    }
    rc = check_cover(&t, len, data_len, e);
out:
    json_decref(o);
    if (rc != 0)
        asc__tensors_free(&t);
    else
        *out = t;
    return rc;
}

static int header_len_of(const unsigned char *first, uint64_t size, uint64_t *out,
                         struct asc_error *e)
{
    uint64_t len = 0;

    for (unsigned i = 0; i < 8; i++)
        len |= (uint64_t)first[i] << (8 * i);
    if (len < 2 || len > ASC__TENSOR_HEADER_MAX || len > size - 8)
        return asc__fail(e, ASC_INPUT, "bad_safetensors", 
                         "a header of %llu bytes in a file of %llu (2 to 1,048,576): not a "
                         "safetensors file", (unsigned long long)len,
                         (unsigned long long)size);
    *out = len;
    return 0;
}

int asc__tensors_bytes(const void *bytes, size_t len, struct asc__tensors *out, struct asc_error *e)
{
    uint64_t header_len;
    int rc;

    if (len < 8)
        return asc__fail(e, ASC_INPUT, "bad_safetensors", "%zu bytes are too few", len);
    rc = header_len_of(bytes, len, &header_len, e);
    if (rc != 0)
        return rc;
    return asc__tensors_parse((const char *)bytes + 8, (size_t)header_len, len - 8 - header_len,
                              out, e);
}

int asc__tensors_read(int fd, uint64_t file_size, struct asc__tensors *out, struct asc_error *e)
{
    unsigned char first[8];
    uint64_t header_len;
    char *header;
    int rc;

    if (file_size < 8)
        return asc__fail(e, ASC_INPUT, "bad_safetensors", "%llu bytes are too few",
                         (unsigned long long)file_size);
    rc = asc__file_read(fd, 0, first, sizeof first, e);
    if (rc == 0)
        rc = header_len_of(first, file_size, &header_len, e);
    if (rc != 0)
        return rc;
    header = malloc((size_t)header_len);
    if (!header)
        return asc__no_memory(e, header_len);
    rc = asc__file_read(fd, 8, header, (size_t)header_len, e);
    if (rc == 0)
        rc = asc__tensors_parse(header, (size_t)header_len, file_size - 8 - header_len, out, e);
    free(header);
    return rc;
}

const struct asc__tensor *asc__tensors_find(const struct asc__tensors *t, const char *name)
{
    for (size_t i = 0; i < t->count; i++)
        if (strcmp(t->list[i].name, name) == 0)
            return &t->list[i];
    return NULL;
}

void asc__tensors_free(struct asc__tensors *t)
{
    free(t->list);
    json_decref(t->metadata);
    *t = (struct asc__tensors){0};
}
