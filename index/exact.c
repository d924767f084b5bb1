/* exact.c - see exact.h. */
#include "index/exact.h"

#include <math.h>

#include "index/kern.h"

enum { TOGETHER = 4 }; /* rows a dot4 takes */

static const void *row_at(const struct engine_source *src, const struct engine_block *b,
                          uint32_t row)
{
    return (const char *)b->encodings + (size_t)row * src->dim * dtype_size(src->dtype);
}

double exact_score(const struct engine_source *src, const struct engine_block *b, uint32_t row,
                   const float *query)
{
    return kern_dot(src->dtype, query, row_at(src, b, row), src->dim);
}

void exact_offer(const struct engine_source *src, const struct engine_block *b, size_t block,
                 uint32_t row, double score, struct topk *to)
{
    struct topk_hit hit = {.score = score, .chunk = (uint32_t)block, .row = row};
    double bar;

    if (!to->k)
        return; /* this query does not ask for this end */
    /* Most rows end here, before their sequence is looked up. */
    if (topk_bar(to, &bar) && (to->end == TOPK_HIGHEST ? score < bar : score > bar))
        return;
    hit.sequence = src->sequence(b, row);
    topk_offer(to, &hit);
}

/* Scores of up to TOGETHER live rows against one query. Four neighbours in float32 go as one. */
static void score_group(const struct engine_source *src, const struct engine_block *b,
                        const uint32_t *rows, size_t count, const float *query, double *scores)
{
    if (count == TOGETHER && rows[TOGETHER - 1] == rows[0] + TOGETHER - 1 &&
        src->dtype == DTYPE_F32) {
        kern->dot4_f32(query, row_at(src, b, rows[0]), src->dim * sizeof(float), src->dim, scores);
        return;
    }
    for (size_t i = 0; i < count; i++)
        scores[i] = exact_score(src, b, rows[i], query);
}

/* The next live rows from *from on, up to TOGETHER. */
static size_t live_rows(const struct engine_block *b, uint32_t *from, uint32_t rows[TOGETHER])
{
    size_t count = 0;

    for (; *from < b->rows && count < TOGETHER; (*from)++)
        if (!exact_dead(b, *from))
            rows[count++] = *from;
    return count;
}

/* Rows are the outer loop: a group stays in cache while all queries pass over it. */
uint64_t exact_block(const struct engine_source *src, const struct engine_block *b, size_t block,
                     const struct engine_query *q, const unsigned char *wanted, struct topk *pro,
                     struct topk *opp)
{
    const unsigned all = (q->k ? EXACT_PRO : 0u) | (q->opponents ? EXACT_OPP : 0u);
    uint32_t rows[TOGETHER], from = 0;
    double scores[TOGETHER];
    uint64_t scored = 0;
    size_t count;

    while ((count = live_rows(b, &from, rows)) > 0)
        for (size_t n = 0; n < q->count; n++) {
            unsigned ends = wanted ? wanted[n] : all;

            if (!ends)
                continue;
            score_group(src, b, rows, count, q->vectors + n * src->dim, scores);
            scored += count;
            for (size_t i = 0; i < count; i++) {
                if (ends & EXACT_PRO)
                    exact_offer(src, b, block, rows[i], scores[i], &pro[n]);
                if (ends & EXACT_OPP)
                    exact_offer(src, b, block, rows[i], scores[i], &opp[n]);
            }
        }
    return scored;
}

/* The kernel's own sum of squares is within d 2^-53 of the true one, relatively (all terms have one
 * sign); 2^-20 covers that for d < 2^32, and the root's rounding. f16 and bf16 rows are measured
 * through widened pieces, so that only float32 products are needed. */
double exact_longest(enum dtype t, const void *rows, size_t count, size_t d)
{
    enum { PIECE = 2048 };
    float piece[PIECE];
    double longest = 0.0;

    for (size_t r = 0; r < count; r++) {
        const char *row = (const char *)rows + r * d * dtype_size(t);
        double sum = 0.0;

        for (size_t at = 0; at < d; at += PIECE) {
            size_t n = d - at < PIECE ? d - at : PIECE;
            const void *from = row + at * dtype_size(t);

            if (t == DTYPE_F16)
                kern->widen_f16(from, n, piece);
            else if (t == DTYPE_BF16)
                kern->widen_bf16(from, n, piece);
            sum += t == DTYPE_F32 ? kern->dot_f32(from, from, n) : kern->dot_f32(piece, piece, n);
        }
        longest = sum > longest ? sum : longest;
    }
    return sqrt(longest) * (1.0 + 0x1p-20);
}

double exact_float32_error(size_t d, double q_length, double x_length)
{
    const double n = (double)d, u = 0x1p-24, both = q_length * x_length;
    const double gamma = n * u / (1.0 - n * u);
    /* Lost by underflow, even where a thread flushes denormals: 2^-126 an operation and operand. */
    const double underflow = n * 0x1p-124 * (1.0 + q_length + x_length);

    if (!(n * u < 0.5) || !isfinite(both))
        return INFINITY;
    /* The exact kernel's own rounding, and the rounding of what is written here. */
    return ((gamma + n * 0x1p-52) * both + underflow) * (1.0 + 0x1p-20);
}
