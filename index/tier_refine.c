/* tier_refine.c - the tiers after the first, row by row: two more bits where six were read, six
 * where one was; what they leave goes on the lists. See tier_part.h.
 *
 * A row is read once for all queries it is left for.
 */
#include "index/code.h"
#include "index/qkern.h"
#include "index/tier_part.h"

enum { TOGETHER = 32 }; /* queries that a row is refined for at a time */

static bool may_at_any(const struct share *s, size_t i, struct bound b, double weight)
{
    double upper;

    return (s->list[TIER_PRO] && tier_may(s->t, i, TIER_PRO, b, weight, &upper)) ||
           (s->list[TIER_OPP] && tier_may(s->t, i, TIER_OPP, b, weight, &upper));
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

void tier_refine_ahead(struct share *s, enum tier_plane p, uint32_t w, size_t width)
{
    const struct tier_source *src = s->t->src;

    if (src->ahead)
        src->ahead(src->arg, &s->scan.b, p, s->w.row[w] * width, width);
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
            failed = tier_left_push(r->s, i, end, left, e);
    }
    return failed;
}

/* Queries that the six-bit bound leaves; returns how many. */
static size_t keep_six(const struct refining *r, size_t *pick)
{
    const double scale = factor_of(r, CODE_SCALE), rest = factor_of(r, CODE_REST6);
    const double length = factor_of(r, CODE_LENGTH6), weight = tier_weight(&r->s->w, r->w);
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
    const double along = bound_along(rest, length6, length);
    const double weight = tier_weight(&r->s->w, r->w);
    int failed = 0;

    for (size_t j = 0; j < r->count && !failed; j++) {
        const struct bound_query *q = &t->bounds[r->query[j]];
        struct bound b = bound_six(q, r->six[j], scale, rest, length6);

        b = bound_odds(q, b, q->rest, rest, along, length, t->cut, t->slack);
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
    const double weight = tier_weight(&r->s->w, r->w);
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
    int failed = left ? tier_held_plane(r->s, &r->s->scan, TIER_LOW, e) : 0;

    if (left && !failed)
        tier_refine_ahead(r->s, TIER_LOW, r->w, r->s->t->groups * QKERN_LOW);
    return left && !failed ? refine_low(r, pick, left, e) : failed;
}

int tier_refine_row(struct share *s, uint32_t w, const uint32_t *query, size_t count, struct err *e)
{
    int failed = tier_held_take(s, &s->scan, s->w.block[w], e);

    if (!failed)
        failed = tier_held_plane(s, &s->scan, TIER_FACTORS, e);
    if (!failed && (s->t->bits || !s->t->fine))
        failed = tier_held_plane(s, &s->scan, TIER_SIX, e);
    for (size_t from = 0; from < count && !failed; from += TOGETHER) {
        struct refining r = {.s = s, .h = &s->scan, .w = w, .row = s->w.row[w],
                             .query = query + from};

        r.count = count - from < TOGETHER ? count - from : TOGETHER;
        sum_six(&r);
        failed = s->t->odds ? list_six(&r, e) : refine_six(&r, e);
    }
    return failed;
}

int tier_refine_first(struct share *s, uint32_t w, uint32_t i, struct err *e)
{
    struct refining r = {.s = s, .w = w, .query = &i, .count = 1};
    struct bounds b;

    tier_first_bounds(s, i, w - w % TIER_TILE, &b);
    return list(&r, 0, (struct bound){b.at[w % TIER_TILE], b.off[w % TIER_TILE]},
                tier_weight(&s->w, w), e);
}
