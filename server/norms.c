/* norms.c - see norms.h. The median is found digit by digit: positive doubles are ordered as their
 * bits are, so each pass counts the next 16 bits of those that share the digits found so far. */
#include "server/norms.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "server/strange.h"

enum { DIGIT_BITS = 16, DIGITS = 1 << DIGIT_BITS };

struct taking {
    struct norms *out;
    uint64_t *digits; /* counts, DIGITS of them */
    uint64_t prefix;  /* of the median's bits, above the digit in hand */
    uint64_t place;   /* of the median among those of the prefix, from 0 */
    unsigned shift;   /* of the digit in hand */
};

typedef void take_norm(struct taking *t, double norm);

static uint64_t bits_of(double norm)
{
    uint64_t bits;

    memcpy(&bits, &norm, sizeof bits);
    return bits;
}

static int each(const struct view *v, const struct stop *stop, take_norm *take, struct taking *t,
                struct err *e)
{
    for (size_t i = 0; i < v->chunk_count; i++) {
        const struct view_chunk *c = &v->chunks[i];
        struct block rows;

        if (stop_asked(stop))
            return err_set(e, ERR_CANCELLED, "stopped at chunk %zu of %zu", i, v->chunk_count);
        if (c->dead_count == c->rows)
            continue;
        if (block_open(c, BLOCK_ROWS, &rows, e))
            return (int)e->code;
        for (uint32_t row = 0; row < c->rows; row++) {
            double norm = block_row_norm(&rows, row);

            if (view_row_dead(c, row))
                continue;
            if (!isfinite(norm)) {
                block_close(&rows);
                return strange_row(v, i, row, e);
            }
            take(t, norm);
        }
        block_close(&rows);
    }
    return 0;
}

/* ---- what a pass takes ----------------------------------------------------------------------- */

static void take_digit(struct taking *t, double norm)
{
    uint64_t bits = bits_of(norm) >> t->shift;

    if (bits >> DIGIT_BITS == t->prefix)
        t->digits[bits & (DIGITS - 1)]++;
}

static void take_extremes(struct taking *t, double norm)
{
    t->out->min = norm < t->out->min ? norm : t->out->min;
    t->out->max = norm > t->out->max ? norm : t->out->max;
    take_digit(t, norm);
}

static void take_bin(struct taking *t, double norm)
{
    size_t low = 0, high = t->out->bins; /* the last edge but one that is not above */

    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (t->out->edges[middle] <= norm)
            low = middle;
        else
            high = middle;
    }
    t->out->counts[low]++;
    take_digit(t, norm);
}

/* ---- between passes -------------------------------------------------------------------------- */

static void settle_digit(struct taking *t)
{
    uint64_t digit = 0;

    while (t->place >= t->digits[digit])
        t->place -= t->digits[digit++];
    t->prefix = t->prefix << DIGIT_BITS | digit;
    t->shift -= DIGIT_BITS;
    memset(t->digits, 0, DIGITS * sizeof *t->digits);
}

static void make_edges(struct norms *n, size_t bins, struct arena *a)
{
    double from = log(n->min > 0 ? n->min : DBL_MIN), to = log(n->max > 0 ? n->max : DBL_MIN);

    n->bins = n->max > n->min ? bins : 1;
    n->edges = arena_new(a, n->bins + 1, sizeof *n->edges);
    n->counts = arena_new(a, n->bins, sizeof *n->counts);
    n->edges[0] = n->min;
    n->edges[n->bins] = n->max;
    for (size_t i = 1; i < n->bins; i++) {
        double edge = exp(from + (to - from) * (double)i / (double)n->bins);

        edge = edge < n->edges[i - 1] ? n->edges[i - 1] : edge; /* what rounding did */
        n->edges[i] = edge < n->max ? edge : n->max;
    }
}

int norms_take(const struct view *v, size_t bins, const struct stop *stop, struct arena *a,
               struct norms *out, struct err *e)
{
    struct taking t = {.out = out, .shift = 64 - DIGIT_BITS};
    int code;

    *out = (struct norms){.examples = v->live, .min = HUGE_VAL, .max = -HUGE_VAL};
    if (v->live == 0)
        return 0;
    t.digits = arena_new(a, DIGITS, sizeof *t.digits);
    t.place = (v->live - 1) / 2;
    code = each(v, stop, take_extremes, &t, e);
    if (code)
        return code;
    make_edges(out, bins, a);
    settle_digit(&t);
    code = each(v, stop, take_bin, &t, e);
    for (int left = 2; !code && left > 0; left--) {
        settle_digit(&t);
        code = each(v, stop, take_digit, &t, e);
    }
    if (code)
        return code;
    t.shift = DIGIT_BITS; /* the last digit has none below */
    settle_digit(&t);
    memcpy(&out->median, &t.prefix, sizeof out->median);
    return 0;
}
