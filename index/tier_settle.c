/* tier_settle.c - settles a window: raises the bars with its most promising rows, lets the next
 * tiers read the rows that may still reach them, and has the rest scored exactly. See tier_part.h.
 *
 * A row is out when its upper bound is below the bar, never when it is equal. What is settled
 * for a query, scored or out, is marked and not looked at again.
 */
#include <math.h>
#include <stdlib.h>

#include "index/tier_part.h"
#include "storage/base/mem.h"

/* --- raising the bars ------------------------------------------------------------------------- */

/* A row that looks best to the first tier. */
struct pick {
    double at;
    uint32_t w;
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

/* Offers the tile's rows that may enter at all. */
static void pick_tile(struct share *s, size_t i, int end, uint32_t from, size_t most,
                      struct pick *heap, size_t *count)
{
    double at[TIER_TILE], best = -INFINITY;
    struct bounds b;
    uint64_t may;

    tier_first_estimates(s, i, from, at);
    tier_first_scores(s, i, from, at, at);
    for (int n = 0; n < TIER_TILE; n++) {
        at[n] = end == TIER_PRO ? at[n] : -at[n];
        best = at[n] > best ? at[n] : best;
    }
    *tier_best(&s->w, i, end, from) = best;
    if (*count == most && best <= heap[0].at)
        return;
    tier_first_bounds(s, i, from, &b);
    may = tier_first_may(s, i, end, from, &b);
    for (; may; may &= may - 1) {
        const uint32_t n = (uint32_t)__builtin_ctzll(may);

        picks_offer(heap, count, most, (struct pick){at[n], from + n});
    }
}

/* The `most` rows of highest estimate at one end of query i, into a heap; returns how many. */
static size_t pick_best(struct share *s, size_t i, int end, size_t most, struct pick *heap)
{
    size_t count = 0;

    for (uint32_t from = 0; from < s->w.count; from += TIER_TILE)
        pick_tile(s, i, end, from, most, heap, &count);
    return count;
}

static int by_row(const void *a, const void *b)
{
    const struct pick *x = a, *y = b;

    return x->w < y->w ? -1 : x->w > y->w;
}

/* How many rows are tried to raise a bar. One bit orders them badly. */
static size_t tries(const struct tier *t, size_t k)
{
    return !k ? 0 : t->bits ? 2 * k + 32 : k;
}

/* Refines `count` picks of query i, tile by tile. */
static int refine_picks(struct share *s, uint32_t i, struct pick *picks, size_t count,
                        struct err *e)
{
    int failed = 0;

    qsort(picks, count, sizeof *picks, by_row);
    for (size_t n = 0; n < count && !failed;) {
        const uint32_t from = picks[n].w - picks[n].w % TIER_TILE;
        uint64_t mask = 0;

        for (; n < count && picks[n].w - from < TIER_TILE; n++)
            mask |= UINT64_C(1) << (picks[n].w - from); /* once, where picked at both ends */
        failed = tier_refine_tile(s, from, i, &mask, 1, e);
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
    failed = refine_picks(s, (uint32_t)i, picks, count, e);
    for (int end = 0; end < TIER_ENDS && !failed; end++)
        failed = tier_left_drain(s, i, end, e);
    for (size_t n = 0; n < count; n++)
        tier_set_settled(&s->w, i, picks[n].w); /* scored, or below a bar */
    return failed;
}

static int raise_all(struct share *s, struct err *e)
{
    const size_t pro = tries(s->t, s->t->q->k), opp = tries(s->t, s->t->q->opponents);
    struct pick *picks = mem_big(pro + opp, sizeof *picks);
    int failed = 0;

    if (!picks)
        return err_set(e, ERR_BUSY, "no memory to try %zu and %zu rows", pro, opp);
    for (size_t i = 0; i < s->t->q->count && !failed; i++) {
        failed = tier_cancelled(s, e);
        if (!failed)
            failed = raise_bars(s, i, picks, e);
    }
    free(picks);
    return failed;
}

/* --- the sweep -------------------------------------------------------------------------------- */

/* The tile's rows that the first tier leaves at either end of query i. */
static uint64_t left_by_first(const struct share *s, size_t i, uint32_t from)
{
    struct bounds b;
    uint64_t may = 0;
    bool any = false;

    for (int end = 0; end < TIER_ENDS && !any; end++)
        any = s->list[end] && tier_first_any(s, i, end, from);
    if (!any)
        return 0;
    tier_first_bounds(s, i, from, &b);
    for (int end = 0; end < TIER_ENDS; end++)
        if (s->list[end])
            may |= tier_first_may(s, i, end, from, &b);
    return may;
}

/* How many tiles from the one at `from` go together: those of one block, as that stays open. */
static uint32_t span_of(const struct window *w, uint32_t from)
{
    uint32_t tiles = 1;

    while (tiles < TIER_SPAN && from + tiles * TIER_TILE < w->count &&
           w->block[from + tiles * TIER_TILE] == w->block[from])
        tiles++;
    return tiles;
}

/* Tiles in a row: first which rows are left for which query; then groups of queries over the
 * rows, so that a group's planes are used for many of them. */
static int sweep_span(struct share *s, uint32_t from, uint32_t tiles, struct err *e)
{
    const size_t queries = s->t->q->count, group = tier_group(s->t);
    int failed = 0;

    for (uint32_t n = 0; n < tiles; n++)
        for (uint32_t i = 0; i < queries; i++)
            s->picked[n * queries + i] = left_by_first(s, i, from + n * TIER_TILE);
    for (size_t i = 0; i < queries && !failed; i += group)
        for (uint32_t n = 0; n < tiles && !failed; n++)
            failed = tier_refine_tile(s, from + n * TIER_TILE, (uint32_t)i,
                                      s->picked + n * queries + i,
                                      queries - i < group ? queries - i : group, e);
    return failed;
}

int tier_settle_window(struct share *s, struct err *e)
{
    int failed = tier_audit_window(s, e);

    if (!failed)
        failed = raise_all(s, e);
    for (uint32_t from = 0, tiles; from < s->w.count && !failed; from += tiles * TIER_TILE) {
        tiles = span_of(&s->w, from);
        failed = tier_cancelled(s, e);
        if (!failed)
            failed = sweep_span(s, from, tiles, e);
    }
    for (size_t i = 0; i < s->t->q->count && !failed; i++)
        for (int end = 0; end < TIER_ENDS && !failed; end++)
            failed = tier_left_drain(s, i, end, e);
    tier_held_drop(s, &s->scan);
    tier_held_drop(s, &s->rows);
    return failed;
}
