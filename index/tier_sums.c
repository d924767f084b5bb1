/* tier_sums.c - products of picked rows of a tile with parts of the queries they are picked for.
 * See tier_part.h.
 *
 * Rows side by side go together: a kernel takes four at the price of two and a half, and asks
 * memory for the next while it multiplies. Where rows lie apart, the next piece is asked for
 * before this one is multiplied: a few rows a tile are too few for the processor to guess.
 */
#include "index/qkern.h"
#include "index/tier_part.h"

enum {
    TOGETHER = 4, /* rows of a kernel's tile */
    LINE = 64,    /* bytes that memory gives at once */
    FEW = 4,      /* queries */
    PANEL = 8,    /* groups: of six bits 24 lines a row, as many as are on their way at once */
};

/* Rows n .. n + rows - 1 of the tile, side by side in the block. All are multiplied when rows >
 * 1, also for a query that wants only some. */
struct piece {
    uint32_t n, rows;
};

struct work {
    const struct share *s;
    const struct picked *p;
    qkern_dot *dot;
    const unsigned char *plane;
    size_t width;   /* of a row in it */
    unsigned parts; /* PART_HI, PART_LO, or both */
    int32_t *out;
};

static size_t width_of(const struct tier *t, enum tier_plane p)
{
    return t->groups * (p == TIER_BITS ? QKERN_BITS : p == TIER_SIX ? QKERN_SIX : QKERN_LOW);
}

static const unsigned char *row_at(const struct work *k, uint32_t n)
{
    return k->plane + k->s->w.row[k->p->from + n] * k->width;
}

static uint64_t bits_from(uint32_t n, uint32_t rows)
{
    return (rows == 64 ? UINT64_MAX : (UINT64_C(1) << rows) - 1) << n;
}

/* Would it pay to multiply all of rows n .. n + TOGETHER - 1 with each query that wants one? */
static bool is_dense(const struct work *k, uint32_t n)
{
    const struct picked *p = k->p;
    const uint32_t *row = k->s->w.row + p->from, *block = k->s->w.block + p->from;
    const uint32_t last = n + TOGETHER - 1;
    size_t wanted = 0, queries = 0;

    if (last >= TIER_TILE || p->from + last >= k->s->w.count ||
        row[last] - row[n] != TOGETHER - 1 || block[last] != block[n])
        return false;
    for (size_t j = 0; j < p->count; j++) {
        const uint64_t own = p->mask[j] & bits_from(n, TOGETHER);

        wanted += (size_t)__builtin_popcountll(own);
        queries += own != 0;
    }
    return wanted * 8 >= queries * TOGETHER * 5;
}

/* The tile's picked rows in pieces; returns how many. For a single query a piece grows as long
 * as it is dense: one call, and no wait between. */
static size_t cut(const struct work *k, struct piece piece[TIER_TILE])
{
    uint64_t any = 0;
    size_t count = 0;

    for (size_t j = 0; j < k->p->count; j++)
        any |= k->p->mask[j];
    while (any) {
        struct piece *a = &piece[count++];

        *a = (struct piece){(uint32_t)__builtin_ctzll(any), 1};
        if (is_dense(k, a->n)) {
            a->rows = TOGETHER;
            while (k->p->count == 1 && is_dense(k, a->n + a->rows) &&
                   row_at(k, a->n + a->rows) == row_at(k, a->n) + a->rows * k->width)
                a->rows += TOGETHER;
        }
        any &= ~bits_from(a->n, a->rows);
    }
    return count;
}

/* The query planes that a piece is multiplied with, and where their sums belong. */
static size_t planes_of(const struct work *k, struct piece a, const int8_t *plane[2 * TIER_GROUP],
                        uint32_t at[2 * TIER_GROUP])
{
    const uint64_t rows = bits_from(a.n, a.rows);
    const uint32_t each = k->parts == (PART_HI | PART_LO) ? 2 : 1;
    size_t count = 0;

    for (uint32_t j = 0; j < k->p->count; j++) {
        const struct bound_query *q = &k->s->t->bounds[k->p->query[j]];

        if (!(k->p->mask[j] & rows))
            continue;
        if (k->parts & PART_HI) {
            plane[count] = q->hi;
            at[count++] = j * each;
        }
        if (k->parts & PART_LO) {
            plane[count] = q->lo;
            at[count++] = j * each + each - 1;
        }
    }
    return count;
}

/* Asks memory for bytes from .. to - 1 of each of a piece's first rows; the kernel sees to those
 * after. */
static void fetch(const struct work *k, struct piece a, size_t from, size_t to)
{
    for (uint32_t r = 0; r < a.rows && r < TOGETHER; r++)
        for (size_t i = from; i < to; i += LINE)
            __builtin_prefetch(row_at(k, a.n + r) + i, 0, 2);
}

/* Products of piece `a`; for few queries panel by panel, so that the piece after it comes along
 * meanwhile. Many wait for sums, not for memory. */
static void multiply(const struct work *k, struct piece a, struct piece next)
{
    const size_t stride = k->p->count * (k->parts == (PART_HI | PART_LO) ? 2 : 1);
    const size_t groups = k->s->t->groups, bytes = k->width / groups;
    const size_t panel = a.rows > TOGETHER || k->p->count > FEW ? groups : PANEL;
    const int8_t *plane[2 * TIER_GROUP];
    uint32_t at[2 * TIER_GROUP];
    int32_t sums[TIER_TILE * 2 * TIER_GROUP], part[TOGETHER * 2 * TIER_GROUP];
    const size_t count = planes_of(k, a, plane, at);

    for (size_t g = 0; g < groups; g += panel) {
        const size_t some = groups - g < panel ? groups - g : panel;

        fetch(k, next, g * bytes, (g + some) * bytes);
        k->dot(row_at(k, a.n) + g * bytes, k->width, a.rows, plane, count, some, g ? part : sums);
        for (size_t c = 0; g && c < a.rows * count; c++)
            sums[c] += part[c];
        for (size_t c = 0; c < count; c++)
            plane[c] += some * QKERN_GROUP;
    }
    for (uint32_t r = 0; r < a.rows; r++)
        for (size_t c = 0; c < count; c++)
            k->out[(a.n + r) * stride + at[c]] = sums[r * count + c];
}

int tier_sums(struct share *s, const struct picked *p, enum tier_plane plane, unsigned parts,
              int32_t *out, struct err *e)
{
    const struct tier_source *src = s->t->src;
    struct work k = {.s = s, .p = p, .parts = parts, .out = out};
    struct piece piece[TIER_TILE];
    int failed = tier_held_plane(s, &s->scan, plane, e);
    size_t count;

    if (failed)
        return failed;
    k.dot = plane == TIER_BITS  ? qkern->dot_bits
            : plane == TIER_SIX ? qkern->dot_six
                                : qkern->dot_low;
    k.plane = s->scan.plane[plane];
    k.width = width_of(s->t, plane);
    count = cut(&k, piece);
    /* Where they are not in memory, one wait for all. */
    for (size_t a = 0; a < count && src->ahead && !tier_reads_all(s->t, plane); a++)
        src->ahead(src->arg, &s->scan.b, plane, s->w.row[p->from + piece[a].n] * k.width,
                   piece[a].rows * k.width);
    for (size_t a = 0; a < count; a++)
        multiply(&k, piece[a], a + 1 < count ? piece[a + 1] : (struct piece){0});
    return 0;
}
