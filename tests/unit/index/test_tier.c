/* test_tier.c - engine `tiered` against a textbook oracle: ids, order and the bits of every score,
 * for seeded corpora of every shape, under every kernel table, thread count, split into blocks,
 * batch size, precision and memory. In debug builds (ASCRIBE_DEBUG) every bound of every row is
 * checked too.
 *
 * ASCRIBE_TEST_SEEDS sets the number of seeds (default 700). A failing seed is printed.
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

#include <cmocka.h>

#include "index/code.h"
#include "index/exact.h"
#include "index/kern.h"
#include "index/tier.h"
#include "index/vec.h"

enum { MOST_BLOCKS = 12, MOST_THREADS = 4 };

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { SEEDS = 60 };
#elif defined(ASCRIBE_DEBUG)
enum { SEEDS = 150 };
#else
enum { SEEDS = 700 };
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

struct block {
    uint64_t base; /* sequence of row 0 */
    uint32_t rows;
    bool coded;
    char *memory, *rows_at; /* rows at an odd address */
    unsigned char *plane[TIER_ENCODINGS];
    uint64_t *dead;
    double *weights;
};

struct corpus {
    enum dtype dtype;
    size_t dim, blocks;
    struct block block[MOST_BLOCKS];
    size_t open_fails_at, plane_fails_at, row_fails_at; /* the call that fails, or SIZE_MAX */
    size_t cancelled_after;                             /* `cancelled` says yes from this call on */
    _Atomic size_t asked, opened, closed, planes, single;
};

static int corpus_open(void *arg, size_t i, struct tier_block *out, struct err *e)
{
    struct corpus *c = arg;

    if (c->opened == c->open_fails_at)
        return err_set(e, ERR_CORRUPT, "chunk %zu is damaged", i);
    c->opened++;
    *out = (struct tier_block){.rows = c->block[i].rows,
                               .coded = c->block[i].coded,
                               .dead = c->block[i].dead,
                               .weights = c->block[i].weights,
                               .ctx = &c->block[i]};
    return 0;
}

static void corpus_close(void *arg, struct tier_block *b)
{
    struct corpus *c = arg;

    (void)b;
    c->closed++;
}

static int corpus_plane(void *arg, struct tier_block *b, enum tier_plane p,
                        const unsigned char **out, struct err *e)
{
    struct corpus *c = arg;
    const struct block *block = b->ctx;

    if (c->planes++ == c->plane_fails_at)
        return err_set(e, ERR_CORRUPT, "plane %d is damaged", (int)p);
    assert_true(p == TIER_ENCODINGS || block->coded);
    *out = p == TIER_ENCODINGS ? (const unsigned char *)block->rows_at : block->plane[p];
    return 0;
}

/* What is told lies in a plane that few rows are read of, and is of rows side by side. */
static void corpus_ahead(void *arg, struct tier_block *b, enum tier_plane p, size_t from,
                         size_t len)
{
    const struct corpus *c = arg;
    const struct block *block = b->ctx;
    const size_t row = p == TIER_SIX ? code_six_bytes(c->dim, 1) : code_low_bytes(c->dim, 1);

    assert_true(block->coded && (p == TIER_SIX || p == TIER_LOW));
    assert_true(from % row == 0 && len % row == 0 && len > 0);
    assert_true(from / row + len / row <= block->rows);
}

static int corpus_row(void *arg, struct tier_block *b, uint32_t row, const void **out,
                      struct err *e)
{
    struct corpus *c = arg;
    const struct block *block = b->ctx;

    if (c->single++ == c->row_fails_at)
        return err_set(e, ERR_CORRUPT, "row %u is damaged", row);
    assert_true(row < block->rows);
    *out = block->rows_at + row * c->dim * dtype_size(c->dtype);
    return 0;
}

static int corpus_sequence(void *arg, struct tier_block *b, uint32_t row, uint64_t *out,
                           struct err *e)
{
    (void)arg;
    (void)e;
    *out = ((const struct block *)b->ctx)->base + row;
    return 0;
}

static bool corpus_cancelled(void *arg)
{
    struct corpus *c = arg;

    return c->asked++ >= c->cancelled_after;
}

static struct tier_source source_of(struct corpus *c)
{
    return (struct tier_source){.arg = c,
                                .count = c->blocks,
                                .dim = c->dim,
                                .dtype = c->dtype,
                                .open = corpus_open,
                                .close = corpus_close,
                                .plane = corpus_plane,
                                .ahead = corpus_ahead,
                                .row = corpus_row,
                                .sequence = corpus_sequence,
                                .cancelled = corpus_cancelled};
}

/* How rows are drawn. NEAR: all within a few ulps of each other. HUGE: one coordinate dwarfs the
 * rest. LOW_RANK: combinations of three directions, so bounds separate little. ONE_SIDED: all
 * coordinates positive, so that scores have one sign. */
enum style {
    ORDINARY, FEW, SMALL_INTEGERS, NEAR, WIDE_RANGE, SPARSE, ONE_HOT, HUGE_ONE, LOW_RANK, ONE_SIDED,
    STYLES
};

static void low_rank_row(size_t dim, float *row)
{
    double a[3] = {plus_minus_one(), plus_minus_one(), plus_minus_one() * 0.01};
    uint64_t keep = state_of_random;

    state_of_random = 77;
    for (size_t i = 0; i < dim; i++) {
        double v = 0.0;

        for (int n = 0; n < 3; n++)
            v += a[n] * plus_minus_one();
        row[i] = (float)v;
    }
    state_of_random = keep;
}

static void draw_row(enum style style, size_t dim, float *row)
{
    double scale = style == WIDE_RANGE ? pow(10.0, (double)below(70) - 37.0) : 1.0;
    uint64_t keep = state_of_random;
    size_t only = below(dim);

    if (style == LOW_RANK) {
        low_rank_row(dim, row);
        row[only] += 1e-20f;
        return;
    }
    if (style == FEW || style == NEAR)
        state_of_random = style == FEW ? 1000 + below(5) : 1;
    for (size_t i = 0; i < dim; i++) {
        double v = plus_minus_one();

        if (style == SMALL_INTEGERS)
            v = (double)below(3) - 1.0;
        else if (style == SPARSE)
            v = i == only || i % 17 == 3 ? v : 0.0;
        else if (style == ONE_HOT)
            v = 0.0;
        else if (style == ONE_SIDED)
            v = fabs(v);
        row[i] = (float)(v * scale);
    }
    if (style == FEW || style == NEAR)
        state_of_random = keep + 0x1234567;
    if (style == NEAR)
        row[only] = row[only] * (1.0f + (float)below(4) * 0x1p-23f);
    if (style == HUGE_ONE)
        row[only] = 1e6f;
    if (style == SMALL_INTEGERS || style == WIDE_RANGE || style == SPARSE || style == ONE_HOT)
        row[only] = (float)(below(2) ? scale : -scale); /* never all zeros */
}

static void block_code(const struct corpus *c, struct block *b)
{
    const size_t dim = c->dim, width = dim * dtype_size(c->dtype);
    const size_t bytes[] = {code_bits_bytes(dim, b->rows), code_six_bytes(dim, b->rows),
                            code_low_bytes(dim, b->rows), code_factors_bytes(b->rows)};
    float *scratch = malloc(code_padded(dim) * sizeof *scratch);
    struct code_planes out = {.rows = b->rows};

    for (int p = 0; p < TIER_ENCODINGS; p++) {
        b->plane[p] = malloc(bytes[p] + 1);
        assert_non_null(b->plane[p]);
    }
    assert_non_null(scratch);
    out.bits = b->plane[TIER_BITS];
    out.six = b->plane[TIER_SIX];
    out.low = b->plane[TIER_LOW];
    out.factors = b->plane[TIER_FACTORS];
    for (uint32_t row = 0, count; row < b->rows; row += count) { /* in pieces, as a writer might */
        count = 1 + (uint32_t)below(b->rows - row);
        code_rows(c->dtype, dim, b->rows_at + row * width, width, row, count, &out, scratch);
    }
    free(scratch);
}

static void block_make(struct corpus *c, struct block *b, uint64_t base, uint32_t rows,
                       enum style style, size_t dead_in, float *row, float *scratch)
{
    const size_t width = c->dim * dtype_size(c->dtype);

    *b = (struct block){.base = base, .rows = rows, .coded = below(12) != 0};
    b->memory = malloc(rows * width + 8);
    b->weights = malloc((rows + 1) * sizeof *b->weights);
    assert_true(b->memory && b->weights);
    b->rows_at = b->memory + 1 + below(7);
    for (uint32_t r = 0; r < rows; r++) {
        struct err e = ERR_INIT;
        double norm;

        draw_row(style, c->dim, row);
        assert_int_equal(vec_normalise(row, DTYPE_F32, c->dim, c->dtype, b->rows_at + r * width,
                                       &norm, scratch, "gradients", r, &e), 0);
        b->weights[r] = below(3) ? 0.5 + fabs(plus_minus_one()) : pow(10.0, 6.0 * plus_minus_one());
    }
    if (dead_in) {
        b->dead = calloc(rows / 64 + 1, sizeof(uint64_t));
        assert_non_null(b->dead);
        for (uint32_t r = 0; r < rows; r++)
            if (below(dead_in) == 0 || (dead_in == 3 && r / 20 % 2))
                b->dead[r / 64] |= UINT64_C(1) << (r % 64);
    }
    if (b->coded)
        block_code(c, b);
}

static void corpus_make(struct corpus *c, enum dtype dtype, size_t dim, size_t blocks,
                        size_t least_rows, size_t most_rows, enum style style, size_t dead_in)
{
    float *row = malloc(dim * sizeof *row), *scratch = malloc(dim * sizeof *scratch);
    uint64_t base = below(2) ? UINT64_C(1) << 40 : 0;
    size_t turn = blocks ? below(blocks) : 0;

    assert_true(row && scratch && blocks <= MOST_BLOCKS);
    memset(c, 0, sizeof *c);
    c->dtype = dtype;
    c->dim = dim;
    c->blocks = blocks;
    c->open_fails_at = c->plane_fails_at = c->row_fails_at = c->cancelled_after = SIZE_MAX;
    for (size_t n = 0; n < blocks; n++) { /* sequences do not follow the order of the list */
        struct block *b = &c->block[(n + turn) % blocks];

        block_make(c, b, base, (uint32_t)(least_rows + below(most_rows - least_rows + 1)), style,
                   dead_in, row, scratch);
        base += b->rows + below(3);
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
        free(c->block[i].weights);
        for (int p = 0; p < TIER_ENCODINGS; p++)
            free(c->block[i].plane[p]);
    }
}

static bool is_dead(const struct block *b, uint32_t row)
{
    return b->dead && b->dead[row / 64] >> (row % 64) & 1;
}

static size_t corpus_rows(const struct corpus *c)
{
    size_t rows = 0;

    for (size_t i = 0; i < c->blocks; i++)
        rows += c->block[i].rows;
    return rows;
}

static size_t corpus_live(const struct corpus *c)
{
    size_t live = 0;

    for (size_t i = 0; i < c->blocks; i++)
        for (uint32_t r = 0; r < c->block[i].rows; r++)
            live += !is_dead(&c->block[i], r);
    return live;
}

/* A query: often drawn like the rows, often a row itself or its negative; now and then of another
 * length, or zero, which no bound can say anything of. */
static void draw_query(struct corpus *c, enum style style, float *out)
{
    float *row = malloc(c->dim * sizeof *row), *scratch = malloc(c->dim * sizeof *scratch);
    const size_t block = c->blocks ? below(c->blocks) : 0;
    const size_t kind = below(40);
    struct err e = ERR_INIT;
    double norm;

    assert_true(row && scratch);
    draw_row(below(3) ? style : ORDINARY, c->dim, row);
    if (below(3) == 0 && c->blocks && c->block[block].rows)
        vec_widen(c->block[block].rows_at +
                      below(c->block[block].rows) * c->dim * dtype_size(c->dtype),
                  c->dtype, c->dim, row);
    for (size_t i = 0, flip = below(2); flip && i < c->dim; i++)
        row[i] = -row[i];
    assert_int_equal(vec_normalise(row, DTYPE_F32, c->dim, DTYPE_F32, out, &norm, scratch,
                                   "queries", 0, &e), 0);
    for (size_t i = 0; i < c->dim; i++)
        out[i] *= kind == 0 ? 0.0f : kind == 1 ? 0x1p-90f : kind < 6 ? 3.7f : 1.0f;
    free(row);
    free(scratch);
}

/* --- the oracle ------------------------------------------------------------------------------ */

/* The rule of docs/exactness.md, read once more: 32 lanes, then halves onto halves. */
static double oracle_dot(const float *q, const float *x, size_t dim)
{
    double lane[32] = {0};

    for (size_t i = 0; i < dim; i++)
        lane[i & 31] = lane[i & 31] + (double)q[i] * (double)x[i];
    for (size_t w = 16; w; w >>= 1)
        for (size_t j = 0; j < w; j++)
            lane[j] = lane[j] + lane[j + w];
    return lane[0];
}

static double oracle_measure(const struct tier_query *q, size_t i, double dot, double weight)
{
    if (q->measure == TIER_DIVIDED)
        return dot / weight;
    return q->measure == TIER_SCALED ? dot * (weight * q->lengths[i]) : dot;
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

/* All live rows of all queries, ordered from both ends. */
struct oracle {
    size_t rows; /* live */
    struct topk_hit *high, *low;
};

static size_t oracle_query(const struct corpus *c, const struct tier_query *q, size_t n,
                           struct topk_hit *out, float *wide)
{
    size_t count = 0;

    for (size_t i = 0; i < c->blocks; i++)
        for (uint32_t r = 0; r < c->block[i].rows; r++) {
            const struct block *b = &c->block[i];
            double dot;

            if (is_dead(b, r))
                continue;
            vec_widen(b->rows_at + r * c->dim * dtype_size(c->dtype), c->dtype, c->dim, wide);
            dot = oracle_dot(q->vectors + n * c->dim, wide, c->dim);
            out[count++] = (struct topk_hit){oracle_measure(q, n, dot, b->weights[r]), b->base + r,
                                             (uint32_t)i, r};
        }
    return count;
}

static struct oracle oracle_new(const struct corpus *c, const struct tier_query *q)
{
    struct oracle o = {.rows = 0};
    size_t room = corpus_rows(c) * q->count + 1;
    float *wide = malloc(c->dim * sizeof *wide);

    o.high = malloc(room * sizeof *o.high);
    o.low = malloc(room * sizeof *o.low);
    assert_true(o.high && o.low && wide);
    for (size_t n = 0; n < q->count; n++) {
        struct topk_hit *high = o.high + n * o.rows, *low;

        o.rows = oracle_query(c, q, n, high, wide);
        low = o.low + n * o.rows;
        memcpy(low, high, o.rows * sizeof *low);
        qsort(high, o.rows, sizeof *high, by_highest);
        qsort(low, o.rows, sizeof *low, by_lowest);
    }
    free(wide);
    return o;
}

static void oracle_free(struct oracle *o)
{
    free(o->high);
    free(o->low);
}

/* --- running a search on several threads ----------------------------------------------------- */

struct lists {
    struct topk *pro, *opp;
    struct topk_hit *slots;
};

static struct lists lists_new(const struct tier_query *q)
{
    struct lists l = {calloc(q->count + 1, sizeof *l.pro), calloc(q->count + 1, sizeof *l.opp),
                      calloc(q->count * (q->k + q->opponents) + 1, sizeof *l.slots)};

    assert_true(l.pro && l.opp && l.slots);
    for (size_t n = 0; n < q->count; n++) {
        struct topk_hit *at = l.slots + n * (q->k + q->opponents);

        topk_init(&l.pro[n], TOPK_HIGHEST, q->each_k ? q->each_k[n] : q->k, at);
        topk_init(&l.opp[n], TOPK_LOWEST, q->each_opponents ? q->each_opponents[n] : q->opponents,
                  at + q->k);
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
    struct tier *t;
    const struct tier_query *q;
    struct lists lists;
    struct engine_work work;
    struct err err;
    int failed;
};

static void *work(void *arg)
{
    struct worker *w = arg;

    w->failed = tier_share(w->t, w->q->k ? w->lists.pro : NULL,
                           w->q->opponents ? w->lists.opp : NULL, &w->work, &w->err);
    return NULL;
}

static struct engine_work seen; /* over all seeds: which paths were taken */

static void count_work(const struct engine_work *w)
{
    seen.rows_bits += w->rows_bits;
    seen.rows_six += w->rows_six;
    seen.rows_low += w->rows_low;
    seen.rows_exact += w->rows_exact;
    seen.blocks += w->blocks;
}

/* Merged and sorted lists of all threads; the first error if any failed. */
static int search(const struct tier_source *src, const struct tier_query *q, struct lists *out,
                  struct err *e)
{
    struct worker w[MOST_THREADS];
    struct tier *t = NULL;
    int failed = tier_new(src, q, &t, e);

    assert_int_equal(failed, 0);
    for (size_t n = 0; n < q->threads; n++) {
        w[n] = (struct worker){.t = t, .q = q, .lists = lists_new(q), .err = ERR_INIT};
        if (n)
            assert_int_equal(pthread_create(&w[n].thread, NULL, work, &w[n]), 0);
    }
    work(&w[0]);
    *out = lists_new(q);
    for (size_t n = 0; n < q->threads; n++) {
        if (n)
            pthread_join(w[n].thread, NULL);
        if (w[n].failed && !failed) {
            failed = w[n].failed;
            *e = w[n].err;
        }
        for (size_t i = 0; i < q->count; i++) {
            topk_merge(&out->pro[i], &w[n].lists.pro[i]);
            topk_merge(&out->opp[i], &w[n].lists.opp[i]);
        }
        count_work(&w[n].work);
        lists_free(&w[n].lists);
    }
    for (size_t i = 0; i < q->count; i++) {
        topk_sort(&out->pro[i]);
        topk_sort(&out->opp[i]);
    }
    tier_free(t);
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

static bool same_lists(const struct oracle *o, const struct tier_query *q, const struct lists *l)
{
    for (size_t n = 0; n < q->count; n++)
        if (!same_list(&l->pro[n], o->high + n * o->rows, o->rows) ||
            !same_list(&l->opp[n], o->low + n * o->rows, o->rows))
            return false;
    return true;
}

/* --- the property ---------------------------------------------------------------------------- */

/* One corpus, one batch: certified and probabilistic, under tables, threads and memories as they
 * come. */
static bool check_case(struct corpus *c, enum style style, size_t batch, size_t k, size_t opponents)
{
    static const char *const names[] = {"generic", "avx2", "avx512", "avx512vnni"};
    float *vectors = malloc((batch * c->dim + 1) * sizeof *vectors);
    double *lengths = malloc((batch + 1) * sizeof *lengths);
    size_t *each = malloc((2 * batch + 1) * sizeof *each);
    struct tier_query q = {.vectors = vectors, .count = batch, .k = k, .opponents = opponents,
                           .lengths = lengths, .delta = 1e-9, .live = corpus_live(c)};
    struct tier_source src = source_of(c);
    const bool each_own = batch > 1 && below(3) == 0;
    struct oracle o;
    bool same = true;

    assert_true(vectors && lengths && each);
    for (size_t n = 0; n < batch; n++) {
        draw_query(c, style, vectors + n * c->dim);
        each[n] = below(k + 1);
        each[batch + n] = below(opponents + 1);
        lengths[n] = fabs(plus_minus_one()) * 10.0;
    }
    q.measure = (enum tier_measure)below(3);
    o = oracle_new(c, &q);
    for (int run = 0; run < 4 && same; run++) {
        struct lists l;
        struct err e = ERR_INIT;

        kern_init(names[below(4)]);
        q.precision = run % 2 ? TIER_PROBABILISTIC : TIER_CERTIFIED;
        q.threads = 1 + (unsigned)below(MOST_THREADS);
        q.each_k = each_own && run > 1 ? each : NULL;
        q.each_opponents = each_own && run > 1 ? each + batch : NULL;
        q.memory = below(2) ? 0 : 1 + below(1 << 20);
        q.eight = below(2) ? 1 + below(6) : 0;
        assert_int_equal(search(&src, &q, &l, &e), 0);
        same = same_lists(&o, &q, &l);
        lists_free(&l);
    }
    oracle_free(&o);
    free(vectors);
    free(lengths);
    free(each);
    return same;
}

static void one_seed(uint64_t seed)
{
    static const size_t batches[] = {1, 1, 1, 2, 4, 5, 16, 33, 64};
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    struct corpus c;
    enum style style;
    size_t dim, blocks, rows, batch, k, opponents;

    state_of_random = seed * 7919 + 1;
    style = (enum style)below(STYLES);
    batch = batches[below(9)];
    dim = below(3) ? 1 + below(40) : 1 + below(700);
    blocks = below(8) ? 1 + below(4) : below(MOST_BLOCKS + 1);
    rows = batch > 5 || dim > 100 ? 120 : below(3) ? 300 : 900;
    k = below(4) ? below(12) : below(4) ? 50 + below(100) : 5000;
    opponents = below(2) ? 0 : below(4) ? below(6) : 3000;
    corpus_make(&c, types[below(4)], dim, blocks, 0, rows, style, below(2) ? 0 : 1 + below(4));
    if (!check_case(&c, style, batch, k, opponents)) {
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
    if (seeds >= 50) { /* the sweep went where it claims to go */
        assert_true(seen.rows_bits > 0);
        assert_true(seen.rows_six > 0);
        assert_true(seen.rows_low > 0);
        assert_true(seen.rows_low < seen.rows_six);
        assert_true(seen.rows_exact > 0);
    }
}

static void equals_the_oracle_at_large_dimensions(void **state)
{
    static const struct {
        size_t dim, rows, blocks, batch;
        enum dtype dtype;
        enum style style;
    } v[] = {
        {4096, 100, 2, 3, DTYPE_F32, ORDINARY},  {4097, 100, 2, 20, DTYPE_F16, HUGE_ONE},
        {16384, 90, 2, 2, DTYPE_F32, FEW},       {16384, 90, 1, 8, DTYPE_BF16, NEAR},
        {65537, 60, 1, 1, DTYPE_F32, LOW_RANK},  {131072, 50, 2, 1, DTYPE_F32, ORDINARY},
        {131072, 50, 1, 6, DTYPE_F32, NEAR},     {131071, 50, 1, 2, DTYPE_F16, SPARSE},
        {131072, 40, 1, 1, DTYPE_F32, ONE_HOT},  {266240, 30, 1, 1, DTYPE_BF16, ORDINARY},
        {266241, 20, 2, 1, DTYPE_BF16, ORDINARY},
    };

    (void)state;
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
        struct corpus c;

        if (v[i].dim > CODE_DIM_MAX)
            assert_false(tier_takes(v[i].dim));
        state_of_random = 900 + i;
        memset(&c, 0, sizeof c);
        if (v[i].dim > CODE_DIM_MAX)
            continue;
        corpus_make(&c, v[i].dtype, v[i].dim, v[i].blocks, v[i].rows / 2, v[i].rows, v[i].style,
                    i % 2 ? 5 : 0);
        assert_true(check_case(&c, v[i].style, v[i].batch, 3, 2));
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
    assert_true(check_case(&c, ORDINARY, 0, 5, 5));
    assert_true(check_case(&c, ORDINARY, 2, 0, 0));
    assert_int_equal(c.opened, 0);
    corpus_free(&c);
    corpus_make(&c, DTYPE_F32, 8, 0, 0, 0, ORDINARY, 0);
    assert_true(check_case(&c, ORDINARY, 2, 5, 5));
    corpus_free(&c);
    corpus_make(&c, DTYPE_F16, 8, 4, 100, 200, ORDINARY, 1); /* every row dead */
    assert_true(check_case(&c, ORDINARY, 21, 5, 5));
    corpus_free(&c);
}

/* Every call of the source may fail; then so does the search, and everything opened is closed. */
static void damage_and_cancelling_end_the_search(void **state)
{
    float vector[8] = {1.0f};
    struct tier_query q = {.vectors = vector, .count = 1, .k = 3, .opponents = 2, .delta = 1e-9,
                           .threads = 2};
    struct corpus c;

    (void)state;
    state_of_random = 4;
    corpus_make(&c, DTYPE_F32, 8, 6, 100, 200, ORDINARY, 0);
    q.live = corpus_live(&c);
    for (size_t at = 0; at < 6; at++)
        for (int kind = 0; kind < 4; kind++) {
            struct tier_source src = source_of(&c);
            struct err e = ERR_INIT;
            struct lists l;

            q.precision = at % 2 ? TIER_PROBABILISTIC : TIER_CERTIFIED;
            q.eight = at % 4 ? 1 : 0;
            c.opened = c.closed = c.planes = c.single = c.asked = 0;
            c.open_fails_at = kind == 0 ? at : SIZE_MAX;
            c.plane_fails_at = kind == 1 ? at : SIZE_MAX;
            c.row_fails_at = kind == 2 ? at % 3 : SIZE_MAX;
            c.cancelled_after = kind == 3 ? at : SIZE_MAX;
            assert_int_equal(search(&src, &q, &l, &e), kind == 3 ? ERR_CANCELLED : ERR_CORRUPT);
            assert_int_equal(c.opened, c.closed);
            lists_free(&l);
        }
    corpus_free(&c);
}

/* Rows that tie are all scored, in one window: who left meanwhile need not wait for the last. */
static void a_long_settling_can_be_cancelled(void **state)
{
    float vector[300] = {1.0f};
    struct tier_query q = {.vectors = vector, .count = 1, .k = 3, .opponents = 2, .delta = 1e-9,
                           .threads = 1};
    struct corpus c;

    (void)state;
    state_of_random = 8;
    corpus_make(&c, DTYPE_F32, 300, 1, 4000, 4000, FEW, 0);
    assert_true(c.block[0].coded);
    q.live = corpus_live(&c);
    for (int precision = TIER_CERTIFIED; precision <= TIER_PROBABILISTIC; precision++) {
        struct tier_source src = source_of(&c);
        struct err e = ERR_INIT;
        struct lists l;
        uint64_t before = seen.rows_exact, all, some;

        q.precision = (enum tier_precision)precision;
        c.asked = 0;
        c.cancelled_after = SIZE_MAX;
        assert_int_equal(search(&src, &q, &l, &e), 0);
        lists_free(&l);
        all = seen.rows_exact - before;
        assert_true(all > 1000);
        c.cancelled_after = c.asked / 2;
        c.asked = 0;
        assert_int_equal(search(&src, &q, &l, &e), ERR_CANCELLED);
        some = seen.rows_exact - before - all;
        assert_true(some > 0 && some < all * 3 / 4);
        assert_int_equal(c.asked, c.cancelled_after + 1);
        lists_free(&l);
    }
    corpus_free(&c);
}

/* The source says so of a chunk that a filter leaves out: its planes may be far away. */
static void a_block_without_rows_is_not_read(void **state)
{
    float vector[300] = {1.0f};
    struct tier_query q = {.vectors = vector, .count = 1, .k = 3, .threads = 1};
    struct corpus c;

    (void)state;
    state_of_random = 7;
    corpus_make(&c, DTYPE_F32, 300, 8, 0, 0, ORDINARY, 0);
    for (q.live = 0; q.live <= 100; q.live += 100) { /* by the exact kernel alone; by codes */
        struct tier_source src = source_of(&c);
        struct err e = ERR_INIT;
        struct lists l;

        assert_int_equal(search(&src, &q, &l, &e), 0);
        assert_int_equal(c.planes, 0);
        lists_free(&l);
    }
    corpus_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_oracle_for_every_seed),
        cmocka_unit_test(equals_the_oracle_at_large_dimensions),
        cmocka_unit_test(nothing_asked_or_nothing_there),
        cmocka_unit_test(damage_and_cancelling_end_the_search),
        cmocka_unit_test(a_long_settling_can_be_cancelled),
        cmocka_unit_test(a_block_without_rows_is_not_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
