/* encode.c - see encode.h.
 *
 * Many rows: each thread takes a tile at a time and carries it through all blocks by matrix
 * products. A few rows, which is what queries are: a tile would be one thread's, and mostly
 * filling; so threads share S by strips, and read it in place. Both give the same bits. */
#include "server/encode.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "index/vec.h"
#include "server/pool.h"
#include "storage/annex.h"
#include "storage/base/check.h"
#include "storage/base/keep.h"
#include "storage/base/mem.h"

/* ---- the whitening of a view ----------------------------------------------------------------- */

static void drop_whitening(void *thing)
{
    whiten_fini(thing);
    free(thing);
}

static void *read_whitening(struct annex *a, void *arg, struct err *e)
{
    const struct annex_def *def = annex_def(a);
    const struct corpus_def *corpus = arg;
    struct whiten *w = mem_new(1, sizeof *w);
    const unsigned char *bytes;
    size_t len;
    int code;

    if (def->artifact_count != 1)
        code = err_set(e, ERR_CORRUPT, "the state names %zu files", def->artifact_count);
    else
        code = artifact_map(def->artifacts[0], &bytes, &len, e);
    if (!code)
        code = whiten_read(bytes, len, w, e);
    if (!code && w->dim != corpus->dim) {
        code = err_set(e, ERR_CORRUPT, "the whitening has %zu dimensions, the corpus %u", w->dim,
                       corpus->dim);
        whiten_fini(w);
    }
    if (!code)
        return w;
    err_wrap(e, "corpus %s: ", corpus->name);
    free(w);
    return NULL;
}

int encode_whitening(const struct view *v, const struct whiten **out, struct err *e)
{
    void *def = (void *)(uintptr_t)corpus_def(v->corpus);

    *out = NULL;
    if (!v->state)
        return 0;
    *out = annex_derived(v->state, read_whitening, drop_whitening, def, e);
    return *out ? 0 : (int)e->code;
}

/* ---- many rows ------------------------------------------------------------------------------- */

struct slot {
    float *unit, *white; /* a tile of rows each */
    float *product;      /* whiten_scratch */
    float *row;          /* dim */
    struct err err;
    size_t bad_row; /* SIZE_MAX: none */
};

struct spread {
    const struct encode *k;
    const struct stop *stop;
    struct slot *slots;
    float *few; /* few rows: whitened, rows x dim */
    _Atomic size_t next; /* row; few rows: strip */
    _Atomic size_t first_bad;
};

/* The lowest bad row is found whatever the order of threads: tiles are handed out ascending, so all
 * below a bad one are in somebody's hands and end; those above need not begin. */
static void mark_bad(struct spread *s, struct slot *mine, size_t row)
{
    size_t seen = atomic_load(&s->first_bad);

    mine->bad_row = row;
    while (row < seen && !atomic_compare_exchange_weak(&s->first_bad, &seen, row))
        ;
}

static const unsigned char *in_row(const struct encode *k, size_t row)
{
    return (const unsigned char *)k->in + row * k->dim * dtype_size(k->in_type);
}

static unsigned char *out_row(const struct encode *k, size_t row)
{
    return (unsigned char *)k->out + row * k->dim * dtype_size(k->out_type);
}

/* `white` is S u for the unit vector u of a gradient of this length. */
static int settle_row(const struct encode *k, const float *white, double length, size_t row,
                      float *scratch, struct err *e)
{
    int code = vec_normalise(white, DTYPE_F32, k->dim, k->out_type, out_row(k, row),
                             &k->norms[row], scratch, k->field, row, e);

    if (!code)
        k->norms[row] *= length;
    return code;
}

/* Unit rows for the products: as they came, or normalised into `unit`. Returns the first bad
 * row. */
static size_t unit_rows(const struct encode *k, struct slot *mine, size_t first, size_t count,
                        double *lengths, const void **out, enum dtype *out_type)
{
    *out = mine->unit;
    *out_type = DTYPE_F32;
    if (k->lengths) {
        *out = in_row(k, first);
        *out_type = k->in_type;
    }
    for (size_t i = 0; i < count; i++) {
        if (k->lengths)
            lengths[i] = k->lengths[first + i];
        else if (vec_normalise(in_row(k, first + i), k->in_type, k->dim, DTYPE_F32,
                               mine->unit + i * k->dim, &lengths[i], mine->row, k->field, first + i,
                               &mine->err))
            return i;
    }
    return count;
}

static size_t white_tile(const struct encode *k, struct slot *mine, size_t first, size_t count)
{
    double lengths[WHITEN_TILE];
    const void *unit;
    enum dtype type;
    size_t good = unit_rows(k, mine, first, count, lengths, &unit, &type);
    const unsigned char *column = unit;
    size_t at = 0;

    for (size_t b = 0; b < k->whiten->count; b++) {
        const struct whiten_block *block = &k->whiten->block[b];

        whiten_apply(block, column + at * dtype_size(type), type, k->dim * dtype_size(type), good,
                     mine->white + at, k->dim, mine->product);
        at += block->dim;
    }
    for (size_t i = 0; i < good; i++)
        if (settle_row(k, mine->white + i * k->dim, lengths[i], first + i, mine->row, &mine->err))
            return i;
    return good;
}

static size_t plain_tile(const struct encode *k, struct slot *mine, size_t first, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (vec_normalise(in_row(k, first + i), k->in_type, k->dim, k->out_type,
                          out_row(k, first + i), &k->norms[first + i], mine->row, k->field,
                          first + i, &mine->err))
            return i;
    return count;
}

static void tile_share(void *arg, unsigned number)
{
    struct spread *s = arg;
    const struct encode *k = s->k;
    struct slot *mine = &s->slots[number];

    for (;;) {
        size_t row = atomic_fetch_add(&s->next, WHITEN_TILE), count, good;

        if (row >= k->rows || row > atomic_load(&s->first_bad))
            return;
        if (stop_asked(s->stop)) {
            err_set(&mine->err, ERR_CANCELLED, "stopped at row %zu of %zu", row, k->rows);
            mark_bad(s, mine, row);
            return;
        }
        count = k->rows - row < WHITEN_TILE ? k->rows - row : WHITEN_TILE;
        good = k->whiten ? white_tile(k, mine, row, count) : plain_tile(k, mine, row, count);
        if (good < count) {
            mark_bad(s, mine, row + good);
            return;
        }
    }
}

/* ---- a few rows ------------------------------------------------------------------------------ */

static size_t strips_of(const struct whiten_block *b)
{
    return (b->dim + WHITEN_STRIP - 1) / WHITEN_STRIP;
}

static void strip_share(void *arg, unsigned number)
{
    struct spread *s = arg;
    const struct encode *k = s->k;
    const struct whiten *w = k->whiten;

    (void)number;
    for (;;) {
        size_t strip = atomic_fetch_add(&s->next, 1), at = 0, b = 0, from, left;

        if (stop_asked(s->stop))
            return;
        while (b < w->count && strip >= strips_of(&w->block[b])) {
            strip -= strips_of(&w->block[b]);
            at += w->block[b++].dim;
        }
        if (b == w->count)
            return;
        from = strip * WHITEN_STRIP;
        left = w->block[b].dim - from;
        whiten_strip(&w->block[b], s->slots[0].unit + at, k->dim, k->rows, from,
                     from + (left < WHITEN_STRIP ? left : WHITEN_STRIP), s->few + at);
    }
}

static int few_rows(struct spread *s, struct pool *pool, unsigned width, struct err *e)
{
    const struct encode *k = s->k;
    struct slot *mine = &s->slots[0];
    double lengths[WHITEN_FEW];
    const void *unit;
    enum dtype type;
    int code = 0;

    if (unit_rows(k, mine, 0, k->rows, lengths, &unit, &type) < k->rows) {
        *e = mine->err;
        return (int)e->code;
    }
    if (unit != mine->unit)
        vec_widen(unit, type, k->rows * k->dim, mine->unit);
    if (pool && width > 1)
        pool_fanout(pool, width, strip_share, s);
    else
        strip_share(s, 0);
    if (stop_asked(s->stop))
        return err_set(e, ERR_CANCELLED, "stopped while encoding");
    for (size_t i = 0; !code && i < k->rows; i++)
        code = settle_row(k, s->few + i * k->dim, lengths[i], i, mine->row, e);
    return code;
}

/* ---- both ------------------------------------------------------------------------------------ */

static int slots_init(struct spread *s, unsigned width, bool few, struct err *e)
{
    const struct encode *k = s->k;
    size_t tile = few ? WHITEN_FEW : WHITEN_TILE, product = 0;
    bool failed = false;

    for (size_t b = 0; k->whiten && b < k->whiten->count; b++)
        if (whiten_scratch(k->whiten->block[b].dim) > product)
            product = whiten_scratch(k->whiten->block[b].dim);
    s->slots = mem_new(width, sizeof *s->slots);
    for (unsigned i = 0; i < width; i++) {
        struct slot *slot = &s->slots[i];

        slot->err = ERR_INIT;
        slot->bad_row = SIZE_MAX;
        slot->row = mem_big(k->dim, sizeof(float));
        failed |= !slot->row;
        if (!k->whiten || (few && i > 0))
            continue;
        slot->unit = keep_take(tile * k->dim, sizeof(float));
        slot->white = keep_take(tile * k->dim, sizeof(float));
        slot->product = few ? NULL : mem_big(product, sizeof(float));
        failed |= !slot->unit || !slot->white || (!few && !slot->product);
    }
    s->few = few && k->whiten ? s->slots[0].white : NULL;
    return failed ? err_set(e, ERR_BUSY, "no memory to encode %zu rows of %zu elements", k->rows,
                            k->dim)
                  : 0;
}

static void slots_fini(struct spread *s, unsigned width)
{
    for (unsigned i = 0; i < width; i++) {
        keep_give(s->slots[i].unit);
        keep_give(s->slots[i].white);
        free(s->slots[i].product);
        free(s->slots[i].row);
    }
    keep_settle();
    free(s->slots);
}

static int many_rows(struct spread *s, struct pool *pool, unsigned width, struct err *e)
{
    if (pool && width > 1)
        pool_fanout(pool, width, tile_share, s);
    else
        tile_share(s, 0);
    for (unsigned i = 0; i < width; i++)
        if (s->slots[i].bad_row != SIZE_MAX &&
            s->slots[i].bad_row == atomic_load(&s->first_bad)) {
            *e = s->slots[i].err;
            return (int)e->code;
        }
    return 0;
}

int encode_run(const struct encode *k, struct pool *pool, const struct stop *stop, struct err *e)
{
    struct spread s = {.k = k, .stop = stop, .first_bad = SIZE_MAX};
    size_t tiles = (k->rows + WHITEN_TILE - 1) / WHITEN_TILE;
    bool few = k->whiten && k->rows <= WHITEN_FEW;
    unsigned width = pool ? pool_readers(pool) : 1;
    int code;

    require(!k->whiten || k->whiten->dim == k->dim);
    if (!few && width > tiles)
        width = tiles ? (unsigned)tiles : 1;
    code = slots_init(&s, width, few, e);
    if (!code)
        code = few ? few_rows(&s, pool, width, e) : many_rows(&s, pool, width, e);
    slots_fini(&s, width);
    return code;
}
