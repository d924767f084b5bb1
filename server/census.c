/* census.c - see census.h. */
#include "server/census.h"

#include <stdlib.h>
#include <string.h>

#define TILE_BYTES (64u << 20) /* of scores in memory */

/* ---- places ---------------------------------------------------------------------------------- */

/* A fence stands right after one row in the order of proponents (score descending, then row); what
 * is counted are the rows between two fences. A fence without a row stands after all rows of its
 * score. */
struct fence {
    double score;
    uint64_t row;
};

struct fences {
    struct fence *at;  /* in order */
    uint64_t *between; /* rows after fence i - 1, up to and with fence i's; at last their sums */
    size_t count;
};

static bool stands_before(double score, uint64_t row, const struct fence *f)
{
    return score > f->score || (score == f->score && row < f->row);
}

static int by_place(const void *a, const void *b)
{
    const struct fence *x = a, *y = b;

    return stands_before(y->score, y->row, x) - stands_before(x->score, x->row, y);
}

/* The first fence that does not stand before the row. */
static size_t fence_of(const struct fences *f, double score, uint64_t row)
{
    size_t low = 0, high = f->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct fence at = {score, row};

        if (stands_before(f->at[middle].score, f->at[middle].row, &at))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Of each place two: one for its rank, one for what lies below all of its score. */
static int fences_init(struct fences *f, const struct census_query *q, struct arena *a,
                       struct err *e)
{
    size_t room = 2 * q->place_count + 1;

    *f = (struct fences){.at = arena_big(a, room, sizeof *f->at),
                         .between = arena_big(a, room, sizeof *f->between)};
    if (!f->at || !f->between)
        return err_set(e, ERR_BUSY, "no memory for the places of %zu scores", q->place_count);
    for (size_t i = 0; i < q->place_count; i++) {
        const struct census_place *p = &q->places[i];

        f->at[f->count++] = (struct fence){p->score, CENSUS_NO_ROW};
        if (p->row != CENSUS_NO_ROW)
            f->at[f->count++] = (struct fence){p->score, p->row};
    }
    qsort(f->at, f->count, sizeof *f->at, by_place);
    memset(f->between, 0, room * sizeof *f->between);
    return 0;
}

static void fences_tell(struct fences *f, uint64_t live, struct census_query *q)
{
    for (size_t i = 1; i < f->count; i++)
        f->between[i] += f->between[i - 1];
    for (size_t i = 0; i < q->place_count; i++) {
        struct census_place *p = &q->places[i];

        p->below = live - f->between[fence_of(f, p->score, CENSUS_NO_ROW)];
        if (p->row != CENSUS_NO_ROW)
            p->rank = f->between[fence_of(f, p->score, p->row)];
    }
}

/* ---- one pass -------------------------------------------------------------------------------- */

struct taking {
    const struct scan *scan;
    struct census *c;
    struct fences *fences; /* one a query */
};

static size_t bin_of(const struct census_query *q, size_t bins, double score)
{
    double width = q->high - q->low, at = (score - q->low) / width * (double)bins;

    if (!(width > 0) || !(at > 0))
        return 0;
    return at < (double)bins ? (size_t)at : bins - 1;
}

/* `count` scores of query q, the first of them of live row `row`. */
static void take_scores(const struct taking *t, size_t q, const double *scores, size_t row,
                        size_t count)
{
    const struct groups *g = t->c->groups;
    const struct census_query *of = &t->c->of[q];
    const struct fences *f = &t->fences[q];

    for (size_t i = 0; f->count && i < count; i++)
        f->between[fence_of(f, scores[i], row + i)]++;
    for (size_t i = 0; of->bins && i < count; i++)
        of->bins[bin_of(of, t->c->bins, scores[i])]++;
    for (size_t i = 0; g && i < count; i++) {
        struct groups_sum *sum = &of->sums[g->rows[row + i]];

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

    t->fences = arena_new(a, c->count, sizeof *t->fences);
    for (size_t q = 0; !code && q < c->count; q++) {
        code = fences_init(&t->fences[q], &c->of[q], a, e);
        if (c->bins)
            c->of[q].bins = arena_new(a, c->bins, sizeof *c->of[q].bins);
        if (c->groups)
            c->of[q].sums = arena_new(a, c->groups->count + 1, sizeof *c->of[q].sums);
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
    for (size_t q = 0; !code && q < c->count; q++)
        fences_tell(&t.fences[q], s->view->live, &c->of[q]);
    return code;
}
