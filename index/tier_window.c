/* tier_window.c - the first tier: integer sums of every live row of the next blocks. See
 * tier_part.h.
 *
 * One plane is read from end to end; the sums and the factors of a row stay in the window, so
 * that nothing is decided before the best rows of all of it are known.
 */
#include "index/tier_part.h"

#include <string.h>

#include "index/code.h"
#include "index/qkern.h"

enum {
    GAP = 8, /* dead rows in a row that end a tile: fewer are read along */
    QUERY_BYTES = 512 << 10, /* of planes: they stay in a second-level cache */
    MOST_PLANES = 64,
    PANEL = 32, /* groups, of MOST_PLANES planes and of TIER_TILE rows: they stay there too */
};

static bool is_dead(const struct tier_block *b, uint32_t row)
{
    return b->dead && (b->dead[row / 64] >> (row % 64) & 1);
}

/* The next tile of block b from *row on: first row in *row, its rows returned, 0 at the end. Begins
 * and ends with a live row. */
static uint32_t next_tile(const struct tier_block *b, uint32_t *row, uint32_t most)
{
    uint32_t at = *row, last;

    while (at < b->rows && is_dead(b, at))
        at++;
    *row = last = at;
    for (; at < b->rows && at - *row < most && at - last < GAP; at++)
        if (!is_dead(b, at))
            last = at;
    return *row < b->rows ? last - *row + 1 : 0;
}

static size_t clamp(size_t v, size_t least, size_t most)
{
    return v < least ? least : v > most ? most : v;
}

/* How a tile of TIER_TILE rows is multiplied: with how many planes and groups at a time. Few planes
 * go over whole rows, a few at a time, as these come from memory: all rows of a tile but the first
 * were asked for while the ones before were multiplied. Many go panel by panel, so that however
 * long the rows are, each vector loaded into a cache is used often. */
struct shape {
    size_t planes, groups;
};

static struct shape shape_of(const struct tier *t)
{
    const size_t planes = clamp(QUERY_BYTES / (t->groups * QKERN_GROUP), 4, MOST_PLANES);

    if (t->eight)
        return (struct shape){MOST_PLANES, TIER_PANEL};
    if (t->first_count > planes)
        return (struct shape){MOST_PLANES, PANEL};
    return (struct shape){planes, t->groups};
}

/* Puts the sums of the tile's live rows where the window has them, query by query. */
static void spread(struct share *s, const uint32_t *live, size_t count, size_t first, size_t planes,
                   const int32_t *sums)
{
    const bool fine = s->t->fine;

    for (size_t p = 0; p < planes; p++) {
        const size_t i = fine ? (first + p) / 2 : first + p;
        int32_t *out = (fine && (first + p) % 2 ? s->w.lo : s->w.hi) + i * s->w.room + s->w.count;

        for (size_t n = 0; n < count; n++)
            out[n] = sums[live[n] * planes + p];
    }
}

static void note_factor(struct window *w, size_t at, size_t f, float v)
{
    w->factor[f][at] = v;
    w->most[f] = v > w->most[f] ? v : w->most[f]; /* NaN: then rest6 is infinite anyway */
}

static size_t factors_of(const struct tier *t, const enum code_factor **out)
{
    static const enum code_factor of_six[] = {CODE_SCALE, CODE_REST6, CODE_LENGTH6, CODE_LENGTH};
    static const enum code_factor of_eight[] = {CODE_SCALE, CODE_REST8, CODE_LENGTH8};
    static const enum code_factor of_bits[] = {CODE_GAIN1, CODE_SPREAD1};

    *out = t->bits ? of_bits : t->eight ? of_eight : of_six;
    return t->bits ? 2 : t->eight ? 3 : 4;
}

static void note_factors(struct share *s, const struct held *h, uint32_t r, size_t at)
{
    const enum code_factor *factor;
    const size_t count = factors_of(s->t, &factor);
    float v[4];

    for (size_t f = 0; f < count; f++) {
        v[f] = code_factor(h->plane[TIER_FACTORS], h->b.rows, factor[f], r);
        note_factor(&s->w, at, f, v[f]);
    }
    if (count == 4)
        note_factor(&s->w, at, count,
                    (float)bound_along((double)v[1], (double)v[2], (double)v[3]));
}

static void note_rows(struct share *s, const struct held *h, uint32_t row, const uint32_t *live,
                      size_t count)
{
    struct window *w = &s->w;

    for (size_t n = 0; n < count; n++) {
        const uint32_t r = row + live[n];

        w->block[w->count + n] = (uint32_t)h->index;
        w->row[w->count + n] = r;
        note_factors(s, h, r, w->count + n);
        if (w->weight)
            w->weight[w->count + n] = h->b.weights[r];
    }
}

/* sums[r * planes + p]: of rows side by side with planes first .. first+planes-1. */
static void sum_tile(const struct tier *t, const unsigned char *rows, uint32_t count, size_t first,
                     size_t planes, size_t panel, int32_t *sums)
{
    const size_t bytes = t->bits ? QKERN_BITS : QKERN_SIX;
    int32_t part[TIER_TILE * MOST_PLANES];
    const int8_t *q[MOST_PLANES];

    for (size_t g = 0; g < t->groups; g += panel) {
        const size_t groups = t->groups - g < panel ? t->groups - g : panel;

        for (size_t p = 0; p < planes; p++)
            q[p] = t->first[first + p] + g * QKERN_GROUP;
        (t->bits ? qkern->dot_bits : qkern->dot_six)(rows + g * bytes, t->groups * bytes, count, q,
                                                     planes, groups, g ? part : sums);
        for (size_t n = 0; g && n < count * planes; n++)
            sums[n] += part[n];
    }
}

/* Adds the products of panel g of the joined rows and all queries to s->sums. */
static void sum_joined(struct share *s, uint32_t rows, size_t g, size_t groups)
{
    const size_t queries = s->t->first_count;
    int32_t part[TIER_TILE * MOST_PLANES];
    const int8_t *q[MOST_PLANES];

    for (size_t first = 0, planes; first < queries; first += planes) {
        planes = queries - first < MOST_PLANES ? queries - first : MOST_PLANES;
        for (size_t p = 0; p < planes; p++)
            q[p] = s->t->first[first + p] + g * QKERN_GROUP;
        qkern->dot_joined(s->joined, groups * QKERN_GROUP, rows, q, planes, groups, part);
        for (uint32_t n = 0; n < rows; n++)
            for (size_t p = 0; p < planes; p++) {
                int32_t *sum = &s->sums[n * queries + first + p];

                *sum = (int32_t)((uint32_t)*sum + (uint32_t)part[n * planes + p]);
            }
    }
}

/* Sums of hi (c8 - 128), whatever the table takes off a code. They are below 2^31. */
static void centre(struct share *s, uint32_t rows)
{
    const size_t queries = s->t->first_count;

    for (uint32_t n = 0; n < rows; n++)
        for (size_t i = 0; i < queries; i++) {
            const uint32_t more = (uint32_t)(QKERN_SIGNED - qkern->base) *
                                  (uint32_t)(int32_t)s->t->bounds[i].sum_hi;

            s->sums[n * queries + i] = (int32_t)((uint32_t)s->sums[n * queries + i] - more);
        }
}

/* Eight bits a dimension: panel by panel the rows are joined once for all queries. */
static void fill_eight(struct share *s, const struct held *h, uint32_t row, uint32_t rows,
                       const uint32_t *live, size_t count)
{
    const struct tier *t = s->t;
    const unsigned char *six = h->plane[TIER_SIX] + row * t->groups * QKERN_SIX;
    const unsigned char *low = h->plane[TIER_LOW] + row * t->groups * QKERN_LOW;

    memset(s->sums, 0, rows * t->first_count * sizeof *s->sums);
    for (size_t g = 0, groups; g < t->groups; g += groups) {
        groups = t->groups - g < TIER_PANEL ? t->groups - g : TIER_PANEL;
        for (uint32_t r = 0; r < rows; r++)
            qkern->join(six + (r * t->groups + g) * QKERN_SIX,
                        low + (r * t->groups + g) * QKERN_LOW, groups,
                        s->joined + r * groups * QKERN_GROUP);
        sum_joined(s, rows, g, groups);
    }
    centre(s, rows);
    spread(s, live, count, 0, t->first_count, s->sums);
    s->work->rows_low += rows * t->q->count;
}

/* One plane. */
static void fill_plane(struct share *s, const struct held *h, struct shape shape, uint32_t row,
                       uint32_t rows, const uint32_t *live, size_t count)
{
    const struct tier *t = s->t;
    const size_t width = t->groups * (t->bits ? QKERN_BITS : QKERN_SIX);
    const unsigned char *plane = h->plane[t->bits ? TIER_BITS : TIER_SIX] + row * width;
    int32_t sums[TIER_TILE * MOST_PLANES];

    for (size_t first = 0, planes; first < t->first_count; first += planes) {
        planes = t->first_count - first < shape.planes ? t->first_count - first : shape.planes;
        sum_tile(t, plane, rows, first, planes, shape.groups, sums);
        spread(s, live, count, first, planes, sums);
    }
}

/* Rows row .. row+rows-1 of the open block. */
static void fill_tile(struct share *s, const struct held *h, struct shape shape, uint32_t row,
                      uint32_t rows)
{
    const struct tier *t = s->t;
    uint32_t live[TIER_TILE];
    size_t count = 0;

    for (uint32_t r = 0; r < rows; r++)
        if (!is_dead(&h->b, row + r))
            live[count++] = r;
    if (t->eight)
        fill_eight(s, h, row, rows, live, count);
    else
        fill_plane(s, h, shape, row, rows, live, count);
    note_rows(s, h, row, live, count);
    s->w.count += count;
    *(t->bits ? &s->work->rows_bits : &s->work->rows_six) += rows * t->q->count;
}

/* The block at the cursor, from its row on, until it ends or the window is full. */
static int fill_block(struct share *s, struct err *e)
{
    const struct tier *t = s->t;
    const struct shape shape = shape_of(t);
    struct held *h = &s->scan;
    uint32_t rows;
    int failed = tier_held_take(s, h, s->block, e);

    if (failed)
        return failed;
    if (!h->b.rows) {
        /* Nothing of it is asked for: no plane is touched. */
    } else if (t->whole || !h->b.coded) {
        failed = tier_exact_whole(s, h, e);
        s->row = h->b.rows;
    } else {
        for (int p = TIER_BITS; p <= TIER_LOW && !failed; p++)
            if (tier_reads_all(t, (enum tier_plane)p))
                failed = tier_held_plane(s, h, (enum tier_plane)p, e);
        if (!failed)
            failed = tier_held_plane(s, h, TIER_FACTORS, e);
    }
    while (!failed && s->w.count < s->w.room) {
        const size_t room = s->w.room - s->w.count;

        rows = next_tile(&h->b, &s->row, room < TIER_TILE ? (uint32_t)room : TIER_TILE);
        if (!rows)
            break;
        fill_tile(s, h, shape, s->row, rows);
        s->row += rows;
    }
    s->inside = s->row < h->b.rows;
    if (!s->inside)
        s->work->blocks++;
    tier_held_drop(s, h);
    return failed;
}

int tier_window_fill(struct share *s, struct err *e)
{
    struct tier *t = s->t;
    int failed = 0;

    memset(s->w.settled, 0, s->w.words * t->q->count * sizeof *s->w.settled);
    memset(s->w.most, 0, sizeof s->w.most);
    s->w.count = 0;
    while (!failed && s->w.count < s->w.room) {
        if (!s->inside) {
            s->block = atomic_fetch_add_explicit(&t->next, 1, memory_order_relaxed);
            s->row = 0;
            if (s->block >= t->src->count)
                break;
        }
        failed = tier_cancelled(s, e);
        if (!failed)
            failed = fill_block(s, e);
    }
    return failed;
}
