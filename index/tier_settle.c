/* tier_settle.c - settles a window: raises the bars with its most promising rows, lets the next
 * tiers read the rows that may still reach them, and has the rest scored exactly. See tier_part.h.
 *
 * A row is out when its upper bound is below the bar, never when it is equal. What is settled
 * for a query, scored or out, is marked and not looked at again.
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

static bool may_at_any(const struct share *s, size_t i, struct bound b, double weight)
{
    double upper;

    return (s->list[TIER_PRO] && tier_may(s->t, i, TIER_PRO, b, weight, &upper)) ||
           (s->list[TIER_OPP] && tier_may(s->t, i, TIER_OPP, b, weight, &upper));
}

/* --- what the eight-bit bound leaves
 * ------------------------------------------------------------- */

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

/* --- the tiers after the first
 * ------------------------------------------------------------------- */

/* The first tier's bound is all there is before the exact kernel. */
static bool is_enough(const struct tier *t)
{
    return t->odds && !t->bits;
}

/* A row while the next tiers read it for some queries, at most TOGETHER. */
struct refining {
    struct share *s;
    const struct held *h;
    uint32_t w, row; /* in the window; in the block */
    const uint32_t *query;
    size_t count;
    double six[TOGETHER]; /* sums of Q c6 */
};

static double factor_of(const struct refining *r, enum code_factor f)
{
    return (double)code_factor(r->h->plane[TIER_FACTORS], r->h->b.rows, f, r->row);
}

/* Which parts of the queries a row is multiplied with. */
enum part { PART_HI = 1, PART_LO = 2 };

/* Sums over one row of a plane for the queries pick[0 .. count): of hi, of lo, or of both as
 * they lie one after the other. */
static void sum_row(const struct refining *r, qkern_dot *dot, const unsigned char *plane,
                    size_t width, const size_t *pick, size_t count, unsigned parts,
                    int32_t out[2 * TOGETHER])
{
    const int8_t *planes[2 * TOGETHER] = {NULL};
    size_t n = 0;

    for (size_t j = 0; j < count; j++) {
        const struct bound_query *q = &r->s->t->bounds[r->query[pick ? pick[j] : j]];

        if (parts & PART_HI)
            planes[n++] = q->hi;
        if (parts & PART_LO)
            planes[n++] = q->lo;
    }
    dot(plane + r->row * width, width, 1, planes, n, r->s->t->groups, out);
}

/* A row of a plane that is read for few rows, a moment before. */
static void tell_ahead(struct share *s, struct held *h, enum tier_plane p, uint32_t row,
                       size_t width)
{
    const struct tier_source *src = s->t->src;

    if (src->ahead)
        src->ahead(src->arg, &h->b, p, row * width, width);
}

/* The six-bit sums of all queries; as far as the first tier has them, its own. */
static void sum_six(struct refining *r)
{
    const struct share *s = r->s;
    const struct tier *t = s->t;
    const size_t width = t->groups * QKERN_SIX;
    int32_t sums[2 * TOGETHER];

    if (t->bits) {
        sum_row(r, qkern->dot_six, r->h->plane[TIER_SIX], width, NULL, r->count,
                PART_HI | PART_LO, sums);
        s->work->rows_six += r->count;
    } else if (!t->fine) {
        sum_row(r, qkern->dot_six, r->h->plane[TIER_SIX], width, NULL, r->count, PART_LO, sums);
    }
    for (size_t j = 0; j < r->count; j++) {
        const size_t at = r->query[j] * s->w.room + r->w;

        if (t->bits)
            r->six[j] = tier_whole(sums[2 * j], sums[2 * j + 1]);
        else
            r->six[j] = tier_whole(s->w.hi[at], t->fine ? s->w.lo[at] : sums[j]);
    }
}

/* Lists row w for query r->query[j] where the eight-bit bound leaves it. */
static int list(struct refining *r, size_t j, struct bound b, double weight, struct err *e)
{
    const size_t i = r->query[j];
    int failed = 0;

    for (int end = 0; end < TIER_ENDS && !failed; end++) {
        struct left left = {.w = r->w};

        if (r->s->list[end] && tier_may(r->s->t, i, end, b, weight, &left.upper))
            failed = push(r->s, i, end, left, e);
    }
    return failed;
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

/* Probabilistic: six bits say enough for the exact kernel to go on with. */
static int list_six(struct refining *r, struct err *e)
{
    const struct tier *t = r->s->t;
    const double scale = factor_of(r, CODE_SCALE), rest = factor_of(r, CODE_REST6);
    const double length6 = factor_of(r, CODE_LENGTH6), length = factor_of(r, CODE_LENGTH);
    const double weight = weight_of(&r->s->w, r->w);
    int failed = 0;

    for (size_t j = 0; j < r->count && !failed; j++) {
        const struct bound_query *q = &t->bounds[r->query[j]];
        struct bound b = bound_six(q, r->six[j], scale, rest, length6);

        b = bound_odds(q, b, q->rest, rest, length6, length, t->cut, t->slack);
        failed = list(r, j, b, weight, e);
    }
    return failed;
}

/* Reads the low plane for queries pick[0 .. count). */
static int refine_low(struct refining *r, const size_t *pick, size_t count, struct err *e)
{
    const struct tier *t = r->s->t;
    const double scale = factor_of(r, CODE_SCALE), length = factor_of(r, CODE_LENGTH8);
    const double rest6 = factor_of(r, CODE_REST6), rest8 = factor_of(r, CODE_REST8);
    const double weight = weight_of(&r->s->w, r->w);
    int32_t low[2 * TOGETHER];
    int failed = 0;

    sum_row(r, qkern->dot_low, r->h->plane[TIER_LOW], t->groups * QKERN_LOW, pick, count, PART_HI,
            low);
    r->s->work->rows_low += count;
    for (size_t n = 0; n < count && !failed; n++) {
        const size_t j = pick[n];
        struct bound b = bound_eight(&t->bounds[r->query[j]], r->six[j], (double)low[n], scale,
                                     rest6, rest8, length);

        failed = list(r, j, b, weight, e);
    }
    return failed;
}

/* Certified: two more bits for what six leave. */
static int refine_six(struct refining *r, struct err *e)
{
    size_t pick[TOGETHER];
    const size_t left = keep_six(r, pick);
    int failed = left ? held_plane(r->s, &r->s->scan, TIER_LOW, e) : 0;

    if (left && !failed)
        tell_ahead(r->s, &r->s->scan, TIER_LOW, r->row, r->s->t->groups * QKERN_LOW);
    return left && !failed ? refine_low(r, pick, left, e) : failed;
}

/* All tiers after the first over row w, for `count` queries. */
static int refine(struct share *s, uint32_t w, const uint32_t *query, size_t count, struct err *e)
{
    int failed = held_take(s, &s->scan, s->w.block[w], e);

    if (!failed)
        failed = held_plane(s, &s->scan, TIER_FACTORS, e);
    if (!failed && (s->t->bits || !s->t->fine))
        failed = held_plane(s, &s->scan, TIER_SIX, e);
    for (size_t from = 0; from < count && !failed; from += TOGETHER) {
        struct refining r = {.s = s, .h = &s->scan, .w = w, .row = s->w.row[w],
                             .query = query + from};

        r.count = count - from < TOGETHER ? count - from : TOGETHER;
        sum_six(&r);
        failed = s->t->odds ? list_six(&r, e) : refine_six(&r, e);
    }
    return failed;
}

/* Lists row w for query i by what the first tier says: with many queries and odds, that is
 * enough. */
static int list_first(struct share *s, uint32_t w, uint32_t i, struct err *e)
{
    struct refining r = {.s = s, .w = w, .query = &i, .count = 1};
    struct bounds b;

    first_bounds(s, i, w - w % TIER_TILE, &b);
    return list(&r, 0, (struct bound){b.at[w % TIER_TILE], b.off[w % TIER_TILE]},
                weight_of(&s->w, w), e);
}

/* --- raising the bars
 * ---------------------------------------------------------------------------- */

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

static void picks_offer(struct pick *heap, size_t *count, size_t most, struct pick p)
{
    if (*count < most) {
        heap[(*count)++] = p;
        for (size_t n = *count / 2; *count == most && n-- > 0;)
            picks_sift(heap, *count, n);
    } else if (p.at > heap[0].at) {
        heap[0] = p;
        picks_sift(heap, *count, 0);
    }
}

/* The `most` rows of highest estimate at one end of query i, into a heap; returns how many. */
static size_t pick_best(struct share *s, size_t i, int end, size_t most, struct pick *heap)
{
    size_t count = 0;

    for (uint32_t from = 0; from < s->w.count; from += TIER_TILE) {
        double at[TIER_TILE];
        struct bounds b;
        uint64_t may;

        first_bounds(s, i, from, &b);
        may = first_may(s, i, end, from, &b);
        first_scores(s, i, from, b.at, at);
        for (; may; may &= may - 1) {
            const uint32_t n = (uint32_t)__builtin_ctzll(may);

            picks_offer(heap, &count, most,
                        (struct pick){end == TIER_PRO ? at[n] : -at[n], from + n, (uint32_t)i});
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
        failed = is_enough(s->t) ? list_first(s, picks[n].w, picks[n].query, e)
                                 : refine(s, picks[n].w, &picks[n].query, 1, e);
    }
    return failed;
}

/* Query i's most promising rows, scored exactly: after it, its bars are near what they end as. */
static int raise_bars(struct share *s, size_t i, struct pick *picks, struct err *e)
{
    const size_t pro = tries(s->t, tier_k(s->t->q, i, TIER_PRO));
    const size_t opp = tries(s->t, tier_k(s->t->q, i, TIER_OPP));
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

/* --- the sweep
 * ----------------------------------------------------------------------------------- */

/* The tile's rows that the first tier leaves at either end of query i. */
static uint64_t left_by_first(const struct share *s, size_t i, uint32_t from)
{
    struct bounds b;
    uint64_t may = 0;

    first_bounds(s, i, from, &b);
    for (int end = 0; end < TIER_ENDS; end++)
        if (s->list[end])
            may |= first_may(s, i, end, from, &b);
    return may;
}

/* The rows of six bits that a tile's queries want: where they are not in memory, one wait for
 * all. */
static int tell_tile(struct share *s, uint32_t from, const uint32_t count[TIER_TILE], struct err *e)
{
    int failed = 0;

    for (uint32_t n = 0; n < TIER_TILE && !failed; n++) {
        if (!count[n])
            continue;
        failed = held_take(s, &s->scan, s->w.block[from + n], e);
        if (!failed)
            failed = held_plane(s, &s->scan, TIER_SIX, e);
        if (!failed)
            tell_ahead(s, &s->scan, TIER_SIX, s->w.row[from + n], s->t->groups * QKERN_SIX);
    }
    return failed;
}

/* Queries are the outer loop over the sums, rows over the planes: each is read side by side. */
static int sweep_tile(struct share *s, uint32_t from, struct err *e)
{
    const size_t queries = s->t->q->count;
    uint32_t count[TIER_TILE] = {0};
    int failed = 0;

    for (uint32_t i = 0; i < queries; i++)
        for (uint64_t may = left_by_first(s, i, from); may; may &= may - 1) {
            const size_t n = (size_t)__builtin_ctzll(may);

            s->bucket[n * queries + count[n]++] = i;
        }
    if (s->t->bits && s->t->src->ahead && !is_enough(s->t))
        failed = tell_tile(s, from, count, e);
    for (uint32_t n = 0; n < TIER_TILE && !failed; n++) {
        if (count[n] && !is_enough(s->t))
            failed = refine(s, from + n, s->bucket + n * queries, count[n], e);
        for (uint32_t j = 0; j < count[n] && is_enough(s->t) && !failed; j++)
            failed = list_first(s, from + n, s->bucket[n * queries + j], e);
    }
    return failed;
}

int window_settle(struct share *s, struct err *e)
{
    int failed = window_audit(s, e);

    if (!failed)
        failed = raise_all(s, e);
    for (uint32_t from = 0; from < s->w.count && !failed; from += TIER_TILE)
        failed = sweep_tile(s, from, e);
    for (size_t i = 0; i < s->t->q->count && !failed; i++)
        for (int end = 0; end < TIER_ENDS && !failed; end++)
            failed = drain(s, i, end, e);
    held_drop(s, &s->scan);
    held_drop(s, &s->rows);
    return failed;
}
