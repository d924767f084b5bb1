/* test_scan.c - a search spread over threads equals a full sort of every live row, ids and bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/flat.h"
#include "index/kern.h"
#include "index/vec.h"
#include "server/codes.h"
#include "server/pool.h"
#include "server/scan.h"
#include "storage/commit.h"

enum { QUERIES = 3, MOST_ROWS = 4096 };

struct fixture {
    char dir[64];
    struct store *store;
    struct corpus *corpus;
    struct pool *pool;
    struct flat *flat;
    const struct view *view;
    uint64_t random;
    size_t dim, next_id, probabilistic;
};

static uint64_t next(struct fixture *f)
{
    f->random ^= f->random << 13; /* xorshift64: only has to vary */
    f->random ^= f->random >> 7;
    f->random ^= f->random << 17;
    return f->random;
}

/* Few values, so that many scores tie. */
static float coarse(struct fixture *f)
{
    return (float)((int)(next(f) % 7) - 3) + (next(f) % 64 == 0 ? 1e-6f : 0.0f);
}

static void done(void *arg, struct job *j)
{
    (void)arg;
    (void)j;
    abort(); /* no job is ever submitted here */
}

static void open_all(struct fixture *f, enum dtype t, size_t dim, uint64_t chunk_bytes, bool codes)
{
    struct store_options options = {
        .create = true, .chunk_bytes = chunk_bytes, .coder = codes ? &codes_coder : NULL};
    struct corpus_def def = {
        .name = "c", .dim = (uint32_t)dim, .dtype = (uint32_t)t, .manifest = "{}"};
    struct err e = ERR_INIT;
    bool created;

    *f = (struct fixture){.random = 88172645463325252u + dim, .dim = dim};
    snprintf(f->dir, sizeof f->dir, "/tmp/ascribe-scan-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(store_open(f->dir, &options, &f->store, &e), 0);
    assert_int_equal(store_corpus_create(f->store, &def, &created, &f->corpus, &e), 0);
    f->pool = pool_new(3, 8, done, NULL);
    f->flat = flat_new(1 << 20);
}

static void close_all(struct fixture *f)
{
    char command[128];

    if (f->view)
        view_release(f->view);
    corpus_release(f->corpus);
    store_close(f->store);
    pool_free(f->pool);
    flat_free(f->flat);
    snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    assert_int_equal(system(command), 0);
}

static void ingest(struct fixture *f, uint32_t count)
{
    enum dtype t = (enum dtype)corpus_def(f->corpus)->dtype;
    struct commit_example *x = test_calloc(count, sizeof *x);
    char (*ids)[24] = test_calloc(count, sizeof *ids);
    float *row = test_calloc(f->dim, sizeof *row), *scratch = test_calloc(f->dim, sizeof *scratch);
    unsigned char *rows = test_calloc(count, f->dim * dtype_size(t));
    double *norms = test_calloc(count, sizeof *norms);
    struct commit_batch batch = {.corpus = f->corpus, .count = count, .encodings = rows,
                                 .norms = norms, .examples = x, .err = ERR_INIT};
    struct commit_batch *group[] = {&batch};
    char name[24];
    struct err e = ERR_INIT;

    snprintf(name, sizeof name, "b%zu", f->next_id);
    batch.name = name;
    for (uint32_t i = 0; i < count; i++) {
        snprintf(ids[i], sizeof ids[i], "id-%zu", f->next_id++);
        x[i] = (struct commit_example){.id = ids[i], .id_len = (uint32_t)strlen(ids[i])};
        for (size_t k = 0; k < f->dim; k++)
            row[k] = coarse(f);
        row[0] += 9; /* never zero */
        assert_int_equal(vec_normalise(row, DTYPE_F32, f->dim, t, rows + i * f->dim * dtype_size(t),
                                       &norms[i], scratch, "row", i, &e), 0);
    }
    assert_int_equal(commit_group(f->store, group, 1, &e), 0);
    assert_int_equal(batch.err.code, 0);
    assert_int_equal(batch.examples_new, count);
    test_free(x);
    test_free(ids);
    test_free(row);
    test_free(scratch);
    test_free(rows);
    test_free(norms);
}

static void look(struct fixture *f)
{
    if (f->view)
        view_release(f->view);
    f->view = corpus_view(f->corpus);
}

static void delete_some(struct fixture *f, size_t every)
{
    struct err e = ERR_INIT;

    for (size_t i = 0; i < f->next_id; i += every) {
        char id[24];

        snprintf(id, sizeof id, "id-%zu", i);
        assert_int_equal(commit_delete(f->corpus, id, strlen(id), &e), 0);
    }
}

static float *make_queries(struct fixture *f)
{
    float *q = test_calloc(QUERIES * f->dim, sizeof *q);
    float *scratch = test_calloc(f->dim, sizeof *scratch);
    struct err e = ERR_INIT;
    double norm;

    for (size_t i = 0; i < QUERIES; i++) {
        for (size_t k = 0; k < f->dim; k++)
            q[i * f->dim + k] = coarse(f);
        q[i * f->dim] += i == 2 ? -9.0f : 9.0f;
        assert_int_equal(vec_normalise(q + i * f->dim, DTYPE_F32, f->dim, DTYPE_F32, q + i * f->dim,
                                       &norm, scratch, "q", i, &e), 0);
    }
    test_free(scratch);
    return q;
}

/* ---- the oracle: every live row by the generic kernel, sorted whole -------------------------- */

static double plain_dot(enum dtype t, const float *q, const void *row, size_t d)
{
    if (t == DTYPE_F32)
        return kern_generic.dot_f32(q, row, d);
    return t == DTYPE_F16 ? kern_generic.dot_f16(q, row, d) : kern_generic.dot_bf16(q, row, d);
}

static size_t oracle(struct fixture *f, const float *q, struct topk_hit *out)
{
    enum dtype t = (enum dtype)corpus_def(f->corpus)->dtype;
    struct err e = ERR_INIT;
    size_t n = 0;

    for (size_t i = 0; i < f->view->chunk_count; i++) {
        const struct view_chunk *chunk = &f->view->chunks[i];
        struct block b, rows;

        assert_int_equal(block_open(chunk, BLOCK_ENCODINGS, &b, &e), 0);
        assert_int_equal(block_open(chunk, BLOCK_ROWS, &rows, &e), 0);
        for (uint32_t r = 0; r < chunk->rows; r++)
            if (!view_row_dead(chunk, r)) {
                assert_true(n < MOST_ROWS);
                out[n++] = (struct topk_hit){
                    .score = plain_dot(t, q, b.bytes + r * f->dim * dtype_size(t), f->dim),
                    .sequence = block_row_sequence(&rows, r), .chunk = (uint32_t)i, .row = r};
            }
        block_close(&rows);
        block_close(&b);
    }
    assert_int_equal(n, f->view->live);
    return n;
}

static int best_first(const void *left, const void *right)
{
    const struct topk_hit *a = left, *b = right;

    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return a->sequence < b->sequence ? -1 : a->sequence > b->sequence;
}

static int worst_first(const void *left, const void *right)
{
    const struct topk_hit *a = left, *b = right;

    if (a->score != b->score)
        return a->score < b->score ? -1 : 1;
    return a->sequence < b->sequence ? -1 : a->sequence > b->sequence;
}

static void same_hits(const struct topk *got, const struct topk_hit *want, size_t live, size_t k)
{
    assert_int_equal(got->count, k < live ? k : live);
    for (size_t i = 0; i < got->count; i++) {
        assert_int_equal(got->hits[i].sequence, want[i].sequence);
        assert_true(got->hits[i].score == want[i].score);
        assert_int_equal(got->hits[i].chunk, want[i].chunk);
        assert_int_equal(got->hits[i].row, want[i].row);
    }
}

/* Ways to the same answer. */
static const struct way {
    enum scan_engine engine;
    enum tier_precision precision;
} ways[] = {{SCAN_AUTO, TIER_CERTIFIED},
            {SCAN_FLAT, TIER_CERTIFIED},
            {SCAN_EXACT, TIER_PROBABILISTIC},
            {SCAN_TIERED, TIER_CERTIFIED},
            {SCAN_TIERED, TIER_PROBABILISTIC}};

static void check_search(struct fixture *f, const float *queries, bool alone, const struct way *way,
                         size_t k, size_t opponents)
{
    struct scan scan = {.pool = alone ? NULL : f->pool,
                        .flat = f->flat,
                        .view = f->view,
                        .engine = way->engine,
                        .precision = way->precision,
                        .delta = 1e-9};
    struct engine_query q = {.vectors = queries, .count = QUERIES, .k = k, .opponents = opponents};
    struct topk_hit *all = test_calloc(MOST_ROWS, sizeof *all);
    struct scan_answer answer;
    struct arena a = {0};
    struct err e = ERR_INIT;

    if (scan_search(&scan, &q, &a, &answer, &e))
        fail_msg("%s", e.text);
    if (way->engine != SCAN_AUTO)
        assert_int_equal(answer.engine, way->engine);
    /* never less than asked; more where one bit a dimension would save nothing */
    assert_true(answer.precision == TIER_CERTIFIED ||
                (answer.engine == SCAN_TIERED && way->precision == TIER_PROBABILISTIC));
    f->probabilistic += answer.precision == TIER_PROBABILISTIC;
    for (size_t i = 0; i < QUERIES; i++) {
        size_t live = oracle(f, queries + i * f->dim, all);

        qsort(all, live, sizeof *all, best_first);
        same_hits(&answer.pro[i], all, live, k);
        qsort(all, live, sizeof *all, worst_first);
        same_hits(&answer.opp[i], all, live, opponents);
    }
    arena_free(&a);
    test_free(all);
}

/* Scores over any range of chunks stand where the live rows stand. */
static void check_scores(struct fixture *f, const float *queries, bool alone)
{
    struct scan scan = {.pool = alone ? NULL : f->pool, .flat = f->flat, .view = f->view};
    struct topk_hit *all = test_calloc(MOST_ROWS, sizeof *all);
    double *out = test_calloc(QUERIES * MOST_ROWS, sizeof *out);

    for (size_t first = 0; first <= f->view->chunk_count; first += 2) {
        struct scan_scores want = {.vectors = queries, .count = QUERIES, .first = first,
                                   .end = f->view->chunk_count, .out = out, .stride = MOST_ROWS};
        struct arena a = {0};
        struct err e = ERR_INIT;
        size_t skipped = 0;

        assert_int_equal(scan_score(&scan, &want, &a, &e), 0);
        for (size_t i = 0; i < first; i++)
            skipped += scan_live(&f->view->chunks[i]);
        for (size_t i = 0; i < QUERIES; i++) {
            size_t live = oracle(f, queries + i * f->dim, all);

            for (size_t n = skipped; n < live; n++)
                assert_true(out[i * MOST_ROWS + n - skipped] == all[n].score);
        }
        arena_free(&a);
    }
    test_free(all);
    test_free(out);
}

static void check_everything(struct fixture *f, const float *queries)
{
    static const size_t sizes[][2] = {{0, 0},  {1, 0},     {0, 1},      {1, 1},
                                      {10, 3}, {100, 100}, {9999, 9999}};

    look(f);
    for (int alone = 0; alone < 2; alone++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            for (size_t w = 0; w < sizeof ways / sizeof *ways; w++)
                check_search(f, queries, alone, &ways[w], sizes[i][0], sizes[i][1]);
        check_scores(f, queries, alone);
    }
}

static void test_a_search_equals_a_full_sort(void **state)
{
    static const struct {
        enum dtype t;
        size_t dim;
        uint64_t chunk_bytes;
        bool codes; /* which rows of few dimensions do not get: server/codes.h */
    } cases[] = {{DTYPE_F32, 1, 64, true},       {DTYPE_F32, 33, 4096, false},
                 {DTYPE_F32, 300, 16384, true},  {DTYPE_F32, 300, 16384, false},
                 {DTYPE_F16, 40, 2048, true},    {DTYPE_F16, 250, 16384, true},
                 {DTYPE_BF16, 7, 512, true},     {DTYPE_BF16, 200, 16384, true}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture f;
        float *queries;

        open_all(&f, cases[i].t, cases[i].dim, cases[i].chunk_bytes, cases[i].codes);
        queries = make_queries(&f);
        check_everything(&f, queries); /* an empty corpus */
        ingest(&f, 1);
        check_everything(&f, queries);
        ingest(&f, 300);
        ingest(&f, 77);
        assert_true(corpus_def(f.corpus)->dim == f.dim);
        check_everything(&f, queries);
        assert_true(f.view->chunk_count > 3);
        assert_int_equal(f.view->chunks[1].coded, cases[i].codes && cases[i].dim >= 200);
        delete_some(&f, 3);
        check_everything(&f, queries);
        assert_true(f.probabilistic > 0);
        test_free(queries);
        close_all(&f);
    }
}

static void test_all_rows_deleted(void **state)
{
    struct fixture f;
    float *queries;

    (void)state;
    open_all(&f, DTYPE_F32, 100, 8192, true);
    queries = make_queries(&f);
    ingest(&f, 60);
    delete_some(&f, 1);
    check_everything(&f, queries);
    assert_int_equal(f.view->live, 0);
    ingest(&f, 5);
    check_everything(&f, queries);
    test_free(queries);
    close_all(&f);
}

static bool after_some(void *arg)
{
    _Atomic int *left = arg;

    return atomic_fetch_sub(left, 1) <= 0;
}

static void test_a_search_stops_when_asked(void **state)
{
    struct fixture f;
    float *queries;

    (void)state;
    open_all(&f, DTYPE_F32, 100, 2048, true);
    queries = make_queries(&f);
    ingest(&f, 200);
    look(&f);
    for (int blocks = 0; blocks < 30; blocks++) {
        _Atomic int left = blocks, again = blocks;
        struct stop stop = {.asked = after_some, .arg = &left};
        struct scan scan = {.pool = f.pool, .flat = f.flat, .view = f.view, .stop = &stop};
        struct engine_query q = {.vectors = queries, .count = 1, .k = 3};
        const struct way *way = &ways[(size_t)blocks % (sizeof ways / sizeof *ways)];
        double *out = test_calloc(200, sizeof *out);
        struct scan_scores want = {.vectors = queries, .count = 1, .end = f.view->chunk_count,
                                   .out = out, .stride = 200};
        struct scan_answer answer = {0};
        struct arena a = {0};
        struct err e = ERR_INIT;

        scan.engine = way->engine;
        scan.precision = way->precision;
        scan.delta = 1e-6;
        assert_int_equal(scan_search(&scan, &q, &a, &answer, &e), ERR_CANCELLED);
        assert_null(answer.pro);
        stop.arg = &again;
        assert_int_equal(scan_score(&scan, &want, &a, &e), ERR_CANCELLED);
        arena_free(&a);
        test_free(out);
    }
    test_free(queries);
    close_all(&f);
}

/* A chunk that lies about its place: the search must say so, not answer with less. */
static void test_damage_is_an_error(void **state)
{
    struct fixture f;
    float *queries;
    struct view broken;
    struct view_chunk *chunks;
    struct scan scan;
    struct engine_query q;
    struct scan_answer answer = {0};
    struct arena a = {0};
    struct err e = ERR_INIT;

    (void)state;
    open_all(&f, DTYPE_F32, 100, 2048, true);
    queries = make_queries(&f);
    ingest(&f, 200);
    look(&f);
    chunks = test_calloc(f.view->chunk_count, sizeof *chunks);
    memcpy(chunks, f.view->chunks, f.view->chunk_count * sizeof *chunks);
    chunks[f.view->chunk_count / 2].id += 100000;
    broken = *f.view;
    broken.chunks = chunks;
    scan = (struct scan){.pool = f.pool, .flat = f.flat, .view = &broken};
    q = (struct engine_query){.vectors = queries, .count = QUERIES, .k = 5};
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        scan.engine = ways[w].engine;
        scan.precision = ways[w].precision;
        scan.delta = 1e-6;
        err_clear(&e);
        assert_int_equal(scan_search(&scan, &q, &a, &answer, &e), ERR_CORRUPT);
        assert_null(answer.pro);
    }
    arena_free(&a);
    test_free(chunks);
    test_free(queries);
    close_all(&f);
}

/* Makes NaNs of the encoding of row `row` of the chunk, in its file. */
static void make_nan(struct fixture *f, size_t chunk, uint32_t row)
{
    size_t row_bytes = corpus_row_bytes(f->corpus), size;
    unsigned char *bytes, *at;
    struct err e = ERR_INIT;
    struct block b;
    char path[128];
    FILE *file;

    snprintf(path, sizeof path, "%s/shards/000001/data.mdb", f->dir);
    file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    size = (size_t)ftell(file);
    rewind(file);
    bytes = test_malloc(size);
    assert_int_equal(fread(bytes, 1, size, file), size);
    assert_int_equal(block_open(&f->view->chunks[chunk], BLOCK_ENCODINGS, &b, &e), 0);
    at = memmem(bytes, size, b.bytes + row * row_bytes, row_bytes);
    assert_non_null(at);
    block_close(&b);
    fseek(file, at - bytes, SEEK_SET);
    memset(at, 0xff, row_bytes);
    assert_int_equal(fwrite(at, 1, row_bytes, file), row_bytes);
    fclose(file);
    test_free(bytes);
}

/* A row that was right when it was read becomes NaNs in its file: an error by every engine, noted,
 * and the view without it is answered. */
static void test_no_number(void **state)
{
    struct fixture f;
    struct arena a = {0};
    struct err e = ERR_INIT;

    (void)state;
    for (size_t w = 0; w <= sizeof ways / sizeof *ways; w++) { /* the last: scan_score */
        bool all = w == sizeof ways / sizeof *ways;
        double *scores = test_calloc(QUERIES, 200 * sizeof *scores);
        struct scan_answer answer;
        float *queries;

        open_all(&f, DTYPE_F32, 100, 8192, true);
        queries = make_queries(&f);
        ingest(&f, 200);
        look(&f);
        for (int turn = 0; turn < 3; turn++) {
            struct scan scan = {.pool = f.pool, .flat = f.flat, .view = f.view, .delta = 1e-6};
            struct engine_query q = {.vectors = queries, .count = QUERIES, .k = 200,
                                     .opponents = 200};
            struct scan_scores want = {.vectors = queries, .count = QUERIES, .out = scores,
                                       .end = f.view->chunk_count, .stride = 200};
            int code;

            scan.engine = all ? SCAN_EXACT : ways[w].engine;
            scan.precision = all ? TIER_CERTIFIED : ways[w].precision;
            err_clear(&e);
            code = all ? scan_score(&scan, &want, &a, &e)
                       : scan_search(&scan, &q, &a, &answer, &e);
            assert_int_equal(code, turn == 1 ? ERR_CORRUPT : 0);
            assert_true((store_damage(f.store) > 0) == (turn > 0));
            if (turn == 0) {
                make_nan(&f, 2, 5);
            } else if (turn == 1) {
                assert_non_null(strstr(e.text, "1 of"));
                view_release(f.view);
                f.view = corpus_view_sound(f.corpus, false);
                assert_int_equal(f.view->damage->examples, 1);
            } else if (!all) {
                assert_int_equal(answer.pro[0].count, 199);
                assert_int_equal(answer.opp[QUERIES - 1].count, 199);
            }
        }
        test_free(scores);
        test_free(queries);
        close_all(&f);
    }
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_search_equals_a_full_sort),
        cmocka_unit_test(test_all_rows_deleted),
        cmocka_unit_test(test_a_search_stops_when_asked),
        cmocka_unit_test(test_damage_is_an_error),
        cmocka_unit_test(test_no_number),
    };

    kern_init(NULL);
    flat_thread_init(); /* searches run on this thread too */
    return cmocka_run_group_tests_name("scan", tests, NULL, NULL);
}
