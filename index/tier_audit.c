/* tier_audit.c - debug builds only: no bound of a tiered search may be violated, on any row.
 *
 * Every row of a window is scored exactly and compared with what each tier says of it. Those of a
 * probabilistic search may fail, but not within the life of a test (delta is 1e-9 a query).
 */
#include "index/tier_part.h"

#ifdef ASCRIBE_DEBUG

#include "index/code.h"
#include "index/kern.h"
#include "index/qkern.h"
#include "storage/base/check.h"

static void within(struct bound b, double score)
{
    require(score <= b.at + b.off);
    require(score >= b.at - b.off);
}

static int32_t sum_of(const struct share *s, qkern_dot *dot, enum tier_plane p, size_t width,
                      const int8_t *q, uint32_t row)
{
    int32_t out;

    dot(s->rows.plane[p] + row * width, width, 1, &q, 1, s->t->groups, &out);
    return out;
}

static void audit_row(const struct share *s, size_t i, uint32_t row, double score)
{
    const struct bound_query *q = &s->t->bounds[i];
    const size_t groups = s->t->groups;
    const uint32_t rows = s->rows.b.rows;
    double f[CODE_FACTORS], hi, lo, six, low, sum8;

    for (int n = 0; n < CODE_FACTORS; n++)
        f[n] = (double)code_factor(s->rows.plane[TIER_FACTORS], rows, (enum code_factor)n, row);
    hi = (double)sum_of(s, qkern->dot_six, TIER_SIX, groups * QKERN_SIX, q->hi, row);
    lo = (double)sum_of(s, qkern->dot_six, TIER_SIX, groups * QKERN_SIX, q->lo, row);
    six = 128.0 * hi + lo;
    low = (double)sum_of(s, qkern->dot_low, TIER_LOW, groups * QKERN_LOW, q->hi, row);
    sum8 = bound_join(q, hi, low);
    within(bound_six_hi(q, hi, f[CODE_SCALE], f[CODE_REST6], f[CODE_LENGTH6]), score);
    if (s->t->odds)
        within(bound_odds(q, bound_six(q, six, f[CODE_SCALE], f[CODE_REST6], f[CODE_LENGTH6]),
                          q->rest, f[CODE_REST6],
                          bound_along(f[CODE_REST6], f[CODE_LENGTH6], f[CODE_LENGTH]),
                          f[CODE_LENGTH], s->t->cut6, s->t->slack), score);
    within(bound_eight_hi(q, sum8, f[CODE_SCALE], f[CODE_REST8], f[CODE_LENGTH8]), score);
    within(bound_six(q, six, f[CODE_SCALE], f[CODE_REST6], f[CODE_LENGTH6]), score);
    within(bound_eight(q, sum8, lo, f[CODE_SCALE], f[CODE_REST6], f[CODE_REST8], f[CODE_LENGTH8]),
           score);
}

int tier_audit_window(struct share *s, struct err *e)
{
    const struct tier_source *src = s->t->src;
    int failed = 0;

    for (uint32_t w = 0; w < s->w.count && !failed; w++) {
        const void *encoding;

        failed = tier_held_take(s, &s->rows, s->w.block[w], e);
        for (int p = TIER_SIX; p <= TIER_FACTORS && !failed; p++)
            failed = tier_held_plane(s, &s->rows, (enum tier_plane)p, e);
        if (!failed)
            failed = src->row(src->arg, &s->rows.b, s->w.row[w], &encoding, e);
        for (size_t i = 0; i < s->t->q->count && !failed; i++) {
            const float *vector = s->t->q->vectors + i * src->dim;
            const double score = kern_dot(src->dtype, vector, encoding, src->dim);
            struct bounds first;

            tier_first_bounds(s, i, w - w % TIER_TILE, &first);
            within((struct bound){first.at[w % TIER_TILE], first.off[w % TIER_TILE]}, score);
            audit_row(s, i, s->w.row[w], score);
        }
    }
    return failed;
}

#else

/* ISO C wants something in a translation unit. */
extern int tier_audit_nothing;

#endif
