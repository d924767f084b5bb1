/* census.c - see census.h. */
#include "server/census.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/json.h"
#include "server/limits.h"
#include "storage/text.h"

#define TILE_BYTES (64u << 20) /* of scores in memory */

/* ---- groups ---------------------------------------------------------------------------------- */

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

int census_group(const struct view *v, const struct filter_path *path, const struct stop *stop,
                 struct arena *a, struct census_groups *out, struct err *e)
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
    *out = (struct census_groups){g->count, g->values, g->rows};
    return code;
}

/* ---- all scores ------------------------------------------------------------------------------ */

/* One query's thresholds: the scores of its hits, ascending, and how many scores fell just below
 * each (between the one before and it). */
struct marks {
    double *at;
    uint64_t *fell;
    size_t count;
};

static int by_score(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* How many of the marks are at most `score`. */
static size_t marks_passed(const struct marks *m, double score)
{
    size_t low = 0, high = m->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (m->at[middle] <= score)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int marks_init(struct marks *m, const struct topk *pro, const struct topk *opp,
                      struct arena *a, struct err *e)
{
    size_t count = pro->count + opp->count;

    *m = (struct marks){.at = arena_big(a, count + 1, sizeof *m->at),
                        .fell = arena_big(a, count + 1, sizeof *m->fell)};
    if (!m->at || !m->fell)
        return err_set(e, ERR_BUSY, "no memory for the places of %zu hits", count);
    for (size_t i = 0; i < pro->count; i++)
        m->at[m->count++] = pro->hits[i].score;
    for (size_t i = 0; i < opp->count; i++)
        m->at[m->count++] = opp->hits[i].score;
    qsort(m->at, m->count, sizeof *m->at, by_score);
    memset(m->fell, 0, (count + 1) * sizeof *m->fell);
    return 0;
}

/* From "fell just below" to "below". */
static void marks_add_up(struct marks *m)
{
    for (size_t i = 1; i <= m->count; i++)
        m->fell[i] += m->fell[i - 1];
}

static uint64_t *marks_below(const struct marks *m, const struct topk *list, struct arena *a)
{
    uint64_t *below = arena_new(a, list->count + 1, sizeof *below);

    for (size_t i = 0; i < list->count; i++) {
        size_t first = 0, end = m->count; /* of the marks that are not below the hit */

        while (first < end) {
            size_t middle = first + (end - first) / 2;

            if (m->at[middle] < list->hits[i].score)
                first = middle + 1;
            else
                end = middle;
        }
        below[i] = m->fell[first];
    }
    return below;
}

struct taking {
    const struct scan *scan;
    struct census *c;
    struct marks *marks; /* one a query, or NULL */
};

/* `count` scores of query q, the first of them of live row `row`. */
static void take_scores(const struct taking *t, size_t q, const double *scores, size_t row,
                        size_t count)
{
    const struct census_groups *g = t->c->groups;

    for (size_t i = 0; t->marks && i < count; i++)
        t->marks[q].fell[marks_passed(&t->marks[q], scores[i])]++;
    for (size_t i = 0; g && i < count; i++) {
        struct census_sum *sum = &t->c->sums[q][g->rows[row + i]];

        sum->count++;
        sum->sum += scores[i];
    }
}

/* Chunks from `first` whose live rows fit into `room`; at least one chunk. */
static size_t segment(const struct view *v, size_t first, size_t room, size_t *out_rows)
{
    size_t end = first, rows = 0;

    while (end < v->chunk_count && (end == first || rows + scan_live(&v->chunks[end]) <= room))
        rows += scan_live(&v->chunks[end++]);
    *out_rows = rows;
    return end;
}

/* Queries q .. q+count-1 over all rows. */
static int take_queries(const struct taking *t, size_t q, size_t count, struct err *e)
{
    const struct view *v = t->scan->view;
    size_t dim = corpus_def(v->corpus)->dim, row = 0;
    struct scan_scores want = {.vectors = t->c->vectors + q * dim, .count = count};
    struct scan scan = *t->scan;
    int code = 0;

    scan.lengths = t->c->lengths ? t->c->lengths + q : NULL;

    while (!code && want.first < v->chunk_count) {
        struct arena own = {0};

        want.end = segment(v, want.first, TILE_BYTES / sizeof(double) / count, &want.stride);
        want.out = arena_big(&own, count * want.stride + 1, sizeof *want.out);
        if (want.out)
            code = scan_score(&scan, &want, &own, e);
        else
            code = err_set(e, ERR_BUSY, "no memory for %zu x %zu scores", count, want.stride);
        for (size_t i = 0; !code && i < count; i++)
            take_scores(t, q + i, want.out + i * want.stride, row, want.stride);
        row += want.stride;
        want.first = want.end;
        arena_free(&own);
    }
    return code;
}

/* So many at once that one chunk of any size fits into a tile. */
static size_t queries_at_once(const struct view *v)
{
    size_t most = 1, at_once;

    for (size_t i = 0; i < v->chunk_count; i++)
        if (scan_live(&v->chunks[i]) > most)
            most = scan_live(&v->chunks[i]);
    at_once = TILE_BYTES / sizeof(double) / most;
    return at_once ? at_once : 1;
}

static int prepare(struct taking *t, struct arena *a, struct err *e)
{
    struct census *c = t->c;
    int code = 0;

    if (c->pro)
        t->marks = arena_new(a, c->count, sizeof *t->marks);
    if (c->groups)
        c->sums = arena_new(a, c->count, sizeof *c->sums);
    for (size_t q = 0; !code && q < c->count; q++) {
        if (t->marks)
            code = marks_init(&t->marks[q], &c->pro[q], &c->opp[q], a, e);
        if (c->groups)
            c->sums[q] = arena_new(a, c->groups->count + 1, sizeof **c->sums);
    }
    return code;
}

int census_take(const struct scan *s, struct census *c, struct arena *a, struct err *e)
{
    struct taking t = {.scan = s, .c = c};
    size_t together = queries_at_once(s->view);
    int code = prepare(&t, a, e);

    for (size_t q = 0; !code && q < c->count; q += together)
        code = take_queries(&t, q, c->count - q < together ? c->count - q : together, e);
    if (code || !t.marks)
        return code;
    c->below_pro = arena_new(a, c->count, sizeof *c->below_pro);
    c->below_opp = arena_new(a, c->count, sizeof *c->below_opp);
    for (size_t q = 0; q < c->count; q++) {
        marks_add_up(&t.marks[q]);
        c->below_pro[q] = marks_below(&t.marks[q], &c->pro[q], a);
        c->below_opp[q] = marks_below(&t.marks[q], &c->opp[q], a);
    }
    return 0;
}

/* ---- groups as JSON -------------------------------------------------------------------------- */

static void put_sum(struct buf *b, const struct census_sum *s)
{
    buf_format(b, "\"count\":%" PRIu64 ",\"sum\":", s->count);
    json_put_real(b, s->sum);
    buf_add_text(b, ",\"mean\":");
    json_put_real(b, s->sum / (double)s->count); /* a group has a row */
    buf_add(b, "}", 1);
}

static int by_sum(const void *a, const void *b, void *sums)
{
    const struct census_sum *list = sums;
    const uint32_t *x = a, *y = b;

    if (list[*x].sum != list[*y].sum)
        return list[*x].sum > list[*y].sum ? -1 : 1;
    return (*x > *y) - (*x < *y);
}

void census_put_groups(struct buf *b, const struct census_groups *g, const struct census_sum *sums)
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
