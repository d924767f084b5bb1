/* tier_settle.c - settles a window: raises the bars with its most promising rows, lets the next tiers
 * read the rows that may still reach them, and has the rest scored exactly. See tier_part.h.
 *
 * A row is out when its upper bound is below the bar, never when it is equal. What is settled for a
 * query, scored or out, is marked and not looked at again.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "index/code.h"
#include "index/qkern.h"
#include "index/tier_part.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

enum { TOGETHER = 32 }; /* queries that a row is refined for at a time */

static bool is_settled(const struct window *w, size_t i, uint32_t row)
{
    return w->settled[i * w->words + row / 64] >> (row % 64) & 1;
}

static void set_settled(struct window *w, size_t i, uint32_t row)
{
    w->settled[i * w->words + row / 64] |= UINT64_C(1) << (row % 64);
}

static double weight_of(const struct window *w, uint32_t row)
{
    return w->weight ? w->weight[row] : 1.0;
}

/* Q = 128 hi + lo, so its sums are too. */
static double whole_sum(int32_t hi, int32_t lo)
{
    return 128.0 * (double)hi + (double)lo;
}

struct bound tier_first(const struct share *s, size_t i, uint32_t w)
{
    const struct tier *t = s->t;
    const struct bound_query *q = &t->bounds[i];
    const double a = (double)s->w.factor[0][w], b = (double)s->w.factor[1][w];
    const double c = (double)s->w.factor[2][w];
    const int32_t hi = s->w.hi[i * s->w.room + w];

    if (t->fine) {
        const double sum = whole_sum(hi, s->w.lo[i * s->w.room + w]);

        return t->bits ? bound_one(q, sum, a, b, t->cut, t->reach, t->slack1)
                       : bound_six(q, sum, a, b, c);
    }
    return t->bits ? bound_one_hi(q, (double)hi, a, b, t->cut, t->reach, t->slack1)
                   : bound_six_hi(q, (double)hi, a, b, c);
}

static bool may_at_any(const struct share *s, size_t i, struct bound b, double weight)
{
    double upper;

    return (s->list[TIER_PRO] && tier_may(s->t, i, TIER_PRO, b, weight, &upper)) ||
           (s->list[TIER_OPP] && tier_may(s->t, i, TIER_OPP, b, weight, &upper));
}

/* --- what the eight-bit bound leaves ------------------------------------------------------------- */

static int by_upper(const void *a, const void *b)
{
    const struct left *x = a, *y = b;

    if (x->upper < y->upper || x->upper > y->upper)
        return x->upper > y->upper ? -1 : 1;
    return x->w < y->w ? -1 : x->w > y->w;
}

/* Scores the rows of one list, highest bound first, until no other can reach the bar. */
static int drain(struct share *s, size_t i, int end, struct err *e)
{
    struct lefts *l = &s->lefts[i * TIER_ENDS + (size_t)end];
    const struct bar *bar = &s->t->bars[i * TIER_ENDS + (size_t)end];
    int failed = 0;

    if (l->count > 1)
        qsort(l->at, l->count, sizeof *l->at, by_upper);
    for (size_t n = 0; n < l->count && !failed && !(l->at[n].upper < bar_at(bar)); n++) {
        if (is_settled(&s->w, i, l->at[n].w))
            continue; /* scored from the other end's list */
        set_settled(&s->w, i, l->at[n].w);
        failed = exact_one(s, i, l->at[n].w, e);
    }
    l->count = 0;
    return failed;
}

static int push(struct share *s, size_t i, int end, struct left left, struct err *e)
{
    struct lefts *l = &s->lefts[i * TIER_ENDS + (size_t)end];

    if (l->count == l->room) {
        size_t room = l->room ? 2 * l->room : 32;
        struct left *grown;

        if (l->count >= s->t->left_rows)
            return drain(s, i, end, e) ? (int)e->code : push(s, i, end, left, e);
        grown = reallocarray(l->at, room, sizeof *grown);
        if (!grown)
            return err_set(e, ERR_BUSY, "no memory for %zu rows left of query %zu", room, i);
        l->at = grown;
        l->room = room;
    }
    l->at[l->count++] = left;
    return 0;
}

/* --- the tiers after the first ------------------------------------------------------------------- */

/* A row while the next tiers read it for some queries, at most TOGETHER. */
struct refining {
    struct share *s;
    const struct held *h;
    uint32_t w, row; /* in the window; in the block */
    const uint32_t *query;
    size_t count;
    double six[TOGETHER], low[TOGETHER]; /* sums of Q c6, of Q (c8 & 3) */
};

static double factor_of(const struct refining *r, enum code_factor f)
{
    return (double)code_factor(r->h->plane[TIER_FACTORS], r->h->b.rows, f, r->row);
}

/* Sums of Q times the row's code in one plane, for the queries pick[0 .. count). With hi given, those
 * of hi are known. */
static void sum_row(const struct refining *r, qkern_dot *dot, const unsigned char *plane, size_t width,
                    const size_t *pick, size_t count, const int32_t *hi, double *out)
{
    const struct tier *t = r->s->t;
    const int8_t *planes[2 * TOGETHER] = {NULL};
    int32_t sums[2 * TOGETHER];
    size_t n = 0;

    for (size_t j = 0; j < count; j++) {
        const struct bound_query *q = &t->bounds[r->query[pick[j]]];

        if (!hi)
            planes[n++] = q->hi;
        planes[n++] = q->lo;
    }
    dot(plane + r->row * width, width, 1, planes, n, t->groups, sums);
    for (size_t j = 0; j < count; j++)
        out[pick[j]] = hi ? whole_sum(hi[pick[j]], sums[j])
                          : whole_sum(sums[2 * j], sums[2 * j + 1]);
}

/* The six-bit sums of all queries; from the first tier where it has them. */
static void sum_six(struct refining *r)
{
    const struct share *s = r->s;
    int32_t hi[TOGETHER];
    size_t pick[TOGETHER];

    for (size_t j = 0; j < r->count; j++) {
        const size_t at = r->query[j] * s->w.room + r->w;

        pick[j] = j;
        hi[j] = s->w.hi[at];
        if (s->t->fine && !s->t->bits)
            r->six[j] = whole_sum(hi[j], s->w.lo[at]);
    }
    if (s->t->fine && !s->t->bits)
        return;
    sum_row(r, qkern->dot_six, r->h->plane[TIER_SIX], s->t->groups * QKERN_SIX, pick, r->count,
            s->t->bits ? NULL : hi, r->six);
    s->work->rows_six += s->t->bits ? r->count : 0;
}

/* Queries that the six-bit bound leaves; returns how many. */
static size_t keep_six(const struct refining *r, size_t *pick)
{
    const double scale = factor_of(r, CODE_SCALE), rest = factor_of(r, CODE_REST6);
    const double length = factor_of(r, CODE_LENGTH6), weight = weight_of(&r->s->w, r->w);
    size_t count = 0;

    for (size_t j = 0; j < r->count; j++) {
        const uint32_t i = r->query[j];
        struct bound b = bound_six(&r->s->t->bounds[i], r->six[j], scale, rest, length);

        if (may_at_any(r->s, i, b, weight))
            pick[count++] = j;
    }
    return count;
}

/* Reads the low plane for queries pick[0 .. count) and lists what the eight-bit bound leaves. */
static int refine_low(struct refining *r, const size_t *pick, size_t count, struct err *e)
{
    struct share *s = r->s;
    const double scale = factor_of(r, CODE_SCALE), rest = factor_of(r, CODE_REST8);
    const double length = factor_of(r, CODE_LENGTH8), weight = weight_of(&s->w, r->w);
    int failed = 0;

    sum_row(r, qkern->dot_low, r->h->plane[TIER_LOW], s->t->groups * QKERN_LOW, pick, count, NULL,
            r->low);
    s->work->rows_low += count;
    for (size_t n = 0; n < count; n++) {
        const size_t j = pick[n], i = r->query[j];
        struct bound b = bound_eight(&s->t->bounds[i], 4.0 * r->six[j] + r->low[j], scale, rest,
                                     length);

        for (int end = 0; end < TIER_ENDS && !failed; end++) {
            struct left left = {.w = r->w};

            if (s->list[end] && tier_may(s->t, i, end, b, weight, &left.upper))
                failed = push(s, i, end, left, e);
        }
    }
    return failed;
}

/* All tiers after the first over row w, for `count` queries. Its block is open in s->scan. */
static int refine(struct share *s, uint32_t w, const uint32_t *query, size_t count, struct err *e)
{
    int failed = held_plane(s, &s->scan, TIER_FACTORS, e);

    if (!failed && (s->t->bits || !s->t->fine))
        failed = held_plane(s, &s->scan, TIER_SIX, e);
    for (size_t from = 0; from < count && !failed; from += TOGETHER) {
        struct refining r = {.s = s, .h = &s->scan, .w = w, .row = s->w.row[w],
                             .query = query + from};
        size_t pick[TOGETHER], left;

        r.count = count - from < TOGETHER ? count - from : TOGETHER;
        sum_six(&r);
        left = keep_six(&r, pick);
        if (left)
            failed = held_plane(s, &s->scan, TIER_LOW, e);
        if (left && !failed)
            failed = refine_low(&r, pick, left, e);
    }
    return failed;
}

/* --- raising the bars ---------------------------------------------------------------------------- */

/* A row that looks best to the first tier, for one query. */
struct pick {
    double at;
    uint32_t w, query;
};

static void picks_sift(struct pick *heap, size_t count, size_t i)
{
    for (size_t child; (child = 2 * i + 1) < count; i = child) {
        struct pick keep = heap[i];

        if (child + 1 < count && heap[child + 1].at < heap[child].at)
            child++;
        if (!(heap[child].at < keep.at))
            return;
        heap[i] = heap[child];
        heap[child] = keep;
    }
}

/* The `most` rows of highest estimate at one end of query i, into a heap; returns how many. */
static size_t pick_best(struct share *s, size_t i, int end, size_t most, struct pick *heap)
{
    size_t count = 0;

    for (uint32_t w = 0; w < s->w.count; w++) {
        const double weight = weight_of(&s->w, w);
        struct bound b = tier_first(s, i, w);
        double at = tier_score(s->t->q, i, b.at, weight), upper;

        at = end == TIER_PRO ? at : -at;
        if ((count == most && !(at > heap[0].at)) || is_settled(&s->w, i, w) ||
            !tier_may(s->t, i, end, b, weight, &upper))
            continue;
        if (count < most) {
            heap[count++] = (struct pick){at, w, (uint32_t)i};
            for (size_t n = count / 2; count == most && n-- > 0;)
                picks_sift(heap, count, n);
        } else {
            heap[0] = (struct pick){at, w, (uint32_t)i};
            picks_sift(heap, count, 0);
        }
    }
    return count;
}

static int by_row(const void *a, const void *b)
{
    const struct pick *x = a, *y = b;

    if (x->w != y->w)
        return x->w < y->w ? -1 : 1;
    return x->query < y->query ? -1 : x->query > y->query;
}

/* How many rows are tried to raise a bar. One bit orders them badly. */
static size_t tries(const struct tier *t, size_t k)
{
    return !k ? 0 : t->bits ? 2 * k + 32 : k;
}

/* Refines `count` picks in the order of rows. */
static int refine_picks(struct share *s, struct pick *picks, size_t count, struct err *e)
{
    int failed = 0;

    qsort(picks, count, sizeof *picks, by_row);
    for (size_t n = 0; n < count && !failed; n++) {
        if (n && by_row(&picks[n - 1], &picks[n]) == 0)
            continue; /* picked at both ends */
        failed = held_take(s, &s->scan, s->w.block[picks[n].w], e);
        if (!failed)
            failed = refine(s, picks[n].w, &picks[n].query, 1, e);
    }
    return failed;
}

/* Query i's most promising rows, scored exactly: after it, its bars are near what they end as. */
static int raise_bars(struct share *s, size_t i, struct pick *picks, struct err *e)
{
    const size_t pro = tries(s->t, s->t->q->k), opp = tries(s->t, s->t->q->opponents);
    size_t count = pro ? pick_best(s, i, TIER_PRO, pro, picks) : 0;
    int failed;

    count += opp ? pick_best(s, i, TIER_OPP, opp, picks + count) : 0;
    failed = refine_picks(s, picks, count, e);
    for (int end = 0; end < TIER_ENDS && !failed; end++)
        failed = drain(s, i, end, e);
    for (size_t n = 0; n < count; n++)
        set_settled(&s->w, i, picks[n].w); /* scored, or below a bar */
    return failed;
}

static int raise_all(struct share *s, struct err *e)
{
    const size_t pro = tries(s->t, s->t->q->k), opp = tries(s->t, s->t->q->opponents);
    struct pick *picks = mem_big(pro + opp, sizeof *picks);
    int failed = 0;

    if (!picks)
        return err_set(e, ERR_BUSY, "no memory to try %zu and %zu rows", pro, opp);
    for (size_t i = 0; i < s->t->q->count && !failed; i++)
        failed = raise_bars(s, i, picks, e);
    free(picks);
    return failed;
}

/* --- the sweep ----------------------------------------------------------------------------------- */

/* Rows from .. to-1 of the window, all of one block. */
static int sweep_tile(struct share *s, uint32_t from, uint32_t to, struct err *e)
{
    uint32_t count[TIER_TILE] = {0};
    int failed = 0;

    for (uint32_t i = 0; i < s->t->q->count; i++)
        for (uint32_t w = from; w < to; w++)
            if (!is_settled(&s->w, i, w) &&
                may_at_any(s, i, tier_first(s, i, w), weight_of(&s->w, w)))
                s->bucket[(w - from) * s->t->q->count + count[w - from]++] = i;
    for (uint32_t w = from; w < to && !failed; w++) {
        if (!count[w - from])
            continue;
        failed = held_take(s, &s->scan, s->w.block[w], e);
        if (!failed)
            failed = refine(s, w, s->bucket + (w - from) * s->t->q->count, count[w - from], e);
    }
    return failed;
}

static int sweep(struct share *s, struct err *e)
{
    int failed = 0;

    for (uint32_t from = 0, to; from < s->w.count && !failed; from = to) {
        for (to = from + 1; to < s->w.count && to - from < TIER_TILE &&
                            s->w.block[to] == s->w.block[from]; to++)
            ;
        failed = sweep_tile(s, from, to, e);
    }
    return failed;
}

int window_settle(struct share *s, struct err *e)
{
    int failed = window_audit(s, e);

    if (!failed)
        failed = raise_all(s, e);
    if (!failed)
        failed = sweep(s, e);
    for (size_t i = 0; i < s->t->q->count && !failed; i++)
        for (int end = 0; end < TIER_ENDS && !failed; end++)
            failed = drain(s, i, end, e);
    held_drop(s, &s->scan);
    held_drop(s, &s->rows);
    return failed;
}
