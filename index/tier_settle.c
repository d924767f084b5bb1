/* tier_settle.c - settles a window: raises the bars with its most promising rows, lets the next
 * tiers read the rows that may still reach them, and has the rest scored exactly. See tier_part.h.
 *
 * A row is out when its upper bound is below the bar, never when it is equal. What is settled
 * for a query, scored or out, is marked and not looked at again.
 */
#include <math.h>
#include <stdlib.h>

#include "index/qkern.h"
#include "index/tier_part.h"
#include "storage/base/mem.h"

/* --- raising the bars ------------------------------------------------------------------------- */

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
    if (*count == most && best <= heap[0].at)
        return;
    tier_first_bounds(s, i, from, &b);
    may = tier_first_may(s, i, end, from, &b);
    for (; may; may &= may - 1) {
        const uint32_t n = (uint32_t)__builtin_ctzll(may);

        picks_offer(heap, count, most, (struct pick){at[n], from + n, (uint32_t)i});
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
        failed = tier_is_enough(s->t) ? tier_refine_first(s, picks[n].w, picks[n].query, e)
                                 : tier_refine_row(s, picks[n].w, &picks[n].query, 1, e);
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
    double at[TIER_TILE];
    struct bounds b;
    uint64_t may = 0;
    bool any = false;

    tier_first_estimates(s, i, from, at);
    for (int end = 0; end < TIER_ENDS && !any; end++)
        any = s->list[end] && tier_first_any(s, i, end, from, at);
    if (!any)
        return 0;
    tier_first_bounds(s, i, from, &b);
    for (int end = 0; end < TIER_ENDS; end++)
        if (s->list[end])
            may |= tier_first_may(s, i, end, from, &b);
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
        failed = tier_held_take(s, &s->scan, s->w.block[from + n], e);
        if (!failed)
            failed = tier_held_plane(s, &s->scan, TIER_SIX, e);
        if (!failed)
            tier_refine_ahead(s, TIER_SIX, from + n, s->t->groups * QKERN_SIX);
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
    if (s->t->bits && s->t->src->ahead && !tier_is_enough(s->t))
        failed = tell_tile(s, from, count, e);
    for (uint32_t n = 0; n < TIER_TILE && !failed; n++) {
        if (count[n] && !tier_is_enough(s->t))
            failed = tier_refine_row(s, from + n, s->bucket + n * queries, count[n], e);
        for (uint32_t j = 0; j < count[n] && tier_is_enough(s->t) && !failed; j++)
            failed = tier_refine_first(s, from + n, s->bucket[n * queries + j], e);
    }
    return failed;
}

int tier_settle_window(struct share *s, struct err *e)
{
    int failed = tier_audit_window(s, e);

    if (!failed)
        failed = raise_all(s, e);
    for (uint32_t from = 0; from < s->w.count && !failed; from += TIER_TILE) {
        failed = tier_cancelled(s, e);
        if (!failed)
            failed = sweep_tile(s, from, e);
    }
    for (size_t i = 0; i < s->t->q->count && !failed; i++)
        for (int end = 0; end < TIER_ENDS && !failed; end++)
            failed = tier_left_drain(s, i, end, e);
    tier_held_drop(s, &s->scan);
    tier_held_drop(s, &s->rows);
    return failed;
}
