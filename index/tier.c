/* tier.c - engine `tiered`: prepares a search, holds blocks open, runs a thread's share. See tier.h
 * for the contract, tier_part.h for who does what.
 *
 * Threads share the counter that deals blocks and the bars; both are hints in that no order of
 * events changes the answer.
 */
#include "index/tier.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "index/code.h"
#include "index/qkern.h"
#include "index/tier_part.h"
#include "storage/base/check.h"
#include "storage/base/keep.h"
#include "storage/base/mem.h"

enum {
    /* Up to so many queries the scan of six waits for memory, not for sums: a second plane of each
     * costs nothing. */
    FINE_MOST = 4,
    /* Groups of so many together wait for sums, and the more dimensions, the more rows six bits
     * leave: from 48 queries at 16,384 and 12 at 65,536 on, all eight bits at once are cheaper. */
    EIGHT_LEAST = 3072,
    EIGHT_GROUPS_MOST = 516, /* 128 x 127 x 256 of them < 2^31 */
    /* Up to so many, one bit first saves time: it leaves a tenth of the rows for six, of each query
     * others, and half of them when the other end is asked too. */
    BITS_MOST = 2,
    ODDS = 4, /* what may fail for a row at an end: Z and tosses of one bit, two Z of six */
    ODDS6_LEAST = 2048, /* dimensions: of fewer, what six bits leave may be no random direction */
    MEMORY = 128 << 20, /* bytes: three parts for windows, one for lists of what is left */
    PAGE = 4096, /* bytes; of a query a panel of TIER_PANEL groups */
    LEFT_LEAST = 64,
    LEFT_MOST = 8192,
};

bool tier_takes(size_t dim)
{
    return dim > 0 && dim <= CODE_DIM_MAX;
}

/* --- preparing a search ----------------------------------------------------------------------- */

static unsigned threads_of(const struct tier *t)
{
    return t->q->threads ? t->q->threads : 1;
}

static size_t clamp(size_t v, size_t least, size_t most)
{
    return v < least ? least : v > most ? most : v;
}

/* Bytes that a row of the window needs. */
static size_t window_row_bytes(const struct tier *t)
{
    const size_t bits = t->q->count / 8 + 1;
    const size_t best = t->q->count * TIER_ENDS * sizeof(double) / TIER_TILE + 1;
    const size_t sums = t->q->count * sizeof(int32_t) * (t->fine ? 2 : 1);

    return 2 * sizeof(uint32_t) + TIER_FACTORS_USED * sizeof(float) + sizeof(double) + sums + bits +
           best;
}

static bool eight_pays(size_t queries, size_t groups)
{
    return queries > FINE_MOST && queries * groups >= EIGHT_LEAST && groups >= qkern->joined_from;
}

static void plan(struct tier *t)
{
    const struct tier_query *q = t->q;
    const size_t live = q->live < SIZE_MAX - TIER_TILE ? (size_t)q->live : SIZE_MAX - TIER_TILE;
    const size_t memory = (q->memory ? q->memory : MEMORY) / threads_of(t);
    const size_t ends = (q->k ? 1u : 0u) + (q->opponents ? 1u : 0u);
    double rows = q->live ? (double)q->live : 1.0;

    t->odds = q->precision == TIER_PROBABILISTIC;
    t->bits = t->odds && q->count <= BITS_MOST && !q->opponents;
    t->groups = code_groups(t->src->dim);
    t->eight = !t->odds && t->groups <= EIGHT_GROUPS_MOST &&
               (q->eight ? q->count >= q->eight : eight_pays(q->count, t->groups));
    t->fine = !t->odds && !t->eight && q->count <= FINE_MOST;
    t->window_rows = memory / 4 * 3 / window_row_bytes(t);
    t->window_rows = clamp(t->window_rows, TIER_TILE, live + TIER_TILE - 1) & ~(TIER_TILE - 1u);
    t->left_rows = memory / 4 / (q->count * ends * sizeof(struct left));
    t->left_rows = clamp(t->left_rows, LEFT_LEAST, LEFT_MOST);
    if (t->odds) {
        t->cut = bound_cut(t->src->dim, rows * (double)ends * ODDS, q->delta);
        t->cut6 = code_padded(t->src->dim) < ODDS6_LEAST ? (double)INFINITY : t->cut;
        t->toss = bound_toss(t->src->dim, rows * (double)ends * ODDS, q->delta);
        t->reach = sqrt((double)code_padded(t->src->dim));
        t->slack = bound_slack1(t->src->dim);
    }
}

/* From one query's planes to the next one's: an odd number of pages, so that the same panel of many
 * queries does not fall into the same sets of a cache. */
static size_t query_stride(const struct tier *t)
{
    const size_t planes = t->bits ? 3 : 2;

    return ((planes * code_padded(t->src->dim) + PAGE - 1) / PAGE | 1) * PAGE;
}

/* Room for the planes of all queries, and what the first tier multiplies with. */
static int reserve_queries(struct tier *t, struct err *e)
{
    const size_t count = t->q->count, dim = t->src->dim, padded = code_padded(dim);
    const size_t stride = query_stride(t);

    t->planes = keep_take(count, stride);
    t->bounds = mem_big(count, sizeof *t->bounds);
    t->first = mem_big(2 * count, sizeof *t->first);
    if (!t->planes || !t->bounds || !t->first)
        return err_set(e, ERR_BUSY, "no memory for %zu queries of %zu", count, dim);
    for (size_t i = 0; i < count; i++) {
        struct bound_query *b = &t->bounds[i];

        b->hi = t->planes + i * stride;
        b->lo = b->hi + padded;
        b->one = t->bits ? b->lo + padded : NULL;
        t->first[t->first_count++] = t->bits ? b->one : b->hi;
        if (t->fine)
            t->first[t->first_count++] = b->lo;
    }
    return 0;
}

static void prepare_query(struct tier *t, size_t i, float *scratch)
{
    const size_t dim = t->src->dim;
    struct bound_query *b = &t->bounds[i];

    if (!bound_prepare(b, t->q->vectors + i * dim, dim, scratch))
        atomic_store_explicit(&t->whole, true, memory_order_relaxed);
    else if (t->bits)
        bound_prepare_one(b, dim, scratch);
}

/* Waits for queries that other threads are at: a moment, since who has taken one finishes it. */
static void wait_prepared(struct tier *t, size_t own)
{
    require(pthread_mutex_lock(&t->lock) == 0);
    t->prepared += own;
    if (t->prepared == t->q->count)
        pthread_cond_broadcast(&t->ready);
    while (t->prepared < t->q->count)
        pthread_cond_wait(&t->ready, &t->lock);
    require(pthread_mutex_unlock(&t->lock) == 0);
}

/* The threads of a search prepare its queries together. A query without bounds makes the search
 * one of the exact kernel alone. */
static int prepare_queries(struct tier *t, struct err *e)
{
    const size_t padded = code_padded(t->src->dim);
    float *scratch;
    size_t own = 0;

    if (!t->bounds)
        return 0; /* none is wanted */
    scratch = mem_big(padded, sizeof *scratch);
    if (!scratch)
        return err_set(e, ERR_BUSY, "no memory for a query of %zu", t->src->dim);
    for (size_t i; (i = atomic_fetch_add_explicit(&t->next_query, 1, memory_order_relaxed)) <
                   t->q->count; own++)
        prepare_query(t, i, scratch);
    free(scratch);
    wait_prepared(t, own);
    return 0;
}

static int prepare_bars(struct tier *t, struct err *e)
{
    const size_t k[TIER_ENDS] = {t->q->k, t->q->opponents};
    size_t each, total;
    double *kept;

    if (!mem_add(k[0], k[1], &each) || !mem_mul(each, t->q->count, &total))
        return err_set(e, ERR_BUSY, "no memory for %zu lists of %zu and %zu", t->q->count,
                       k[0], k[1]);
    t->kept = kept = mem_big(total + 1, sizeof *kept);
    t->bars = mem_big(t->q->count * TIER_ENDS, sizeof *t->bars);
    if (!t->kept || !t->bars)
        return err_set(e, ERR_BUSY, "no memory for %zu lists of %zu and %zu", t->q->count,
                       k[0], k[1]);
    for (size_t i = 0; i < t->q->count; i++)
        for (int end = 0; end < TIER_ENDS; end++) {
            const size_t own = tier_k(t->q, i, end);

            require(own <= k[end]);
            if (tier_bar_init(&t->bars[t->bar_count], kept, own))
                return err_set(e, ERR_BUSY, "no lock for query %zu", i);
            kept += own;
            t->bar_count++;
        }
    return 0;
}

/* When so large a share of all rows is asked for, reading codes first saves nothing. */
static bool wants_all(const struct tier_query *q)
{
    return q->k >= q->live / 4 || q->opponents >= q->live / 4;
}

int tier_new(const struct tier_source *src, const struct tier_query *q, struct tier **out,
             struct err *e)
{
    struct tier *t = mem_new(1, sizeof *t);
    int failed = 0;

    require(q->precision == TIER_CERTIFIED || (q->delta > 0.0 && q->delta <= 0.5));
    t->src = src;
    t->q = q;
    atomic_init(&t->whole, !tier_takes(src->dim) || wants_all(q));
    if (pthread_mutex_init(&t->lock, NULL)) {
        free(t);
        return err_set(e, ERR_BUSY, "no lock for a search");
    }
    pthread_cond_init(&t->ready, NULL); /* of default attributes: cannot fail */
    if (q->count && (q->k || q->opponents)) {
        plan(t);
        if (!t->whole)
            failed = reserve_queries(t, e);
        if (!failed)
            failed = prepare_bars(t, e);
    }
    if (failed)
        tier_free(t);
    else
        *out = t;
    return failed;
}

void tier_free(struct tier *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->bar_count; i++)
        tier_bar_fini(&t->bars[i]);
    pthread_cond_destroy(&t->ready);
    pthread_mutex_destroy(&t->lock);
    free(t->bars);
    free(t->kept);
    free(t->first);
    free(t->bounds);
    keep_give(t->planes);
    keep_settle();
    free(t);
}

bool tier_reads_all(const struct tier *t, enum tier_plane p)
{
    return p == TIER_BITS ? t->bits : p == TIER_SIX ? !t->bits : p == TIER_LOW && t->eight;
}

enum tier_precision tier_precision(const struct tier *t)
{
    return t->odds && !t->whole ? TIER_PROBABILISTIC : TIER_CERTIFIED;
}

/* --- blocks ----------------------------------------------------------------------------------- */

void tier_held_drop(struct share *s, struct held *h)
{
    if (h->open)
        s->t->src->close(s->t->src->arg, &h->b);
    *h = (struct held){0};
}

int tier_held_take(struct share *s, struct held *h, size_t index, struct err *e)
{
    int failed;

    if (h->open && h->index == index)
        return 0;
    tier_held_drop(s, h);
    failed = s->t->src->open(s->t->src->arg, index, &h->b, e);
    h->open = !failed;
    h->index = index;
    return failed;
}

int tier_held_plane(struct share *s, struct held *h, enum tier_plane p, struct err *e)
{
    return h->plane[p] ? 0 : s->t->src->plane(s->t->src->arg, &h->b, p, &h->plane[p], e);
}

int tier_cancelled(const struct share *s, struct err *e)
{
    const struct tier_source *src = s->t->src;

    if (!src->cancelled || !src->cancelled(src->arg))
        return 0;
    return err_set(e, ERR_CANCELLED, "search cancelled after %zu of %zu chunks", s->block,
                   src->count);
}

/* --- a share ---------------------------------------------------------------------------------- */

/* Where rows are joined, and their sums over all queries. */
static int reserve_joined(struct share *s, struct err *e)
{
    const size_t count = s->t->q->count;

    if (!s->t->eight)
        return 0;
    s->joined = mem_big(TIER_TILE, TIER_PANEL * QKERN_GROUP);
    s->sums = mem_big(TIER_TILE * count, sizeof *s->sums);
    return s->joined && s->sums ? 0 : err_set(e, ERR_BUSY, "no memory for %zu queries", count);
}

/* The window's arrays, in one piece: doubles, then words, then the rest, so that all are
 * aligned. */
static int share_init(struct share *s, struct err *e)
{
    const struct tier *t = s->t;
    const size_t count = t->q->count, room = t->window_rows;
    const size_t sums = count * room * sizeof(int32_t) * (t->fine ? 2 : 1);
    struct window *w = &s->w;
    char *at;

    s->lefts = mem_big(count * TIER_ENDS, sizeof *s->lefts);
    if (s->lefts)
        memset(s->lefts, 0, count * TIER_ENDS * sizeof *s->lefts);
    w->room = room;
    w->words = room / 64;
    at = s->memory = keep_take(1, room * (8 + (2 + TIER_FACTORS_USED) * 4) +
                               count * (w->words * (TIER_ENDS + 1) + TIER_SPAN) * 8 + sums);
    if (!s->lefts || !s->memory)
        return err_set(e, ERR_BUSY, "no memory to search %zu rows for %zu queries", room, count);
    w->weight = t->q->measure == TIER_COSINE ? NULL : (double *)(void *)at;
    at += room * 8;
    w->settled = (uint64_t *)(void *)at;
    at += count * w->words * 8;
    w->best = (double *)(void *)at;
    at += count * w->words * TIER_ENDS * 8;
    s->picked = (uint64_t *)(void *)at;
    at += count * TIER_SPAN * 8;
    w->block = (uint32_t *)(void *)at;
    w->row = w->block + room;
    for (int f = 0; f < TIER_FACTORS_USED; f++)
        w->factor[f] = (float *)(void *)(w->row + room) + (size_t)f * room;
    w->hi = (int32_t *)(void *)(w->factor[TIER_FACTORS_USED - 1] + room);
    w->lo = t->fine ? w->hi + count * room : NULL;
    return 0;
}

static void share_fini(struct share *s)
{
    tier_held_drop(s, &s->scan);
    tier_held_drop(s, &s->rows);
    for (size_t i = 0; s->lefts && i < s->t->q->count * TIER_ENDS; i++)
        free(s->lefts[i].at);
    free(s->lefts);
    free(s->joined);
    free(s->sums);
    keep_give(s->memory);
}

int tier_share(struct tier *t, struct topk *pro, struct topk *opp, struct engine_work *work,
               struct err *e)
{
    struct share s = {.t = t, .work = work};
    int failed;

    if (!t->bars)
        return 0; /* nothing was asked */
    s.list[TIER_PRO] = t->q->k ? pro : NULL;
    s.list[TIER_OPP] = t->q->opponents ? opp : NULL;
    failed = prepare_queries(t, e);
    if (!failed)
        failed = share_init(&s, e);
    if (!failed)
        failed = reserve_joined(&s, e);
    while (!failed) {
        failed = tier_window_fill(&s, e);
        if (failed || !s.w.count)
            break;
        failed = tier_settle_window(&s, e);
    }
    share_fini(&s);
    return failed;
}
