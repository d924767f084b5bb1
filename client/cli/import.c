/* import.c - see import.h. Everything here runs under the lock of the run that takes the batches.
 */
#include "client/cli/import.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- Rows ------------------------------------------------------------------------------------- */

/* Whether a row is zero everywhere; *bad is the first column that is not finite, or dim. */
static bool look_wide(const uint32_t *row, uint64_t dim, uint64_t *bad)
{
    uint32_t any = 0;

    *bad = dim;
    for (uint64_t j = 0; j < dim; j++) {
        any |= row[j] & 0x7fffffffu;
        if ((row[j] & 0x7f800000u) == 0x7f800000u && *bad == dim)
            *bad = j;
    }
    return any == 0;
}

static bool look_narrow(const uint16_t *row, uint64_t dim, unsigned exponent, uint64_t *bad)
{
    unsigned any = 0;

    *bad = dim;
    for (uint64_t j = 0; j < dim; j++) {
        any |= row[j] & 0x7fffu;
        if ((row[j] & exponent) == exponent && *bad == dim)
            *bad = j;
    }
    return any == 0;
}

static bool look(const void *row, enum asc_dtype t, uint64_t dim, uint64_t *bad)
{
    if (t == ASC_F32)
        return look_wide(row, dim, bad);
    return look_narrow(row, dim, t == ASC_F16 ? 0x7c00u : 0x7f80u, bad);
}

/* --- Lines ------------------------------------------------------------------------------------ */

struct text {
    char *data;
    size_t len, cap;
};

static bool add_line(struct text *t, const json_t *o)
{
    char *line = json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII);
    size_t len = line ? strlen(line) : 0;
    bool ok = line != NULL;

    if (ok && t->cap - t->len < len + 2) {
        size_t cap = (t->cap + len + 2) * 2;
        char *data = realloc(t->data, cap);

        ok = data != NULL;
        if (ok) {
            t->data = data;
            t->cap = cap;
        }
    }
    if (ok) {
        memcpy(t->data + t->len, line, len);
        t->data[t->len + len] = '\n';
        t->len += len + 1;
        t->data[t->len] = '\0';
    }
    free(line);
    return ok;
}

/* A token of an example: its id and place, without the text, which would be there once a token. */
static json_t *token_of(const json_t *example, uint64_t token)
{
    const char *id = json_string_value(json_object_get(example, "id"));
    json_t *meta = json_copy(json_object_get(example, "meta"));

    json_object_set(meta, "example", json_object_get(example, "id"));
    json_object_set_new(meta, "token", json_integer((json_int_t)token));
    return json_pack("{s:o, s:o}", "id", json_sprintf("%s:%" PRIu64, id, token), "meta", meta);
}

/* --- Batches ---------------------------------------------------------------------------------- */

/* Units of the store: examples, or tokens when each is one. */
static uint64_t entries(const struct import *im)
{
    return im->tokens == IMPORT_EACH ? im->store->rows : im->store->items;
}

static bool sums(const struct import *im)
{
    return im->store->offsets && im->tokens == IMPORT_SUM;
}

static bool read_entries(const struct import *im, uint64_t first, uint64_t count, void *out,
                         char *why, size_t cap)
{
    float *to = out;

    if (!sums(im))
        return bergson_rows(im->store, first, count, out, why, cap);
    for (uint64_t i = 0; i < count; i++)
        if (!bergson_sum(im->store, first + i, to + i * im->store->dim, why, cap))
            return false;
    return true;
}

/* The example of entry `at`, which must be asked for in order; NULL with a reason. A new reference.
 */
static json_t *example_at(struct import *im, uint64_t at, char *why, size_t cap)
{
    const struct bergson *s = im->store;
    json_t *o;

    if (!s->offsets || im->tokens == IMPORT_SUM)
        return texts_next(im->texts, &o, why, cap) ? o : NULL;
    while (im->item == 0 || at >= (uint64_t)s->offsets[im->item]) {
        json_decref(im->example);
        im->example = NULL;
        if (!texts_next(im->texts, &im->example, why, cap))
            return NULL;
        im->item++;
    }
    return token_of(im->example, at - (uint64_t)s->offsets[im->item - 1]);
}

/* Judges entry `at`; 1: it goes in, 0: it is left out, -1: it ends the run. */
static int judge(struct import *im, const void *row, uint64_t at, char *why, size_t cap)
{
    const struct bergson *s = im->store;
    uint64_t bad, number = at + (im->tokens == IMPORT_EACH ? 0 : im->first);
    bool zero = look(row, bergson_dtype(s, sums(im)), s->dim, &bad);

    if (!zero && bad == s->dim)
        return 1;
    if (!ranges_add(zero ? &im->zero : &im->bad, number)) {
        snprintf(why, cap, "no memory");
        return -1;
    }
    if (zero || im->leave_out_bad)
        return 0;
    snprintf(why, cap, "%s: %s %" PRIu64 " is not finite: column %" PRIu64 ", module %.80s "
             "(--leave-out-bad goes on without such rows)", s->file,
             sums(im) ? "the sum of example" : "row", at, bad, bergson_block(s, bad));
    return -1;
}

static bool fill_rows(struct import *im, struct unit *u, uint64_t count, struct text *lines,
                      char *why, size_t cap)
{
    size_t row = (size_t)(im->store->dim * asc_dtype_size(bergson_dtype(im->store, sums(im))));
    char *rows = u->gradients;

    for (uint64_t i = 0; i < count; i++) {
        json_t *o = example_at(im, u->first_row + i, why, cap);
        int good = o ? judge(im, rows + i * row, u->first_row + i, why, cap) : -1;

        if (good > 0 && !add_line(lines, o)) {
            snprintf(why, cap, "example %" PRIu64 ": no memory for it", im->first + i);
            good = -1;
        }
        json_decref(o);
        if (good < 0)
            return false;
        if (good > 0 && u->rows != i)
            memcpy(rows + u->rows * row, rows + i * row, row);
        u->rows += good > 0;
    }
    return true;
}

static int fill(void *user, struct unit *u, char *why, size_t cap)
{
    struct import *im = user;
    size_t row = (size_t)(im->store->dim * asc_dtype_size(bergson_dtype(im->store, sums(im))));
    struct text lines = {0};
    uint64_t count;
    bool ok;

    u->first_row = u->position * im->rows_per_batch;
    count = entries(im) - u->first_row;
    if (count > im->rows_per_batch)
        count = im->rows_per_batch;
    u->gradients = malloc(count * row);
    ok = u->gradients != NULL;
    if (!ok)
        snprintf(why, cap, "no memory for %" PRIu64 " rows of %zu bytes", count, row);
    ok = ok && read_entries(im, u->first_row, count, u->gradients, why, cap) &&
         fill_rows(im, u, count, &lines, why, cap);
    u->lines = lines.data;
    u->lines_len = lines.len;
    u->bytes = count * row;
    if (ok && u->rows == 0)
        source_unit_free(u);
    return !ok ? -1 : u->gradients != NULL;
}

/* The line of a row says which example it is. */
static void name(void *user, const struct unit *u, uint64_t row, char *out, size_t cap)
{
    const struct import *im = user;
    const char *line = u->lines;

    for (uint64_t i = 0; i < row && line; i++) {
        line = strchr(line, '\n');
        line += line != NULL;
    }
    snprintf(out, cap, "%.60s, example %.*s", im->store->path,
             line ? (int)(strcspn(line, ",\n") < 60 ? strcspn(line, ",\n") : 60) : 1,
             line ? line : "?");
}

void import_open(struct import *im, struct source *source)
{
    const struct feed feed = {fill, name, im};
    enum asc_dtype t = bergson_dtype(im->store, sums(im));
    uint64_t row = im->store->dim * asc_dtype_size(t), count = entries(im);

    if (im->rows_per_batch == 0)
        im->rows_per_batch = source_rows_of(row);
    source_open_feed(source, &feed);
    source->feed_dtype = t;
    source->dim = im->store->dim;
    source->rows_total = count;
    source->bytes_total = count * row;
    source->units_total = (count + im->rows_per_batch - 1) / im->rows_per_batch;
}

void import_close(struct import *im)
{
    ranges_free(&im->zero);
    ranges_free(&im->bad);
    json_decref(im->example);
    *im = (struct import){0};
}
