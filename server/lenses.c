/* lenses.c - see lenses.h. What was computed on the way stands in a list beside the file's
 * table; both are searched by chunk id, and nothing in them ever changes or goes while the annex
 * lives. */
#include "server/lenses.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "server/pool.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

/* Head of the file, little-endian: magic, count, rows; then chunk id and rows of each; then n. */
enum { HEAD = 24, ENTRY = 16, OVERDUE_ROWS = 65536, OVERDUE_SHARE = 8 };
static const char magic[8] = {'a', 's', 'c', 'r', 'n', 'r', 'm', '1'};

struct known {
    uint64_t chunk, rows;
    const double *n;
};

struct lensed {
    struct lens lens;
    enum dtype dtype;    /* of the rows */
    struct known *table; /* of the file, ascending by chunk; owned */
    size_t count;
    pthread_mutex_t lock; /* guards the rest */
    struct known *late;   /* computed since, ascending by chunk; owned, each n too */
    size_t late_count, late_cap;
    bool asked; /* that the file be written anew */
};

/* ---- the file -------------------------------------------------------------------------------- */

void lenses_head(struct buf *out, const struct lenses_entry *entries, size_t count)
{
    unsigned char word[ENTRY];
    uint64_t rows = 0;

    for (size_t i = 0; i < count; i++)
        rows += entries[i].rows;
    buf_add(out, magic, sizeof magic);
    bytes_put_le64(word, count);
    bytes_put_le64(word + 8, rows);
    buf_add(out, word, ENTRY);
    for (size_t i = 0; i < count; i++) {
        bytes_put_le64(word, entries[i].chunk);
        bytes_put_le64(word + 8, entries[i].rows);
        buf_add(out, word, ENTRY);
    }
}

static int damaged(const char *what, struct err *e)
{
    return err_set(e, ERR_CORRUPT, "denominators: %s", what);
}

static int read_table(struct lensed *t, const unsigned char *p, size_t len, struct err *e)
{
    uint64_t count, rows, at = 0;
    const double *n;

    if (len < HEAD || memcmp(p, magic, sizeof magic) != 0)
        return damaged("not a file of them", e);
    count = bytes_get_le64(p + 8);
    rows = bytes_get_le64(p + 16);
    if (count > (len - HEAD) / ENTRY || rows != (len - HEAD - count * ENTRY) / sizeof *n ||
        (len - HEAD - count * ENTRY) % sizeof *n)
        return damaged("the length does not fit the head", e);
    n = (const double *)(const void *)(p + HEAD + count * ENTRY);
    t->table = mem_new((size_t)count, sizeof *t->table);
    t->count = (size_t)count;
    for (size_t i = 0; i < count; i++) {
        struct known k = {bytes_get_le64(p + HEAD + i * ENTRY),
                          bytes_get_le64(p + HEAD + i * ENTRY + 8), n + at};

        if (k.rows > rows - at || (i && k.chunk <= t->table[i - 1].chunk))
            return damaged("the table of chunks contradicts itself", e);
        t->table[i] = k;
        at += k.rows;
    }
    return at == rows ? 0 : damaged("the table of chunks is short", e);
}

static void drop_lensed(void *thing)
{
    struct lensed *t = thing;

    for (size_t i = 0; i < t->late_count; i++)
        free((void *)(uintptr_t)t->late[i].n);
    free(t->late);
    free(t->table);
    lens_fini(&t->lens);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static void *make_lensed(struct annex *a, void *arg, struct err *e)
{
    const struct annex_def *def = annex_def(a);
    const struct corpus_def *corpus = arg;
    struct lensed *t = mem_new(1, sizeof *t);
    const unsigned char *p;
    size_t len;
    int code;

    pthread_mutex_init(&t->lock, NULL);
    t->dtype = (enum dtype)corpus->dtype;
    if (def->artifact_count != 2)
        code = err_set(e, ERR_CORRUPT, "%zu files", def->artifact_count);
    else
        code = artifact_map(def->artifacts[0], &p, &len, e);
    if (!code)
        code = lens_read(p, len, &t->lens, e);
    if (!code && t->lens.dim != corpus->dim)
        code = err_set(e, ERR_CORRUPT, "the lens has %zu dimensions, the corpus %u", t->lens.dim,
                       corpus->dim);
    if (!code)
        code = artifact_map(def->artifacts[1], &p, &len, e);
    if (!code)
        code = read_table(t, p, len, e);
    if (!code)
        return t;
    err_wrap(e, "corpus %s: task %s: ", corpus->name, def->name);
    drop_lensed(t);
    return NULL;
}

int lenses_open(struct corpus *c, const struct view *v, const char *name, struct annex **out_annex,
                struct lensed **out, struct err *e)
{
    const struct corpus_def *def = corpus_def(c);
    struct annex *a = annex_find(c, name);

    if (!a) {
        err_set(e, ERR_UNKNOWN_TASK, "corpus %s has no task \"%.63s\"", def->name, name);
        return err_at_field(e, "task");
    }
    if (annex_def(a)->epoch != view_epoch(v)) {
        err_set(e, ERR_TASK_STALE,
                "task %s was made for fit %llu of corpus %s, which is at %llu: put it again", name,
                (unsigned long long)annex_def(a)->epoch, def->name,
                (unsigned long long)view_epoch(v));
        err_at_field(e, "task");
    } else {
        *out = annex_derived(a, make_lensed, drop_lensed, (void *)(uintptr_t)def, e);
        if (*out) {
            *out_annex = a;
            return 0;
        }
    }
    annex_release(a);
    return (int)e->code;
}

/* ---- queries --------------------------------------------------------------------------------- */

/* Queries of a wave are turned block by block, so that a block comes from memory once a wave and a
 * single query has work for all threads. What a block makes of a query depends on these two alone:
 * the bits are the same for any number of queries and threads. */
enum { WAVE = 32 };

struct wave {
    const struct lens *lens;
    const size_t *at; /* where each block's elements begin */
    const float *vectors;
    size_t count;
    double *turned, *quads; /* M q, count x dim; x^T M x by blocks, count x blocks */
    const struct stop *stop;
    _Atomic size_t next;
    _Atomic bool halt; /* asked to stop */
    _Atomic bool busy; /* no memory */
};

/* Turn `turn` is query turn % count in block turn / count; false when it was the last. */
static bool take_turn(struct wave *w, double *x, double *scratch)
{
    const struct lens *l = w->lens;
    size_t turn = atomic_fetch_add(&w->next, 1), block = turn / w->count, i = turn % w->count;
    const float *q;

    if (block >= l->count)
        return false;
    q = w->vectors + i * l->dim + w->at[block];
    for (size_t k = 0; k < l->block[block].dim; k++)
        x[k] = (double)q[k];
    w->quads[i * l->count + block] = lens_apply_block(
        l, block, x, w->turned + i * l->dim + w->at[block], scratch);
    return true;
}

static void wave_share(void *arg, unsigned slot)
{
    struct wave *w = arg;
    size_t room = lens_apply_scratch(w->lens);
    double *x = mem_big(room, 2 * sizeof *x);

    (void)slot;
    if (!x)
        atomic_store(&w->busy, true);
    while (x && !atomic_load(&w->halt)) {
        if (stop_asked(w->stop))
            atomic_store(&w->halt, true);
        else if (!take_turn(w, x, x + room))
            break;
    }
    free(x);
}

static int turn_wave(struct wave *w, struct pool *pool, struct err *e)
{
    size_t turns = w->lens->count * w->count;
    unsigned width = pool ? pool_readers(pool) : 1;

    if (width > turns)
        width = (unsigned)turns;
    atomic_store(&w->next, 0);
    if (width > 1)
        pool_fanout(pool, width, wave_share, w);
    else
        wave_share(w, 0);
    if (atomic_load(&w->busy))
        return err_set(e, ERR_BUSY, "no memory to turn queries of %zu elements", w->lens->dim);
    if (atomic_load(&w->halt))
        return err_set(e, ERR_CANCELLED, "stopped while turning queries");
    return 0;
}

/* What a turned query is in the end; parts of blocks are added in their order. */
static int settle(const struct wave *w, size_t i, float *vector, double *length, struct err *e)
{
    const struct lens *l = w->lens;
    double quad = 0.0, turned;

    for (size_t b = 0; b < l->count; b++)
        quad += w->quads[i * l->count + b];
    if (lens_settle(l, w->turned + i * l->dim, quad, vector, &turned, e))
        return (int)e->code;
    *length *= turned;
    return 0;
}

static int turn_all(struct wave *w, float *vectors, double *lengths, size_t count,
                    struct pool *pool, struct err *e)
{
    size_t dim = w->lens->dim;
    int code = 0;

    for (size_t from = 0; !code && from < count; from += WAVE) {
        w->vectors = vectors + from * dim;
        w->count = count - from < WAVE ? count - from : WAVE;
        code = turn_wave(w, pool, e);
        for (size_t i = 0; !code && i < w->count; i++)
            code = settle(w, i, vectors + (from + i) * dim, &lengths[from + i], e);
    }
    return code;
}

int lenses_queries(const struct lensed *t, float *vectors, double *lengths, size_t count,
                   struct pool *pool, const struct stop *stop, struct err *e)
{
    const struct lens *l = &t->lens;
    size_t most = count < WAVE ? count : WAVE, *at = mem_new(l->count, sizeof *at);
    double *turned = mem_big(most * l->dim, sizeof *turned);
    double *quads = mem_big(most * l->count, sizeof *quads);
    struct wave w = {.lens = l, .at = at, .turned = turned, .quads = quads, .stop = stop};
    int code;

    for (size_t i = 1; i < l->count; i++)
        at[i] = at[i - 1] + l->block[i - 1].dim;
    if (turned && quads)
        code = turn_all(&w, vectors, lengths, count, pool, e);
    else
        code = err_set(e, ERR_BUSY, "no memory to turn %zu queries of %zu elements", most, l->dim);
    free(at);
    free(turned);
    free(quads);
    return code;
}

/* ---- denominators ---------------------------------------------------------------------------- */

/* First entry whose chunk is not below. */
static size_t place_of(const struct known *list, size_t count, uint64_t chunk)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (list[middle].chunk < chunk)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const double *look(const struct known *list, size_t count, const struct view_chunk *c)
{
    size_t at = place_of(list, count, c->id);

    return at < count && list[at].chunk == c->id && list[at].rows == c->rows ? list[at].n : NULL;
}

const double *lenses_known(struct lensed *t, const struct view_chunk *c)
{
    const double *n = look(t->table, t->count, c);

    if (!n) {
        pthread_mutex_lock(&t->lock);
        n = look(t->late, t->late_count, c);
        pthread_mutex_unlock(&t->lock);
    }
    return n;
}

/* Keeps n for all later queries, or takes what another thread has put there meanwhile. */
static const double *keep(struct lensed *t, const struct view_chunk *c, double *n)
{
    const double *there;
    size_t at;

    pthread_mutex_lock(&t->lock);
    there = look(t->late, t->late_count, c);
    if (!there) {
        if (t->late_count == t->late_cap) {
            size_t cap = t->late_cap ? t->late_cap * 2 : 16;
            struct known *grown = mem_new(cap, sizeof *grown);

            if (t->late_count)
                memcpy(grown, t->late, t->late_count * sizeof *grown);
            free(t->late);
            t->late = grown;
            t->late_cap = cap;
        }
        at = place_of(t->late, t->late_count, c->id);
        memmove(t->late + at + 1, t->late + at, (t->late_count - at) * sizeof *t->late);
        t->late[at] = (struct known){c->id, c->rows, n};
        t->late_count++;
        there = n;
    }
    pthread_mutex_unlock(&t->lock);
    if (there != n)
        free(n);
    return there;
}

int lenses_compute(const struct lens *l, enum dtype t, const struct view_chunk *c, double *out,
                   struct err *e)
{
    struct block b;
    unsigned char *rows = NULL;
    double *scratch = mem_big(lens_scratch(l), sizeof *scratch);
    int code = block_distrust(c, e); /* what is made of it lasts */

    if (!code)
        code = block_open(c, BLOCK_ENCODINGS, &b, e);
    if (code) {
        free(scratch);
        return code;
    }
    rows = mem_big(b.len, 1); /* no read transaction waits for a matrix product */
    if (rows)
        memcpy(rows, b.bytes, b.len);
    block_close(&b);
    if (rows && scratch)
        lens_norms(l, rows, t, l->dim * dtype_size(t), c->rows, out, scratch);
    else
        code = err_set(e, ERR_BUSY, "no memory for the denominators of %u rows", c->rows);
    free(rows);
    free(scratch);
    return code;
}

int lenses_norms(struct lensed *t, const struct view_chunk *c, const double **out, struct err *e)
{
    double *n;
    int code;

    *out = lenses_known(t, c);
    if (*out)
        return 0;
    n = mem_big(c->rows, sizeof *n);
    if (!n)
        return err_set(e, ERR_BUSY, "no memory for the denominators of %u rows", c->rows);
    code = lenses_compute(&t->lens, t->dtype, c, n, e);
    if (code)
        free(n);
    else
        *out = keep(t, c, n);
    return code;
}

bool lenses_overdue(struct lensed *t, const struct view *v)
{
    uint64_t missing = 0;
    bool overdue;

    for (size_t i = 0; i < v->chunk_count; i++)
        if (!look(t->table, t->count, &v->chunks[i]))
            missing += v->chunks[i].rows;
    if (missing < OVERDUE_ROWS && missing * OVERDUE_SHARE < v->rows)
        return false;
    pthread_mutex_lock(&t->lock);
    overdue = missing > 0 && !t->asked;
    t->asked = t->asked || overdue;
    pthread_mutex_unlock(&t->lock);
    return overdue;
}

void lenses_ask_again(struct lensed *t)
{
    pthread_mutex_lock(&t->lock);
    t->asked = false;
    pthread_mutex_unlock(&t->lock);
}
