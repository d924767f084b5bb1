/* tier_first.c - what the sums of the first tier say: bounds of a tile's rows for one query, and
 * which of them may still be among the best. See tier_part.h.
 *
 * Tiles begin at multiples of TIER_TILE and are computed whole, so that the loops have a fixed
 * length and a compiler can make vectors of them; what stands past the window's last row is
 * masked.
 */
#include "index/tier_part.h"

#include <math.h>

void tier_first_estimates(const struct share *s, size_t i, uint32_t from, double at[TIER_TILE])
{
    const struct bound_query *q = &s->t->bounds[i];
    const float *scale = s->w.factor[0] + from; /* or gain */
    const int32_t *hi = s->w.hi + i * s->w.room + from, *lo;

    if (s->t->bits) {
        for (int n = 0; n < TIER_TILE; n++)
            at[n] = bound_one(q, (double)hi[n], (double)scale[n], 0.0, 0.0, 0.0, 0.0, 0.0).at;
        return;
    }
    if (s->t->eight) {
        for (int n = 0; n < TIER_TILE; n++)
            at[n] = bound_eight_hi(q, (double)hi[n], (double)scale[n], 0.0, 0.0).at;
        return;
    }
    if (!s->t->fine) {
        for (int n = 0; n < TIER_TILE; n++)
            at[n] = bound_six_hi(q, (double)hi[n], (double)scale[n], 0.0, 0.0).at;
        return;
    }
    lo = s->w.lo + i * s->w.room + from;
    for (int n = 0; n < TIER_TILE; n++)
        at[n] = bound_six(q, tier_whole(hi[n], lo[n]), (double)scale[n], 0.0, 0.0).at;
}

/* How far off an estimate may be, from a row's factors: never less when one of them or |at| is
 * more. */
static double off_of(const struct tier *t, const struct bound_query *q, double at,
                     const double factor[TIER_FACTORS_USED])
{
    struct bound b;

    if (t->bits)
        return bound_one(q, 0.0, factor[0], factor[1], t->cut, t->toss, t->reach, t->slack).off;
    if (t->eight)
        return bound_eight_hi(q, 0.0, factor[0], factor[1], factor[2]).off;
    if (t->fine)
        return bound_six(q, 0.0, factor[0], factor[1], factor[2]).off;
    b = bound_six_hi(q, 0.0, factor[0], factor[1], factor[2]);
    b.at = at;
    return t->odds ? bound_odds(q, b, q->rest_hi, factor[1], factor[4], factor[3], t->cut6,
                                t->slack).off
                   : b.off;
}

void tier_first_bounds(const struct share *s, size_t i, uint32_t from, struct bounds *out)
{
    const struct bound_query *q = &s->t->bounds[i];

    tier_first_estimates(s, i, from, out->at);
    for (uint32_t n = 0; n < TIER_TILE; n++) {
        double factor[TIER_FACTORS_USED];

        for (int f = 0; f < TIER_FACTORS_USED; f++)
            factor[f] = (double)s->w.factor[f][from + n];
        out->off[n] = off_of(s->t, q, out->at[n], factor);
    }
}

/* Bounds rise with the estimate: where it is best, off_of included. */
static bool any_by_best(const struct share *s, size_t i, int end, uint32_t from, double bar)
{
    const double best = *tier_best(&s->w, i, end, from);
    double factor[TIER_FACTORS_USED];

    for (int f = 0; f < TIER_FACTORS_USED; f++)
        factor[f] = (double)s->w.most[f];
    return !(best + off_of(s->t, &s->t->bounds[i], best, factor) < bar);
}

static bool any_by_score(const struct share *s, size_t i, int end, uint32_t from, double bar)
{
    double at[TIER_TILE], factor[TIER_FACTORS_USED], upper[TIER_TILE], most = 0.0, off;
    bool any = false;

    tier_first_estimates(s, i, from, at);
    for (int f = 0; f < TIER_FACTORS_USED; f++)
        factor[f] = (double)s->w.most[f];
    for (int n = 0; n < TIER_TILE; n++)
        most = fabs(at[n]) > most ? fabs(at[n]) : most; /* past the last row there may be NaN */
    off = off_of(s->t, &s->t->bounds[i], most, factor);
    for (int n = 0; n < TIER_TILE; n++)
        upper[n] = end == TIER_PRO ? at[n] + off : at[n] - off;
    tier_first_scores(s, i, from, upper, upper);
    for (int n = 0; n < TIER_TILE; n++)
        any |= !((end == TIER_PRO ? upper[n] : -upper[n]) < bar);
    return any;
}

bool tier_first_any(const struct share *s, size_t i, int end, uint32_t from)
{
    const double bar = tier_bar_at(&s->t->bars[i * TIER_ENDS + (size_t)end]);

    if (!tier_k(s->t->q, i, end))
        return false;
    return s->t->q->measure == TIER_COSINE ? any_by_best(s, i, end, from, bar)
                                           : any_by_score(s, i, end, from, bar);
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
