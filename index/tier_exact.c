/* tier_exact.c - rows of a tiered search by the exact kernel: single ones, and whole blocks that
 * have no codes. See tier_part.h.
 *
 * A row is offered once for a query, at both ends; the lists and the bars rest on that.
 */
#include "index/tier_part.h"

#include "index/kern.h"

enum { TOGETHER = 4 }; /* rows a dot4 takes */

/* One row's score at one end: into the thread's list, and to the bar that all threads share. */
static int offer(struct share *s, struct held *h, size_t i, int end, uint32_t row, double score,
                 struct err *e)
{
    struct bar *bar = &s->t->bars[i * TIER_ENDS + (size_t)end];
    const double seen = end == TIER_PRO ? score : -score;
    struct topk_hit hit = {.score = score, .chunk = (uint32_t)h->index, .row = row};
    int failed;

    if (seen < tier_bar_at(bar))
        return 0; /* most end here, before their sequence is looked up */
    if (isnan(score)) {
        topk_offer(&s->list[end][i], &hit); /* which keeps it apart; no bar can stand on it */
        return 0;
    }
    failed = s->t->src->sequence(s->t->src->arg, &h->b, row, &hit.sequence, e);
    if (failed)
        return failed;
    topk_offer(&s->list[end][i], &hit);
    tier_bar_offer(bar, seen);
    return 0;
}

static int offer_both(struct share *s, struct held *h, size_t i, uint32_t row, double dot,
                      double weight, struct err *e)
{
    const double score = tier_score(s->t->q, i, dot, weight);
    int failed = 0;

    for (int end = 0; end < TIER_ENDS && !failed; end++)
        if (s->list[end])
            failed = offer(s, h, i, end, row, score, e);
    s->work->rows_exact++;
    return failed;
}

int tier_exact_one(struct share *s, size_t i, uint32_t w, struct err *e)
{
    const struct tier_source *src = s->t->src;
    const double weight = s->w.weight ? s->w.weight[w] : 1.0;
    const void *encoding;
    double dot;
    int failed = tier_held_take(s, &s->rows, s->w.block[w], e);

    if (!failed)
        failed = src->row(src->arg, &s->rows.b, s->w.row[w], &encoding, e);
    if (failed)
        return failed;
    dot = kern_dot(src->dtype, s->t->q->vectors + i * src->dim, encoding, src->dim);
    return offer_both(s, &s->rows, i, s->w.row[w], dot, weight, e);
}

/* Products of up to TOGETHER rows side by side with one query. Four in float32 go as one. */
static void dot_rows(const struct tier_source *src, const float *query, const char *rows,
                     uint32_t count, double *out)
{
    const size_t width = src->dim * dtype_size(src->dtype);

    if (count == TOGETHER && src->dtype == DTYPE_F32) {
        kern->dot4_f32(query, (const void *)rows, width, src->dim, out);
        return;
    }
    for (uint32_t r = 0; r < count; r++)
        out[r] = kern_dot(src->dtype, query, rows + r * width, src->dim);
}

/* Live rows side by side from `row` on, at most TOGETHER. */
static uint32_t live_run(const struct tier_block *b, uint32_t row)
{
    uint32_t count = 0;

    while (count < TOGETHER && row + count < b->rows &&
           !(b->dead && b->dead[(row + count) / 64] >> ((row + count) % 64) & 1))
        count++;
    return count;
}

static int whole_run(struct share *s, struct held *h, uint32_t row, uint32_t count, struct err *e)
{
    const struct tier_source *src = s->t->src;
    const char *rows = (const char *)h->plane[TIER_ENCODINGS] +
                       row * src->dim * dtype_size(src->dtype);
    double dots[TOGETHER];
    int failed = 0;

    for (size_t i = 0; i < s->t->q->count && !failed; i++) {
        dot_rows(src, s->t->q->vectors + i * src->dim, rows, count, dots);
        for (uint32_t r = 0; r < count && !failed; r++)
            failed = offer_both(s, h, i, row + r, dots[r],
                                s->t->q->measure == TIER_COSINE ? 1.0 : h->b.weights[row + r], e);
    }
    return failed;
}

int tier_exact_whole(struct share *s, struct held *h, struct err *e)
{
    int failed = tier_held_plane(s, h, TIER_ENCODINGS, e);

    for (uint32_t row = 0, count; row < h->b.rows && !failed; row += count ? count : 1) {
        count = live_run(&h->b, row);
        if (count)
            failed = whole_run(s, h, row, count, e);
    }
    return failed;
}
