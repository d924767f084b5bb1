/* bergson.c - see bergson.h. info.json comes in three dialects: base_dtype as numpy's name
 * ("float32") or string ("<f4") with grad_sizes, and older ones with a structured dtype alone
 * ("names", "formats": "(256,)<f4"). bfloat16 is numpy's "<V2" there. Rows of tokens lie in
 * token_gradients.bin (total_tokens of them), since 2.x in gradients.bin (num_grads).
 */
#include "client/cli/bergson.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { INFO_MAX = 64 << 20, PIECE = 8 << 20 };
#define DIM_MAX (UINT64_C(1) << 20)

static bool dtype_of(const char *name, enum asc_dtype *out)
{
    static const struct {
        const char *name;
        enum asc_dtype dtype;
    } known[] = {{"float32", ASC_F32}, {"<f4", ASC_F32},    {"float16", ASC_F16},
                 {"<f2", ASC_F16},     {"float64", ASC_F64}, {"<f8", ASC_F64},
                 {"bfloat16", ASC_BF16}, {"<V2", ASC_BF16}, {"|V2", ASC_BF16}, {"V2", ASC_BF16}};

    for (size_t i = 0; name && i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i].name) == 0) {
            *out = known[i].dtype;
            return true;
        }
    return false;
}

static bool add_block(struct bergson *b, const char *name, json_int_t dim, char *why, size_t cap)
{
    if (dim < 1 || (uint64_t)dim > DIM_MAX - b->dim) {
        snprintf(why, cap, "%s/info.json: module %.80s has size %" JSON_INTEGER_FORMAT
                 "; all together have 1 to %" PRIu64, b->path, name, dim, DIM_MAX);
        return false;
    }
    b->dim += (uint64_t)dim;
    if (json_array_append_new(b->blocks, json_pack("{s:s, s:I}", "name", name, "dim", dim)) == 0)
        return true;
    snprintf(why, cap, "no memory");
    return false;
}

/* {"module": size, ...}; jansson keeps the order of the file, which is that of the columns. */
static bool read_sizes(struct bergson *b, json_t *sizes, char *why, size_t cap)
{
    const char *name;
    json_t *size;

    json_object_foreach(sizes, name, size) {
        if (!json_is_integer(size)) {
            snprintf(why, cap, "%s/info.json: grad_sizes: %.80s is not a number", b->path, name);
            return false;
        }
        if (!add_block(b, name, json_integer_value(size), why, cap))
            return false;
    }
    return true;
}

/* A format such as "(256,)<f4", "256<f4", or "<f4" for one column. */
static bool read_format(const char *format, json_int_t *dim, enum asc_dtype *dtype)
{
    const char *p = format;
    char *end;

    *dim = 1;
    if (*p == '(')
        p++;
    if (*p >= '0' && *p <= '9') {
        errno = 0;
        *dim = strtoll(p, &end, 10);
        if (errno != 0)
            return false;
        p = end + strspn(end, ",) ");
    }
    return dtype_of(p, dtype);
}

static bool read_structured(struct bergson *b, const json_t *dtype, enum asc_dtype *out, char *why,
                            size_t cap)
{
    const json_t *names = json_object_get(dtype, "names");
    const json_t *formats = json_object_get(dtype, "formats");
    size_t count = json_array_size(names);

    if (count == 0 || json_array_size(formats) != count) {
        snprintf(why, cap, "%s/info.json: neither grad_sizes nor a dtype with as many formats as "
                 "names", b->path);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        const char *format = json_string_value(json_array_get(formats, i));
        enum asc_dtype one;
        json_int_t dim;

        if (!name || !format || !read_format(format, &dim, &one) || (i > 0 && one != *out)) {
            snprintf(why, cap, "%s/info.json: dtype, field %zu (%.60s): the format \"%.60s\" is "
                     "not taken; all are rows of one of <f2, <f4, <f8, <V2", b->path, i,
                     name ? name : "?", format ? format : "?");
            return false;
        }
        *out = one;
        if (!add_block(b, name, dim, why, cap))
            return false;
    }
    return true;
}

/* Sizes and type. The flat ones where they are given; else the structured dtype. */
static bool read_layout(struct bergson *b, const json_t *info, enum asc_dtype *out, char *why,
                        size_t cap)
{
    json_t *sizes = json_object_get(info, "grad_sizes");
    const json_t *dtype = json_object_get(info, "dtype");
    const json_t *size = json_object_get(dtype, "itemsize");
    const json_t *base = json_object_get(info, "base_dtype");
    json_int_t want;

    if (!json_is_object(sizes) || (!base && !json_is_string(dtype))) {
        if (!read_structured(b, dtype, out, why, cap))
            return false;
    } else {
        if (!base)
            base = dtype;
        if (!dtype_of(json_string_value(base), out)) {
            snprintf(why, cap, "%s/info.json: base_dtype \"%.40s\"; float16, bfloat16, float32 and "
                     "float64 are taken", b->path,
                     json_is_string(base) ? json_string_value(base) : "?");
            return false;
        }
        if (!read_sizes(b, sizes, why, cap))
            return false;
    }
    want = (json_int_t)(b->dim * asc_dtype_size(*out));
    if (b->dim == 0)
        snprintf(why, cap, "%s/info.json: no module is named", b->path);
    else if (size && json_integer_value(size) != want)
        snprintf(why, cap, "%s/info.json: itemsize %" JSON_INTEGER_FORMAT ", but the modules have %"
                 JSON_INTEGER_FORMAT " bytes", b->path, json_integer_value(size), want);
    else
        return true;
    return false;
}

/* --- offsets.npy ------------------------------------------------------------------------------ */

/* numpy's format, of the one kind that is written here: int64, one dimension. */
static bool parse_offsets(struct bergson *b, FILE *f, const char *path, uint64_t size, char *why,
                          size_t cap)
{
    unsigned char head[12];
    char text[1024] = "", *shape;
    size_t start, len;
    uint64_t count;

    if (fread(head, 1, 10, f) != 10 || memcmp(head, "\x93NUMPY", 6) != 0 || head[6] < 1 ||
        head[6] > 3 || (head[6] > 1 && fread(head + 10, 1, 2, f) != 2))
        return snprintf(why, cap, "%s: not a .npy", path), false;
    start = head[6] == 1 ? 10 : 12;
    len = (size_t)head[8] | (size_t)head[9] << 8;
    if (len >= sizeof text || fread(text, 1, len, f) != len)
        return snprintf(why, cap, "%s: its header is damaged", path), false;
    shape = strstr(text, "'shape': (");
    if (!strstr(text, "'descr': '<i8'") || !shape)
        return snprintf(why, cap, "%s: not int64 in one dimension", path), false;
    count = strtoull(shape + 10, &shape, 10);
    if (strncmp(shape, ",)", 2) != 0 || count < 1 || (size - start - len) / 8 != count ||
        (size - start - len) % 8 != 0)
        return snprintf(why, cap, "%s: its shape is not that of its %" PRIu64 " bytes", path, size),
               false;
    b->offsets = malloc((size_t)count * sizeof *b->offsets);
    if (!b->offsets || fread(b->offsets, 8, (size_t)count, f) != count)
        return snprintf(why, cap, "%s: could not be read", path), false;
    b->items = count - 1;
    return true;
}

static bool read_offsets(struct bergson *b, char *why, size_t cap)
{
    char path[4200];
    struct stat st;
    FILE *f;
    bool ok;

    snprintf(path, sizeof path, "%s/offsets.npy", b->path);
    f = fopen(path, "re");
    if (!f || fstat(fileno(f), &st) != 0) {
        snprintf(why, cap, "%s: %s; a store of tokens needs it", path, strerror(errno));
        if (f)
            fclose(f);
        return false;
    }
    ok = parse_offsets(b, f, path, (uint64_t)st.st_size, why, cap);
    fclose(f);
    for (uint64_t i = 0; ok && i <= b->items; i++) {
        int64_t before = i > 0 ? b->offsets[i - 1] : 0;

        if (b->offsets[i] < before || (i == 0 && b->offsets[0] != 0)) {
            snprintf(why, cap, "%s: entry %" PRIu64 " is %" PRId64 " after %" PRId64, path, i,
                     b->offsets[i], before);
            ok = false;
        }
    }
    if (ok && (uint64_t)b->offsets[b->items] != b->rows) {
        snprintf(why, cap, "%s: ends at row %" PRId64 "; there are %" PRIu64 " rows", path,
                 b->offsets[b->items], b->rows);
        ok = false;
    }
    return ok;
}

/* --- Opening ---------------------------------------------------------------------------------- */

static json_t *load_info(const struct bergson *b, char *why, size_t cap)
{
    char path[4200];
    json_error_t at;
    struct stat st;
    json_t *o;

    snprintf(path, sizeof path, "%s/info.json", b->path);
    if (stat(path, &st) != 0) {
        snprintf(why, cap, "%s: %s; a bergson store has it", path, strerror(errno));
        return NULL;
    }
    if (!S_ISREG(st.st_mode) || st.st_size > INFO_MAX) {
        snprintf(why, cap, "%s: not a file of at most %d bytes", path, INFO_MAX);
        return NULL;
    }
    o = json_load_file(path, JSON_REJECT_DUPLICATES, &at);
    if (!json_is_object(o)) {
        snprintf(why, cap, "%s: line %d: %s", path, at.line, o ? "not an object" : at.text);
        json_decref(o);
        return NULL;
    }
    return o;
}

/* The file of the rows, and how many the description promises. */
static bool open_rows(struct bergson *b, const json_t *info, enum asc_dtype dtype, char *why,
                      size_t cap)
{
    bool tokens = json_is_true(json_object_get(info, "attribute_tokens"));
    const char *member = tokens ? "total_tokens" : "num_grads";
    const json_t *promised = json_object_get(info, member);
    char path[4200];
    struct asc_error e;
    struct stat st;

    snprintf(path, sizeof path, "%s/token_gradients.bin", b->path);
    if (!tokens || stat(path, &st) != 0)
        snprintf(path, sizeof path, "%s/gradients.bin", b->path);
    b->file = strdup(path);
    if (!promised && tokens) {
        member = "num_grads";
        promised = json_object_get(info, member);
    }
    if (!b->file)
        return snprintf(why, cap, "no memory"), false;
    if (asc_matrix_open_raw(path, b->dim, dtype, &b->matrix, &e) != 0)
        return snprintf(why, cap, "%s (info.json names %zu modules)", e.detail,
                        json_array_size(b->blocks)), false;
    b->rows = asc_matrix_rows(b->matrix);
    b->items = b->rows;
    if (!json_is_integer(promised) || (uint64_t)json_integer_value(promised) != b->rows)
        return snprintf(why, cap, "%s: %" PRIu64 " rows of dim %" PRIu64 "; %s in info.json is %"
                        JSON_INTEGER_FORMAT "%s", path, b->rows, b->dim, member,
                        json_integer_value(promised), promised ? "" : " (missing)"), false;
    if (b->rows == 0)
        return snprintf(why, cap, "%s: empty", path), false;
    return !tokens || read_offsets(b, why, cap);
}

bool bergson_open(struct bergson *b, const char *path, char *why, size_t why_cap)
{
    enum asc_dtype dtype = ASC_F32;
    json_t *info;
    bool ok;

    *b = (struct bergson){.path = strdup(path), .blocks = json_array()};
    if (!b->path || !b->blocks || strlen(path) > 4000) {
        snprintf(why, why_cap, "no memory, or too long a path");
        return false;
    }
    info = load_info(b, why, why_cap);
    ok = info && read_layout(b, info, &dtype, why, why_cap) &&
         open_rows(b, info, dtype, why, why_cap);
    json_decref(info);
    return ok;
}

void bergson_close(struct bergson *b)
{
    asc_matrix_close(b->matrix);
    json_decref(b->blocks);
    free(b->offsets);
    free(b->path);
    free(b->file);
    *b = (struct bergson){0};
}

/* --- Rows ------------------------------------------------------------------------------------- */

enum asc_dtype bergson_dtype(const struct bergson *b, bool sum)
{
    enum asc_dtype t = asc_matrix_dtype(b->matrix);

    return sum || t == ASC_F64 ? ASC_F32 : t;
}

static float of_half(uint16_t h)
{
    unsigned exponent = h >> 10 & 31, fraction = h & 1023u;
    float v = exponent == 0    ? ldexpf((float)fraction, -24)
              : exponent == 31 ? (fraction ? NAN : INFINITY)
                               : ldexpf((float)(fraction + 1024), (int)exponent - 25);

    return h & 0x8000u ? -v : v;
}

static double element(enum asc_dtype t, const unsigned char *p)
{
    uint32_t bits;
    uint16_t half;
    float f;
    double d;

    switch (t) {
    case ASC_F64:
        memcpy(&d, p, 8);
        return d;
    case ASC_F32:
        memcpy(&f, p, 4);
        return (double)f;
    case ASC_F16:
        memcpy(&half, p, 2);
        return (double)of_half(half);
    case ASC_BF16:
        memcpy(&half, p, 2);
        bits = (uint32_t)half << 16;
        memcpy(&f, &bits, 4);
        return (double)f;
    }
    return 0;
}

/* Hands out rows in pieces of bounded memory. */
static bool each_piece(const struct bergson *b, uint64_t first, uint64_t count,
                       void (*take)(void *user, const unsigned char *rows, uint64_t count),
                       void *user, char *why, size_t cap)
{
    uint64_t row = b->dim * asc_dtype_size(asc_matrix_dtype(b->matrix));
    uint64_t most = row < PIECE ? PIECE / row : 1;
    unsigned char *piece = malloc((size_t)((count < most ? count : most) * row) + 1);
    struct asc_error e;
    bool ok = piece != NULL;

    if (!ok)
        snprintf(why, cap, "no memory for rows of %" PRIu64 " bytes", row);
    while (ok && count > 0) {
        uint64_t now = count < most ? count : most;

        ok = asc_matrix_read(b->matrix, first, now, piece, &e) == 0;
        if (ok)
            take(user, piece, now);
        else
            snprintf(why, cap, "%s: rows from %" PRIu64 ": %s", b->file, first, e.detail);
        first += now;
        count -= now;
    }
    free(piece);
    return ok;
}

struct narrowing {
    uint64_t dim;
    float *to;
};

static void narrow(void *user, const unsigned char *rows, uint64_t count)
{
    struct narrowing *n = user;

    for (uint64_t i = 0; i < count * n->dim; i++)
        n->to[i] = (float)element(ASC_F64, rows + 8 * i);
    n->to += count * n->dim;
}

bool bergson_rows(const struct bergson *b, uint64_t first, uint64_t count, void *out, char *why,
                  size_t why_cap)
{
    struct narrowing n = {b->dim, out};
    struct asc_error e;

    if (asc_matrix_dtype(b->matrix) == ASC_F64)
        return each_piece(b, first, count, narrow, &n, why, why_cap);
    if (asc_matrix_read(b->matrix, first, count, out, &e) == 0)
        return true;
    snprintf(why, why_cap, "%s: rows from %" PRIu64 ": %s", b->file, first, e.detail);
    return false;
}

struct summing {
    uint64_t dim;
    enum asc_dtype dtype;
    double *sum;
};

static void add_rows(void *user, const unsigned char *rows, uint64_t count)
{
    struct summing *s = user;
    size_t size = asc_dtype_size(s->dtype);

    for (uint64_t r = 0; r < count; r++)
        for (uint64_t j = 0; j < s->dim; j++, rows += size)
            s->sum[j] += element(s->dtype, rows);
}

bool bergson_sum(const struct bergson *b, uint64_t item, float *out, char *why, size_t why_cap)
{
    struct summing s = {b->dim, asc_matrix_dtype(b->matrix),
                        calloc((size_t)b->dim, sizeof(double))};
    uint64_t first = (uint64_t)b->offsets[item], count = (uint64_t)b->offsets[item + 1] - first;
    bool ok = s.sum != NULL;

    if (!ok)
        snprintf(why, why_cap, "no memory");
    ok = ok && each_piece(b, first, count, add_rows, &s, why, why_cap);
    for (uint64_t j = 0; ok && j < b->dim; j++)
        out[j] = (float)s.sum[j];
    free(s.sum);
    return ok;
}

const char *bergson_block(const struct bergson *b, uint64_t column)
{
    uint64_t end = 0;
    size_t i;
    json_t *block;

    json_array_foreach(b->blocks, i, block) {
        end += (uint64_t)json_integer_value(json_object_get(block, "dim"));
        if (column < end)
            return json_string_value(json_object_get(block, "name"));
    }
    return "?";
}
