/* test_flat.c - engine `flat` against the plain scan and against a textbook oracle, for seeded
 * corpora of every shape: ids, order and the bits of every score must be the same, under every
 * kernel table, thread count, cache budget, batch size and split into blocks.
 *
 * ASCRIBE_TEST_SEEDS sets the number of seeds (default 1000, 60 under ThreadSanitizer, where the
 * last tests matter). A failing seed is printed.
 */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "index/flat.h"
#include "index/kern.h"
#include "index/vec.h"

enum { MOST_BLOCKS = 12, MOST_THREADS = 4 };

#if defined(__SANITIZE_THREAD__)
enum { SEEDS = 60 };
#else
enum { SEEDS = 1000 };
#endif

static _Thread_local uint64_t state_of_random;

static uint64_t random64(void) /* splitmix64 */
{
    uint64_t z = state_of_random += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static size_t below(size_t n)
{
    return (size_t)(random64() % n);
}

static double plus_minus_one(void)
{
    return (double)(int64_t)random64() * 0x1p-63;
}

/* --- a corpus -------------------------------------------------------------------------------- */

struct corpus {
    enum dtype dtype;
    size_t dim, blocks;
    struct {
        uint64_t key, base; /* base: sequence of row 0 */
        uint32_t rows;
        char *memory, *rows_at; /* rows at an odd address */
        uint64_t *dead;
    } block[MOST_BLOCKS];
    size_t open_fails_at;    /* block whose opening fails, or SIZE_MAX */
    size_t cancelled_after;  /* `cancelled` says yes from this call on */
    _Atomic size_t asked, opened, closed;
};

static int corpus_open(void *arg, size_t i, struct engine_block *out, struct err *e)
{
    struct corpus *c = arg;

    if (i == c->open_fails_at)
        return err_set(e, ERR_CORRUPT, "chunk %zu is damaged", i);
    c->opened++;
    *out = (struct engine_block){.key = c->block[i].key,
                                 .rows = c->block[i].rows,
                                 .encodings = c->block[i].rows_at,
                                 .dead = c->block[i].dead,
                                 .ctx = &c->block[i].base};
    return 0;
}

static void corpus_close(void *arg, struct engine_block *b)
{
    struct corpus *c = arg;

    (void)b;
    c->closed++;
}

static uint64_t corpus_sequence(const struct engine_block *b, uint32_t row)
{
    return *(const uint64_t *)b->ctx + row;
}

static bool corpus_cancelled(void *arg)
{
    struct corpus *c = arg;

    return c->asked++ >= c->cancelled_after;
}

static uint64_t corpus_key(void *arg, size_t i)
{
    return ((struct corpus *)arg)->block[i].key;
}

static struct engine_source source_of(struct corpus *c)
{
    return (struct engine_source){.arg = c,
                                  .count = c->blocks,
                                  .dim = c->dim,
                                  .dtype = c->dtype,
                                  .open = corpus_open,
                                  .close = corpus_close,
                                  .sequence = corpus_sequence,
                                  .cancelled = corpus_cancelled,
                                  .key = corpus_key};
}

/* How rows are drawn. NEAR: all within float32's rounding of each other, so that FAISS cannot tell
 * them apart and the margin must grow. */
enum style { ORDINARY, FEW, SMALL_INTEGERS, NEAR, WIDE_RANGE, SPARSE, STYLES };

static void draw_row(enum style style, size_t dim, float *row)
{
    double scale = style == WIDE_RANGE ? pow(10.0, (double)below(70) - 37.0) : 1.0;
    uint64_t keep = state_of_random;
    size_t only = below(dim);

    if (style == FEW || style == NEAR)
        state_of_random = style == FEW ? 1000 + below(5) : 1;
    for (size_t i = 0; i < dim; i++) {
        double v = plus_minus_one();

        if (style == SMALL_INTEGERS)
            v = (double)below(3) - 1.0;
        else if (style == SPARSE)
            v = i == only || i % 17 == 3 ? v : 0.0;
        row[i] = (float)(v * scale);
    }
    if (style == FEW || style == NEAR)
        state_of_random = keep + 0x1234567;
    if (style == NEAR)
        row[only] = row[only] * (1.0f + (float)below(4) * 0x1p-23f);
    if (style == SMALL_INTEGERS || style == WIDE_RANGE || style == SPARSE)
        row[only] = (float)scale; /* never all zeros */
}

static void corpus_make(struct corpus *c, enum dtype dtype, size_t dim, size_t blocks,
                        size_t least_rows, size_t most_rows, enum style style, size_t dead_in)
{
    static _Atomic uint64_t keys;
    float *row = malloc(dim * sizeof *row), *scratch = malloc(dim * sizeof *scratch);
    const size_t width = dim * dtype_size(dtype);
    uint64_t base = below(2) ? UINT64_C(1) << 40 : 0;
    size_t order[MOST_BLOCKS];

    assert_true(row && scratch && blocks <= MOST_BLOCKS);
    memset(c, 0, sizeof *c);
    c->dtype = dtype;
    c->dim = dim;
    c->blocks = blocks;
    c->open_fails_at = c->cancelled_after = SIZE_MAX;
    for (size_t i = 0; i < blocks; i++)
        order[i] = i;
    for (size_t i = blocks; i > 1; i--) {
        size_t j = below(i), keep = order[j];

        order[j] = order[i - 1];
        order[i - 1] = keep;
    }
    for (size_t n = 0; n < blocks; n++) { /* sequences do not follow the order of the list */
        size_t i = order[n];
        uint32_t rows = (uint32_t)(least_rows + below(most_rows - least_rows + 1));
        char *at;

        c->block[i].key = ++keys;
        c->block[i].base = base;
        c->block[i].rows = rows;
        base += rows + below(3);
        c->block[i].memory = malloc(rows * width + 8);
        assert_non_null(c->block[i].memory);
        at = c->block[i].rows_at = c->block[i].memory + 1 + below(7);
        for (uint32_t r = 0; r < rows; r++) {
            struct err e = ERR_INIT;
            double norm;

            draw_row(style, dim, row);
            assert_int_equal(vec_normalise(row, DTYPE_F32, dim, dtype, at + r * width, &norm,
                                           scratch, "gradients", r, &e), 0);
        }
        if (dead_in) {
            c->block[i].dead = calloc(rows / 64 + 1, sizeof(uint64_t));
            assert_non_null(c->block[i].dead);
            for (uint32_t r = 0; r < rows; r++)
                if (below(dead_in) == 0)
                    c->block[i].dead[r / 64] |= UINT64_C(1) << (r % 64);
        }
    }
    free(row);
    free(scratch);
}

static void corpus_free(struct corpus *c)
{
    assert_int_equal(c->opened, c->closed);
    for (size_t i = 0; i < c->blocks; i++) {
        free(c->block[i].memory);
        free(c->block[i].dead);
    }
}

static size_t corpus_rows(const struct corpus *c)
{
    size_t rows = 0;

    for (size_t i = 0; i < c->blocks; i++)
        rows += c->block[i].rows;
    return rows;
}

/* A query: unit, and often one of the rows or its negative, so that the best score is about 1. */
static void draw_query(struct corpus *c, enum style style, float *out)
{
    float *row = malloc(c->dim * sizeof *row), *scratch = malloc(c->dim * sizeof *scratch);
    struct err e = ERR_INIT;
    double norm;

    assert_true(row && scratch);
    draw_row(below(3) ? style : ORDINARY, c->dim, row);
    for (size_t i = 0, flip = below(2); flip && i < c->dim; i++)
        row[i] = -row[i];
    assert_int_equal(vec_normalise(row, DTYPE_F32, c->dim, DTYPE_F32, out, &norm, scratch,
                                   "queries", 0, &e), 0);
    free(row);
    free(scratch);
}

/* --- the oracle ------------------------------------------------------------------------------ */

static double element(const struct corpus *c, const char *row, size_t i)
{
    uint16_t h;
    uint32_t bits;
    float v;

    if (c->dtype == DTYPE_F32) {
        memcpy(&v, row + 4 * i, 4);
        return (double)v;
    }
    memcpy(&h, row + 2 * i, 2);
    if (c->dtype == DTYPE_BF16) {
        bits = (uint32_t)h << 16;
        memcpy(&v, &bits, 4);
        return (double)v;
    }
    return (h >> 15 ? -1.0 : 1.0) * (h >> 10 & 31 ? ldexp((h & 1023) + 1024, (h >> 10 & 31) - 25)
                                                   : ldexp(h & 1023, -24));
}

/* The rule of docs/exactness.md, read once more: 32 lanes, then halves onto halves. */
static double oracle_score(const struct corpus *c, const float *q, const char *row)
{
    double lane[32] = {0};

    for (size_t i = 0; i < c->dim; i++)
        lane[i & 31] = lane[i & 31] + (double)q[i] * element(c, row, i);
    for (size_t w = 16; w; w >>= 1)
        for (size_t j = 0; j < w; j++)
            lane[j] = lane[j] + lane[j + w];
    return lane[0];
}

static int by_highest(const void *a, const void *b)
{
    const struct topk_hit *x = a, *y = b;

    if (x->score > y->score || x->score < y->score)
        return x->score > y->score ? -1 : 1;
    return x->sequence < y->sequence ? -1 : 1;
}

static int by_lowest(const void *a, const void *b)
{
    const struct topk_hit *x = a, *y = b;

    if (x->score > y->score || x->score < y->score)
        return x->score < y->score ? -1 : 1;
    return x->sequence < y->sequence ? -1 : 1;
}

/* All live rows; returns how many. */
static size_t oracle_all(const struct corpus *c, const float *q, struct topk_hit *out)
{
    size_t n = 0;

    for (size_t i = 0; i < c->blocks; i++)
        for (uint32_t r = 0; r < c->block[i].rows; r++) {
            const char *row = c->block[i].rows_at + r * c->dim * dtype_size(c->dtype);

            if (c->block[i].dead && c->block[i].dead[r / 64] >> (r % 64) & 1)
                continue;
            out[n++] = (struct topk_hit){oracle_score(c, q, row), c->block[i].base + r,
                                         (uint32_t)i, r};
        }
    return n;
}

/* --- running a search on several threads ----------------------------------------------------- */

struct lists {
    struct topk *pro, *opp;
    struct topk_hit *slots;
};

static struct lists lists_new(const struct engine_query *q)
{
    struct lists l = {calloc(q->count + 1, sizeof *l.pro), calloc(q->count + 1, sizeof *l.opp),
                      calloc(q->count * (q->k + q->opponents) + 1, sizeof *l.slots)};

    assert_true(l.pro && l.opp && l.slots);
    for (size_t n = 0; n < q->count; n++) {
        struct topk_hit *at = l.slots + n * (q->k + q->opponents);

        topk_init(&l.pro[n], TOPK_HIGHEST, q->k, at);
        topk_init(&l.opp[n], TOPK_LOWEST, q->opponents, at + q->k);
    }
    return l;
}

static void lists_free(struct lists *l)
{
    free(l->pro);
    free(l->opp);
    free(l->slots);
}

struct worker {
    pthread_t thread;
    struct flat *f; /* NULL: the plain scan */
    const struct engine_source *src;
    const struct engine_query *q;
    _Atomic size_t *next;
    struct lists lists;
    struct engine_work work;
    struct err err;
    int failed;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    struct topk *opp = w->q->opponents ? w->lists.opp : NULL;

    flat_thread_init();
    if (w->f)
        w->failed = flat_search(w->f, w->src, w->q, w->next, w->lists.pro, opp, &w->work, &w->err);
    else
        w->failed = flat_search_plain(w->src, w->q, w->next, w->lists.pro, opp, &w->work, &w->err);
    return NULL;
}

/* Merged and sorted lists of all threads; the first error if any failed. */
static int search(struct flat *f, const struct engine_source *src, const struct engine_query *q,
                  size_t threads, struct lists *out, struct engine_work *total, struct err *e)
{
    struct worker w[MOST_THREADS];
    _Atomic size_t next = 0;
    int failed = 0;

    for (size_t t = 0; t < threads; t++) {
        w[t] = (struct worker){.f = f, .src = src, .q = q, .next = &next, .lists = lists_new(q),
                               .err = ERR_INIT};
        if (t)
            assert_int_equal(pthread_create(&w[t].thread, NULL, work, &w[t]), 0);
    }
    work(&w[0]);
    *out = lists_new(q);
    for (size_t t = 0; t < threads; t++) {
        if (t)
            pthread_join(w[t].thread, NULL);
        if (w[t].failed && !failed) {
            failed = w[t].failed;
            *e = w[t].err;
        }
        for (size_t n = 0; n < q->count; n++) {
            topk_merge(&out->pro[n], &w[t].lists.pro[n]);
            topk_merge(&out->opp[n], &w[t].lists.opp[n]);
        }
        total->rows_proposed += w[t].work.rows_proposed;
        total->rows_exact += w[t].work.rows_exact;
        total->blocks += w[t].work.blocks;
        total->blocks_widened += w[t].work.blocks_widened;
        lists_free(&w[t].lists);
    }
    for (size_t n = 0; n < q->count; n++) {
        topk_sort(&out->pro[n]);
        topk_sort(&out->opp[n]);
    }
    return failed;
}

static bool same_list(const struct topk *t, const struct topk_hit *want, size_t n)
{
    if (t->count != (n < t->k ? n : t->k))
        return false;
    for (size_t i = 0; i < t->count; i++)
        if (memcmp(&t->hits[i].score, &want[i].score, sizeof(double)) != 0 ||
            t->hits[i].sequence != want[i].sequence || t->hits[i].chunk != want[i].chunk ||
            t->hits[i].row != want[i].row)
            return false;
    return true;
}

/* The oracle's answer to a batch: all live rows, ordered, for each query and end. */
struct oracle {
    size_t rows; /* live */
    struct topk_hit *high, *low;
};

static struct oracle oracle_new(const struct corpus *c, const struct engine_query *q)
{
    struct oracle o = {.rows = 0};
    size_t room = corpus_rows(c) * q->count + 1;

    o.high = malloc(room * sizeof *o.high);
    o.low = malloc(room * sizeof *o.low);
    assert_true(o.high && o.low);
    for (size_t n = 0; n < q->count; n++) {
        struct topk_hit *high = o.high + n * o.rows, *low;

        o.rows = oracle_all(c, q->vectors + n * c->dim, high);
        low = o.low + n * o.rows;
        memcpy(low, high, o.rows * sizeof *low);
        qsort(high, o.rows, sizeof *high, by_highest);
        qsort(low, o.rows, sizeof *low, by_lowest);
    }
    return o;
}

static void oracle_free(struct oracle *o)
{
    free(o->high);
    free(o->low);
}

static bool same_lists(const struct oracle *o, const struct engine_query *q, const struct lists *l)
{
    for (size_t n = 0; n < q->count; n++)
        if (!same_list(&l->pro[n], o->high + n * o->rows, o->rows) ||
            !same_list(&l->opp[n], o->low + n * o->rows, o->rows))
            return false;
    return true;
}

static bool same_as_oracle(const struct corpus *c, const struct engine_query *q,
                           const struct lists *l)
{
    struct oracle o = oracle_new(c, q);
    bool same = same_lists(&o, q, l);

    oracle_free(&o);
    return same;
}

/* --- the property ---------------------------------------------------------------------------- */

static struct engine_work seen; /* over all seeds: which paths were taken */

/* One corpus, one batch: the plain scan once, then flat twice (cold and warm cache). */
static bool check_case(struct corpus *c, enum style style, size_t batch, size_t k, size_t opponents,
                       uint64_t budget)
{
    static const char *const names[] = {"generic", "avx2", "avx512"};
    float *vectors = malloc((batch * c->dim + 1) * sizeof *vectors);
    struct engine_query q = {.vectors = vectors, .count = batch, .k = k, .opponents = opponents};
    struct engine_source src = source_of(c);
    struct flat *f = flat_new(budget);
    struct oracle o;
    bool same = true;

    assert_non_null(vectors);
    for (size_t n = 0; n < batch; n++)
        draw_query(c, style, vectors + n * c->dim);
    o = oracle_new(c, &q);
    for (int run = 0; run < 3 && same; run++) {
        struct lists l;
        struct err e = ERR_INIT;

        kern_init(names[below(3)]);
        assert_int_equal(search(run ? f : NULL, &src, &q, 1 + below(MOST_THREADS), &l, &seen, &e),
                         0);
        same = same_lists(&o, &q, &l);
        lists_free(&l);
        assert_true(flat_bytes(f) <= budget);
    }
    oracle_free(&o);
    flat_free(f);
    free(vectors);
    return same;
}

static void one_seed(uint64_t seed)
{
    static const size_t batches[] = {1, 1, 1, 2, 5, 19, 20, 33};
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static const uint64_t budgets[] = {0, 1000, 50000, UINT64_MAX / 2, UINT64_MAX / 2};
    struct corpus c;
    enum style style;
    size_t dim, blocks, rows, batch, k, opponents;

    state_of_random = seed * 7919 + 1;
    style = (enum style)below(STYLES);
    batch = batches[below(8)];
    dim = below(4) ? 1 + below(40) : 1 + below(300);
    blocks = below(8) ? 1 + below(4) : below(MOST_BLOCKS + 1);
    rows = batch > 5 || dim > 100 ? 120 : below(3) ? 300 : 900;
    k = below(4) ? below(12) : below(4) ? 50 + below(100) : 5000;
    opponents = below(2) ? 0 : below(4) ? below(6) : 3000;
    corpus_make(&c, types[below(4)], dim, blocks, 0, rows, style, below(2) ? 0 : 1 + below(4));
    if (!check_case(&c, style, batch, k, opponents, budgets[below(5)])) {
        fprintf(stderr, "seed %llu: style %d dim %zu blocks %zu batch %zu k %zu opponents %zu\n",
                (unsigned long long)seed, style, dim, blocks, batch, k, opponents);
        fail();
    }
    corpus_free(&c);
}

static void equals_the_oracle_for_every_seed(void **state)
{
    const char *text = getenv("ASCRIBE_TEST_SEEDS");
    uint64_t seeds = text ? strtoull(text, NULL, 0) : SEEDS;

    (void)state;
    for (uint64_t seed = 0; seed < seeds; seed++)
        one_seed(seed);
    if (seeds >= 100) { /* the sweep went where it claims to go */
        assert_true(seen.rows_proposed > 0);
        assert_true(seen.rows_exact > 0);
        assert_true(seen.blocks_widened > 0);
    }
}

static void equals_the_oracle_at_large_dimensions(void **state)
{
    static const struct {
        size_t dim, rows, blocks, batch;
        enum dtype dtype;
        enum style style;
    } v[] = {
        {4096, 100, 2, 3, DTYPE_F32, ORDINARY},  {4097, 100, 2, 20, DTYPE_F16, ORDINARY},
        {16384, 90, 2, 2, DTYPE_F32, FEW},       {16384, 90, 1, 20, DTYPE_BF16, NEAR},
        {65537, 60, 1, 1, DTYPE_F32, ORDINARY},  {131072, 50, 2, 1, DTYPE_F32, ORDINARY},
        {131072, 50, 1, 20, DTYPE_F32, NEAR},    {131071, 50, 1, 2, DTYPE_F16, SPARSE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
        struct corpus c;

        state_of_random = 900 + i;
        corpus_make(&c, v[i].dtype, v[i].dim, v[i].blocks, v[i].rows / 2, v[i].rows, v[i].style,
                    i % 2 ? 5 : 0);
        assert_true(check_case(&c, v[i].style, v[i].batch, 5, 3, UINT64_C(1) << 30));
        corpus_free(&c);
    }
}

/* --- the rest -------------------------------------------------------------------------------- */

static void nothing_asked_or_nothing_there(void **state)
{
    struct corpus c;

    (void)state;
    state_of_random = 3;
    corpus_make(&c, DTYPE_F32, 8, 3, 0, 100, ORDINARY, 0);
    assert_true(check_case(&c, ORDINARY, 0, 5, 5, 1000000));
    assert_true(check_case(&c, ORDINARY, 2, 0, 0, 1000000));
    assert_int_equal(c.opened, 0);
    corpus_free(&c);
    corpus_make(&c, DTYPE_F32, 8, 0, 0, 0, ORDINARY, 0);
    assert_true(check_case(&c, ORDINARY, 2, 5, 5, 1000000));
    corpus_free(&c);
    corpus_make(&c, DTYPE_F16, 8, 4, 100, 200, ORDINARY, 1); /* every row dead */
    assert_true(check_case(&c, ORDINARY, 21, 5, 5, 1000000));
    corpus_free(&c);
}

static void damage_and_cancelling_end_the_search(void **state)
{
    float vector[8] = {1.0f};
    struct engine_query q = {.vectors = vector, .count = 1, .k = 3, .opponents = 2};
    struct flat *f = flat_new(1000000);
    struct corpus c;

    (void)state;
    state_of_random = 4;
    corpus_make(&c, DTYPE_F32, 8, 6, 100, 200, ORDINARY, 0);
    for (size_t at = 0; at < 6; at++)
        for (int plain = 0; plain < 2; plain++) {
            struct engine_source src = source_of(&c);
            struct engine_work total = {0};
            struct err e = ERR_INIT;
            struct lists l;

            c.open_fails_at = at;
            assert_int_equal(search(plain ? NULL : f, &src, &q, 2, &l, &total, &e), ERR_CORRUPT);
            lists_free(&l);
            c.open_fails_at = SIZE_MAX;
            c.asked = 0;
            c.cancelled_after = at;
            assert_int_equal(search(plain ? NULL : f, &src, &q, 2, &l, &total, &e), ERR_CANCELLED);
            lists_free(&l);
            c.cancelled_after = SIZE_MAX;
        }
    corpus_free(&c);
    flat_free(f);
}

/* Budget for two blocks of four: two stay, however often all four are asked; another corpus gets
 * the room only when the first has not been used for a while. */
static void the_cache_keeps_its_budget(void **state)
{
    enum { ROWS = 100, DIM = 16 };
    float vector[DIM] = {1.0f};
    struct engine_query q = {.vectors = vector, .count = 1, .k = 3};
    const uint64_t one = (uint64_t)ROWS * DIM * sizeof(float) + 64;
    struct flat *f = flat_new(2 * one);
    struct corpus c[2];
    uint64_t proposed = 0;

    (void)state;
    state_of_random = 5;
    for (int i = 0; i < 2; i++)
        corpus_make(&c[i], DTYPE_F32, DIM, 4, ROWS, ROWS, ORDINARY, 0);
    for (size_t round = 0; round < 1000; round++) {
        struct engine_source src = source_of(&c[round >= 500]);
        struct engine_work total = {0};
        struct err e = ERR_INIT;
        struct lists l;

        assert_int_equal(search(f, &src, &q, 1, &l, &total, &e), 0);
        lists_free(&l);
        assert_true(flat_bytes(f) <= 2 * one && flat_bytes(f) > one);
        if (round < 500 || round > 900)
            assert_true(total.rows_proposed == 2 * ROWS); /* two from the cache, two scanned */
        proposed += total.rows_proposed;
    }
    assert_true(proposed < 1000 * 2 * ROWS); /* the second corpus had to wait */
    for (int i = 0; i < 2; i++)
        for (size_t b = 0; b < 4; b++)
            flat_forget(f, c[i].block[b].key);
    assert_int_equal(flat_bytes(f), 0);
    corpus_free(&c[0]);
    corpus_free(&c[1]);
    flat_free(f);
}

/* Several threads search two corpora through one small cache while another forgets chunks. Under
 * ThreadSanitizer this is the test of the cache. */
struct storm {
    struct flat *f;
    struct corpus *c;
    const float *vectors;
    uint64_t seed;
    _Atomic bool *stop;
    bool same;
};

static void *storm_search(void *arg)
{
    struct storm *s = arg;

    flat_thread_init();
    state_of_random = s->seed;
    s->same = true;
    for (int round = 0; round < 60 && s->same; round++) {
        struct corpus *c = &s->c[below(2)];
        struct engine_query q = {.vectors = s->vectors, .count = below(3) ? 1 : 20, .k = 4,
                                 .opponents = 2};
        struct engine_source src = source_of(c);
        struct engine_work total = {0};
        struct err e = ERR_INIT;
        struct lists l = lists_new(&q);
        _Atomic size_t next = 0;

        s->same = flat_search(s->f, &src, &q, &next, l.pro, l.opp, &total, &e) == 0;
        for (size_t n = 0; n < q.count; n++) {
            topk_sort(&l.pro[n]);
            topk_sort(&l.opp[n]);
        }
        s->same = s->same && (round % 8 || same_as_oracle(c, &q, &l));
        lists_free(&l);
    }
    return NULL;
}

static void *storm_forget(void *arg)
{
    struct storm *s = arg;

    state_of_random = 99;
    while (!*s->stop) {
        struct corpus *c = &s->c[below(2)];

        flat_forget(s->f, c->block[below(c->blocks)].key);
        usleep(200);
    }
    return NULL;
}

static void many_threads_share_one_cache(void **state)
{
    enum { DIM = 48 };
    struct corpus c[2];
    struct flat *f = flat_new(250000);
    float vectors[20 * DIM];
    _Atomic bool stop = false;
    struct storm s[MOST_THREADS], forget = {.f = f, .c = c, .stop = &stop};
    pthread_t threads[MOST_THREADS], forgetter;

    (void)state;
    kern_init(NULL);
    state_of_random = 6;
    corpus_make(&c[0], DTYPE_F32, DIM, 8, 0, 400, ORDINARY, 4);
    corpus_make(&c[1], DTYPE_BF16, DIM, 8, 0, 400, NEAR, 0);
    for (size_t n = 0; n < 20; n++)
        draw_query(&c[1], n % 2 ? NEAR : ORDINARY, vectors + n * DIM);
    for (size_t t = 0; t < MOST_THREADS; t++) {
        s[t] = (struct storm){.f = f, .c = c, .vectors = vectors, .seed = t};
        assert_int_equal(pthread_create(&threads[t], NULL, storm_search, &s[t]), 0);
    }
    assert_int_equal(pthread_create(&forgetter, NULL, storm_forget, &forget), 0);
    for (size_t t = 0; t < MOST_THREADS; t++)
        pthread_join(threads[t], NULL);
    stop = true;
    pthread_join(forgetter, NULL);
    for (size_t t = 0; t < MOST_THREADS; t++)
        assert_true(s[t].same);
    assert_true(flat_bytes(f) <= 250000);
    flat_free(f);
    corpus_free(&c[0]);
    corpus_free(&c[1]);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* With hardly any address space left the answer is right or BUSY, never the end of the process. */
static int search_in_little_memory(struct corpus *c, rlim_t more)
{
    float *vectors = calloc(c->dim, sizeof *vectors);
    struct engine_query q = {.vectors = vectors, .count = 1, .k = 3, .opponents = 3};
    struct engine_source src = source_of(c);
    struct flat *f = flat_new(UINT64_C(1) << 40);
    struct engine_work total = {0};
    struct err e = ERR_INIT;
    struct lists l = lists_new(&q);
    _Atomic size_t next = 0;
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    struct rlimit limit = {0, 0};
    int failed;

    flat_thread_init();
    vectors[0] = 1.0f;
    if (!file || fscanf(file, "%ld", &pages) != 1)
        return 3;
    fclose(file);
    limit.rlim_cur = limit.rlim_max = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + more;
    if (setrlimit(RLIMIT_AS, &limit))
        return 3;
    failed = flat_search(f, &src, &q, &next, l.pro, l.opp, &total, &e);
    if (failed)
        return failed == ERR_BUSY && e.text[0] ? 1 : 2;
    for (size_t n = 0; n < q.count; n++) {
        topk_sort(&l.pro[n]);
        topk_sort(&l.opp[n]);
    }
    return same_as_oracle(c, &q, &l) ? 0 : 2;
}

static void little_memory_is_an_error_not_an_end(void **state)
{
    struct corpus c;
    bool busy = false;

    (void)state;
    state_of_random = 7;
    corpus_make(&c, DTYPE_F16, 20000, 1, 900, 900, ORDINARY, 0);
    for (rlim_t more = 0; more <= (rlim_t)160 << 20; more += (rlim_t)32 << 20) {
        int status = 0;
        pid_t child = fork();

        assert_true(child >= 0);
        if (child == 0) {
            _exit(search_in_little_memory(&c, more));
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
        busy = busy || WEXITSTATUS(status) == 1;
    }
    assert_true(busy);
    corpus_free(&c);
}
#endif

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_oracle_for_every_seed),
        cmocka_unit_test(equals_the_oracle_at_large_dimensions),
        cmocka_unit_test(nothing_asked_or_nothing_there),
        cmocka_unit_test(damage_and_cancelling_end_the_search),
        cmocka_unit_test(the_cache_keeps_its_budget),
        cmocka_unit_test(many_threads_share_one_cache),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(little_memory_is_an_error_not_an_end),
#endif
    };

    return cmocka_run_group_tests_name("flat", tests, NULL, NULL);
}
