/* groups.c - see groups.h. */
#include "server/groups.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/json.h"
#include "server/limits.h"
#include "storage/text.h"

enum { SLOTS = 4096, VALUE_BYTES = 256 }; /* LIMIT_GROUPS fills a quarter of the slots */

struct grouping {
    const struct filter_path *path;
    struct arena *arena;
    const char **values;
    size_t count;
    uint16_t slots[SLOTS]; /* value + 1 */
    uint32_t *rows, *next;
    struct buf text; /* the value in hand */
};

/* A whole number as such, whatever it was written as. */
static void put_number(struct buf *b, double v)
{
    if (v == floor(v) && fabs(v) < 1e15)
        buf_format(b, "%.0f", v);
    else
        json_put_short(b, v);
}

static void put_value(struct buf *b, const json_t *value)
{
    if (!value)
        buf_add_text(b, "null");
    else if (json_is_number(value))
        put_number(b, json_number_value(value));
    else
        json_put_canonical(b, value);
}

/* The number of the value in hand; g->count when it has no place. */
static uint32_t find_value(struct grouping *g)
{
    uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a */
    size_t at;

    if (g->text.len > VALUE_BYTES)
        return UINT32_MAX;
    for (size_t i = 0; i < g->text.len; i++)
        hash = (hash ^ g->text.data[i]) * UINT64_C(1099511628211);
    for (at = hash % SLOTS; g->slots[at]; at = (at + 1) % SLOTS) {
        const char *value = g->values[g->slots[at] - 1];

        if (strlen(value) == g->text.len && memcmp(value, g->text.data, g->text.len) == 0)
            return g->slots[at] - 1u;
    }
    if (g->count == LIMIT_GROUPS)
        return UINT32_MAX;
    g->values[g->count] = arena_copy(g->arena, g->text.data, g->text.len);
    g->slots[at] = (uint16_t)++g->count;
    return (uint32_t)g->count - 1;
}

static int group_row(struct grouping *g, struct text_reader *r, uint32_t row, struct err *e)
{
    const char *text, *meta;
    size_t text_len, meta_len;
    json_t *tree = NULL;
    int code = text_reader_row(r, row, &text, &text_len, &meta, &meta_len, e);

    if (!code)
        code = filter_meta(meta, meta_len, &tree, e);
    if (code)
        return code;
    g->text.len = 0;
    put_value(&g->text, filter_find(tree, g->path));
    if (tree)
        json_decref(tree);
    if (g->text.failed)
        return err_set(e, ERR_BUSY, "no memory for a value");
    *g->next++ = find_value(g);
    return 0;
}

static int group_chunk(struct grouping *g, const struct view_chunk *c, struct err *e)
{
    struct text_reader r;
    struct block texts;
    int code;

    if (c->dead_count == c->rows)
        return 0;
    code = block_open(c, BLOCK_TEXTS, &texts, e);
    if (code)
        return code;
    code = text_reader_open(&r, texts.bytes, texts.len, c->rows, e);
    for (uint32_t row = 0; !code && row < c->rows; row++)
        if (!view_row_dead(c, row))
            code = group_row(g, &r, row, e);
    text_reader_close(&r);
    block_close(&texts);
    return code;
}

int groups_read(const struct view *v, const struct filter_path *path, const struct stop *stop,
                struct arena *a, struct groups *out, struct err *e)
{
    struct grouping *g = arena_new(a, 1, sizeof *g);
    int code = 0;

    g->path = path;
    g->arena = a;
    g->values = arena_new(a, LIMIT_GROUPS, sizeof *g->values);
    g->rows = g->next = arena_big(a, v->live ? v->live : 1, sizeof *g->rows);
    if (!g->rows)
        return err_set(e, ERR_BUSY, "no memory to group %" PRIu64 " examples", v->live);
    for (size_t i = 0; !code && i < v->chunk_count; i++) {
        if (stop_asked(stop))
            code = err_set(e, ERR_CANCELLED, "stopped while grouping");
        else
            code = group_chunk(g, &v->chunks[i], e);
    }
    buf_free(&g->text);
    for (uint32_t *row = g->rows; !code && row < g->next; row++)
        if (*row == UINT32_MAX)
            *row = (uint32_t)g->count;
    *out = (struct groups){g->count, g->values, g->rows};
    return code;
}

/* ---- as JSON --------------------------------------------------------------------------------- */

static void put_sum(struct buf *b, const struct groups_sum *s)
{
    buf_format(b, "\"count\":%" PRIu64 ",\"sum\":", s->count);
    json_put_real(b, s->sum);
    buf_add_text(b, ",\"mean\":");
    json_put_real(b, s->sum / (double)s->count); /* a group has a row */
    buf_add(b, "}", 1);
}

static int by_sum(const void *a, const void *b, void *sums)
{
    const struct groups_sum *list = sums;
    const uint32_t *x = a, *y = b;

    if (list[*x].sum != list[*y].sum)
        return list[*x].sum > list[*y].sum ? -1 : 1;
    return (*x > *y) - (*x < *y);
}

void groups_put(struct buf *b, const struct groups *g, const struct groups_sum *sums)
{
    uint32_t order[LIMIT_GROUPS];

    for (uint32_t i = 0; i < g->count; i++)
        order[i] = i;
    qsort_r(order, g->count, sizeof order[0], by_sum, (void *)(uintptr_t)sums);
    buf_add_text(b, ",\"groups\":[");
    for (size_t i = 0; i < g->count; i++) {
        buf_add_text(b, i ? ",{\"value\":" : "{\"value\":");
        buf_add_text(b, g->values[order[i]]);
        buf_add(b, ",", 1);
        put_sum(b, &sums[order[i]]);
    }
    buf_add_text(b, "],\"groups_other\":");
    if (sums[g->count].count) {
        buf_add(b, "{", 1);
        put_sum(b, &sums[g->count]);
    } else {
        buf_add_text(b, "null");
    }
}
