/* tier_first.c - what the sums of the first tier say: bounds of a tile's rows for one query, and
 * which of them may still be among the best. See tier_part.h.
 *
 * Tiles begin at multiples of TIER_TILE and are computed whole, so that the loops have a fixed
 * length and a compiler can make vectors of them; what stands past the window's last row is
 * masked.
 */
#include "index/tier_part.h"

/* Both planes of the query. */
static void fine_bounds(const struct share *s, size_t i, uint32_t from, struct bounds *out)
{
    const struct bound_query *q = &s->t->bounds[i];
    const float *scale = s->w.factor[0] + from, *rest = s->w.factor[1] + from;
    const float *length = s->w.factor[2] + from;
    const int32_t *hi = s->w.hi + i * s->w.room + from, *lo = s->w.lo + i * s->w.room + from;

    for (int n = 0; n < TIER_TILE; n++) {
        struct bound b = bound_six(q, tier_whole(hi[n], lo[n]), (double)scale[n], (double)rest[n],
                                   (double)length[n]);

        out->at[n] = b.at;
        out->off[n] = b.off;
    }
}

/* hi alone. */
static void coarse_bounds(const struct share *s, size_t i, uint32_t from, struct bounds *out)
{
    const struct bound_query *q = &s->t->bounds[i];
    const float *scale = s->w.factor[0] + from, *rest = s->w.factor[1] + from;
    const float *length = s->w.factor[2] + from;
    const int32_t *hi = s->w.hi + i * s->w.room + from;

    for (int n = 0; n < TIER_TILE; n++) {
        struct bound b = bound_six_hi(q, (double)hi[n], (double)scale[n], (double)rest[n],
                                      (double)length[n]);

        out->at[n] = b.at;
        out->off[n] = b.off;
    }
}

/* Makes coarse bounds narrower. */
static void narrow(const struct share *s, size_t i, uint32_t from, struct bounds *out)
{
    const struct tier *t = s->t;
    const struct bound_query *q = &t->bounds[i];

    for (int n = 0; n < TIER_TILE; n++) {
        struct bound b = {out->at[n], out->off[n]};

        b = bound_odds(q, b, q->rest_hi, (double)s->w.factor[1][from + (uint32_t)n],
                       (double)s->w.factor[2][from + (uint32_t)n],
                       (double)s->w.factor[3][from + (uint32_t)n], t->cut, t->slack);
        out->off[n] = b.off;
    }
}

static void one_bounds(const struct share *s, size_t i, uint32_t from, struct bounds *out)
{
    const struct tier *t = s->t;
    const struct bound_query *q = &t->bounds[i];
    const float *gain = s->w.factor[0] + from, *spread = s->w.factor[1] + from;
    const int32_t *hi = s->w.hi + i * s->w.room + from, *lo = s->w.lo + i * s->w.room + from;

    for (int n = 0; n < TIER_TILE; n++) {
        struct bound b = bound_one(q, tier_whole(hi[n], lo[n]), (double)gain[n], (double)spread[n],
                                   t->cut, t->reach, t->slack);

        out->at[n] = b.at;
        out->off[n] = b.off;
    }
}

void tier_first_bounds(const struct share *s, size_t i, uint32_t from, struct bounds *out)
{
    if (s->t->bits)
        one_bounds(s, i, from, out);
    else if (s->t->fine)
        fine_bounds(s, i, from, out);
    else
        coarse_bounds(s, i, from, out);
    if (s->t->odds && !s->t->bits)
        narrow(s, i, from, out);
}

void tier_first_scores(const struct share *s, size_t i, uint32_t from, const double dots[TIER_TILE],
                       double out[TIER_TILE])
{
    const struct tier_query *q = s->t->q;
    const double *weight = s->w.weight + from;

    if (q->measure == TIER_COSINE)
        for (int n = 0; n < TIER_TILE; n++)
            out[n] = dots[n];
    else if (q->measure == TIER_DIVIDED)
        for (int n = 0; n < TIER_TILE; n++)
            out[n] = dots[n] / weight[n];
    else
        for (int n = 0; n < TIER_TILE; n++)
            out[n] = exact_scale(dots[n], weight[n], q->lengths[i]);
}

uint64_t tier_first_may(const struct share *s, size_t i, int end, uint32_t from,
                        const struct bounds *b)
{
    const double bar = tier_bar_at(&s->t->bars[i * TIER_ENDS + (size_t)end]);
    double upper[TIER_TILE];
    uint64_t out = 0;

    if (end == TIER_PRO) {
        for (int n = 0; n < TIER_TILE; n++)
            upper[n] = b->at[n] + b->off[n];
        tier_first_scores(s, i, from, upper, upper);
        for (int n = 0; n < TIER_TILE; n++)
            out |= (uint64_t)!(upper[n] < bar) << n;
    } else {
        for (int n = 0; n < TIER_TILE; n++)
            upper[n] = b->at[n] - b->off[n];
        tier_first_scores(s, i, from, upper, upper);
        for (int n = 0; n < TIER_TILE; n++)
            out |= (uint64_t)!(-upper[n] < bar) << n;
    }
    return out & tier_first_open(s, i, from);
}

uint64_t tier_first_open(const struct share *s, size_t i, uint32_t from)
{
    const uint64_t there = s->w.count - from < TIER_TILE ? (UINT64_C(1) << (s->w.count - from)) - 1
                                                         : UINT64_MAX;

    return there & ~s->w.settled[i * s->w.words + from / TIER_TILE];
}
