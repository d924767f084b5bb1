/* tier_refine.c - the tiers after the first, a tile of rows at a time: two more bits where six were
 * read, six where one was; what they leave goes on the lists. See tier_part.h.
 *
 * Rows are read once for all queries of a group they are left for; a group's planes stay in a
 * second-level cache.
 */
#include "index/code.h"
#include "index/qkern.h"
#include "index/tier_part.h"

enum { QUERY_BYTES = 512 << 10 }; /* of planes that a tile is multiplied with at a time */

/* Factors of the tile's picked rows. */
struct factors {
    double scale[TIER_TILE], rest6[TIER_TILE], rest8[TIER_TILE];
    double length6[TIER_TILE], length8[TIER_TILE], length[TIER_TILE];
};

/* Rows of one block, picked for at most TIER_GROUP queries. */
struct refining {
    struct share *s;
    struct picked p;
    struct factors f;
    int32_t a[TIER_TILE * 2 * TIER_GROUP], b[TIER_TILE * TIER_GROUP]; /* sums: tier_sums */
};

static uint64_t any_of(const struct picked *p)
{
    uint64_t any = 0;

    for (size_t j = 0; j < p->count; j++)
        any |= p->mask[j];
    return any;
}

static size_t pairs_of(const struct picked *p)
{
    size_t pairs = 0;

    for (size_t j = 0; j < p->count; j++)
        pairs += (size_t)__builtin_popcountll(p->mask[j]);
    return pairs;
}

static void note_factors(struct refining *r)
{
    const struct held *h = &r->s->scan;

    for (uint64_t any = any_of(&r->p); any; any &= any - 1) {
        const uint32_t n = (uint32_t)__builtin_ctzll(any), row = r->s->w.row[r->p.from + n];
        const unsigned char *all = h->plane[TIER_FACTORS];

        r->f.scale[n] = (double)code_factor(all, h->b.rows, CODE_SCALE, row);
        r->f.rest6[n] = (double)code_factor(all, h->b.rows, CODE_REST6, row);
        r->f.rest8[n] = (double)code_factor(all, h->b.rows, CODE_REST8, row);
        r->f.length6[n] = (double)code_factor(all, h->b.rows, CODE_LENGTH6, row);
        r->f.length8[n] = (double)code_factor(all, h->b.rows, CODE_LENGTH8, row);
        r->f.length[n] = (double)code_factor(all, h->b.rows, CODE_LENGTH, row);
    }
}

static bool may_at_any(const struct share *s, size_t i, struct bound b, double weight)
{
    double upper;

    return (s->list[TIER_PRO] && tier_may(s->t, i, TIER_PRO, b, weight, &upper)) ||
           (s->list[TIER_OPP] && tier_may(s->t, i, TIER_OPP, b, weight, &upper));
}

/* Lists row w of the window for query i where the bound leaves it. */
static int list(struct share *s, size_t i, uint32_t w, struct bound b, struct err *e)
{
    const double weight = tier_weight(&s->w, w);
    int failed = 0;

    for (int end = 0; end < TIER_ENDS && !failed; end++) {
        struct left left = {.w = w};

        if (s->list[end] && tier_may(s->t, i, end, b, weight, &left.upper))
            failed = tier_left_push(s, i, end, left, e);
    }
    return failed;
}

/* --- probabilistic: one bit left them; six say enough for the exact kernel to go on with ------ */

static struct bound odds_bound(const struct refining *r, size_t i, uint32_t n, double six)
{
    const struct tier *t = r->s->t;
    const struct bound_query *q = &t->bounds[i];
    const double rest = r->f.rest6[n], length = r->f.length[n];
    const double along = bound_along(rest, r->f.length6[n], length);
    const struct bound b = bound_six(q, six, r->f.scale[n], rest, r->f.length6[n]);

    return bound_odds(q, b, q->rest, rest, along, length, t->cut6, t->slack);
}

static int refine_bits(struct refining *r, struct err *e)
{
    struct picked *p = &r->p;
    int failed = tier_sums(r->s, p, TIER_SIX, PART_HI | PART_LO, r->a, e);

    r->s->work->rows_six += pairs_of(p);
    for (size_t j = 0; j < p->count; j++)
        for (uint64_t m = p->mask[j]; m && !failed; m &= m - 1) {
            const uint32_t n = (uint32_t)__builtin_ctzll(m);
            const int32_t *sum = r->a + 2 * (n * p->count + j);
            const double six = tier_whole(sum[0], sum[1]);

            failed = list(r->s, p->query[j], p->from + n, odds_bound(r, p->query[j], n, six), e);
        }
    return failed;
}

/* --- certified: two more bits for what six leave ---------------------------------------------- */

static struct bound eight_bound(const struct refining *r, size_t i, uint32_t n, double sum8,
                                int32_t lo6)
{
    return bound_eight(&r->s->t->bounds[i], sum8, (double)lo6, r->f.scale[n], r->f.rest6[n],
                       r->f.rest8[n], r->f.length8[n]);
}

/* The sum of hi (c8 - 128) of pair (n, j): as the first tier has it, or from its six bits and what
 * r->b has of the low two. */
static double eight_hi(const struct refining *r, size_t j, uint32_t n)
{
    const size_t i = r->p.query[j];
    const double first = (double)r->s->w.hi[i * r->s->w.room + r->p.from + n];

    return r->s->t->eight ? first
                          : bound_join(&r->s->t->bounds[i], first,
                                       (double)r->b[n * r->p.count + j]);
}

/* What eight bits say of a query of hi alone: most of what six left, without the query's lower half
 * over six bits. Clears the pairs that are out. */
static void drop_by_eight_hi(struct refining *r)
{
    struct picked *p = &r->p;

    for (size_t j = 0; j < p->count; j++)
        for (uint64_t m = p->mask[j]; m; m &= m - 1) {
            const uint32_t n = (uint32_t)__builtin_ctzll(m), i = p->query[j];
            const struct bound b =
                bound_eight_hi(&r->s->t->bounds[i], eight_hi(r, j, n), r->f.scale[n],
                               r->f.rest8[n], r->f.length8[n]);

            if (!may_at_any(r->s, i, b, tier_weight(&r->s->w, p->from + n)))
                p->mask[j] &= ~(UINT64_C(1) << n);
        }
}

/* What the first tier has not read, in turn: the low plane with hi; six with lo. */
static int refine_certified(struct refining *r, struct err *e)
{
    const struct tier *t = r->s->t;
    const struct window *own = &r->s->w;
    struct picked *p = &r->p;
    int failed = 0;

    if (!t->eight) {
        failed = tier_sums(r->s, p, TIER_LOW, PART_HI, r->b, e);
        if (failed)
            return failed;
        r->s->work->rows_low += pairs_of(p);
        if (!t->fine)
            drop_by_eight_hi(r);
    }
    if (!t->fine)
        failed = tier_sums(r->s, p, TIER_SIX, PART_LO, r->a, e);
    for (size_t j = 0; j < p->count; j++)
        for (uint64_t m = p->mask[j]; m && !failed; m &= m - 1) {
            const uint32_t n = (uint32_t)__builtin_ctzll(m), i = p->query[j], w = p->from + n;
            const int32_t lo6 =
                t->fine ? own->lo[i * own->room + w] : r->a[n * p->count + j];

            failed = list(r->s, i, w, eight_bound(r, i, n, eight_hi(r, j, n), lo6), e);
        }
    return failed;
}

/* --- a tile ----------------------------------------------------------------------------------- */

/* Rows of the tile that lie in the same block as row n. */
static uint64_t same_block(const struct window *w, uint32_t from, uint32_t n)
{
    const size_t most = w->count - from < TIER_TILE ? w->count - from : TIER_TILE;
    uint64_t out = 0;

    for (uint32_t m = 0; m < most; m++)
        out |= (uint64_t)(w->block[from + m] == w->block[from + n]) << m;
    return out;
}

/* Rows of one block. */
static int refine_rows(struct share *s, uint32_t from, uint32_t first, const uint64_t *mask,
                       size_t count, uint64_t rows, struct err *e)
{
    uint32_t own[TIER_GROUP];
    uint64_t left[TIER_GROUP];
    struct refining r;

    r.s = s;
    r.p = (struct picked){.from = from, .query = own, .mask = left};
    for (uint32_t j = 0; j < count; j++)
        if (mask[j] & rows) {
            own[r.p.count] = first + j;
            left[r.p.count++] = mask[j] & rows;
        }
    note_factors(&r);
    if (s->t->bits)
        return refine_bits(&r, e);
    return refine_certified(&r, e);
}

/* Where the first tier's bound is all there is before the exact kernel. */
static int list_first(struct share *s, uint32_t from, size_t i, uint64_t mask, struct err *e)
{
    struct bounds b;
    int failed = 0;

    if (mask)
        tier_first_bounds(s, i, from, &b);
    for (; mask && !failed; mask &= mask - 1) {
        const uint32_t n = (uint32_t)__builtin_ctzll(mask);

        failed = list(s, i, from + n, (struct bound){b.at[n], b.off[n]}, e);
    }
    return failed;
}

size_t tier_group(const struct tier *t)
{
    const size_t queries = QUERY_BYTES / (t->groups * QKERN_GROUP);

    return queries < 4 ? 4 : queries > TIER_GROUP ? TIER_GROUP : queries;
}

int tier_refine_tile(struct share *s, uint32_t from, uint32_t first, const uint64_t *mask,
                     size_t count, struct err *e)
{
    uint64_t any = 0;
    int failed = 0;

    for (uint32_t j = 0; j < count && !failed; j++)
        if (s->t->odds && !s->t->bits)
            failed = list_first(s, from, first + j, mask[j], e);
        else
            any |= mask[j];
    while (any && !failed) {
        const uint32_t n = (uint32_t)__builtin_ctzll(any);
        const uint64_t rows = same_block(&s->w, from, n);

        failed = tier_held_take(s, &s->scan, s->w.block[from + n], e);
        if (!failed)
            failed = tier_held_plane(s, &s->scan, TIER_FACTORS, e);
        if (!failed)
            failed = refine_rows(s, from, first, mask, count, rows, e);
        any &= ~rows;
    }
    return failed;
}
