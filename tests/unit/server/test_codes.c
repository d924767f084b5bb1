/* test_codes.c - the server's coder: which corpora get codes, what is stored, and that threads, slices
 * and the writer lane make the same bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "index/code.h"
#include "index/kern.h"
#include "server/codes.h"
#include "server/pool.h"
#include "storage/commit.h"
#include "storage/fs.h"
#include "storage/maintain.h"

enum { DIM = 300, ROWS = 75 };

struct fixture {
    char dir[64];
    struct store *store;
    struct corpus *corpus;
    struct pool *pool;
    float rows[ROWS][DIM];
};

static void never(void *arg, struct job *j)
{
    (void)arg, (void)j;
    fail();
}

static struct corpus *make_corpus(struct store *s, const char *name, uint32_t dim, enum dtype type)
{
    struct corpus_def def = {.dim = dim, .dtype = type, .manifest = "{}"};
    struct err e = ERR_INIT;
    struct corpus *c = NULL;
    bool created;

    snprintf(def.name, sizeof def.name, "%s", name);
    assert_int_equal(store_corpus_create(s, &def, &created, &c, &e), 0);
    return c;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct store_options o = {.create = true, .coder = &codes_coder};
    struct err e = ERR_INIT;
    uint32_t seed = 1;

    kern_init(NULL);
    strcpy(f->dir, "/tmp/ascribe-codes-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(store_open(f->dir, &o, &f->store, &e), 0);
    f->corpus = make_corpus(f->store, "c", DIM, DTYPE_F32);
    f->pool = pool_new(3, 4, never, NULL);
    for (size_t i = 0; i < ROWS * DIM; i++) {
        seed = seed * 1664525u + 1013904223u;
        f->rows[i / DIM][i % DIM] = (float)(int32_t)seed * 0x1p-31f;
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct err e = ERR_INIT;
    int code;

    pool_free(f->pool);
    corpus_release(f->corpus);
    store_close(f->store);
    code = fs_remove_tree(f->dir, 6, &e);
    free(f);
    return code;
}

static void test_which_rows_get_codes(void **state)
{
    static const struct {
        uint32_t dim;
        enum dtype type;
        uint32_t bits; /* 0: none */
    } cases[] = {{79, DTYPE_F32, 0},     {80, DTYPE_F32, 32},   {159, DTYPE_BF16, 0},
                 {160, DTYPE_F16, 32},   {256, DTYPE_F32, 32},  {257, DTYPE_F32, 64},
                 {1, DTYPE_F32, 0},      {16384, DTYPE_F16, 2048},
                 {CODE_DIM_MAX, DTYPE_F32, CODE_DIM_MAX / 8},   {CODE_DIM_MAX + 1, DTYPE_F32, 0}};
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[32];
        struct corpus *c;
        const struct coder_shape *s;

        snprintf(name, sizeof name, "shape%zu", i);
        c = make_corpus(f->store, name, cases[i].dim, cases[i].type);
        s = corpus_code_shape(c);
        assert_int_equal(s->version, cases[i].bits ? CODE_VERSION : 0);
        assert_int_equal(s->plane_bytes[0], cases[i].bits);
        assert_int_equal(s->plane_bytes[1], cases[i].bits * 6);
        assert_int_equal(s->plane_bytes[2], cases[i].bits * 2);
        assert_int_equal(s->factors, cases[i].bits ? CODE_FACTORS : 0);
        corpus_release(c);
    }
}

static void assert_same(const struct codes *a, const struct codes *b)
{
    for (unsigned p = 0; p <= CODER_PLANES; p++)
        assert_memory_equal(coder_plane(a, p), coder_plane(b, p),
                            coder_plane_bytes(&a->shape, p, a->count));
}

/* Three readers, one thread, row by row through index/code.h itself. */
static void test_the_same_bytes(void **state)
{
    struct fixture *f = *state;
    const struct codes *many, *one;
    struct code_planes planes = {.rows = ROWS};
    struct arena a = {0};
    struct err e = ERR_INIT;
    float *scratch = arena_new(&a, code_padded(DIM), sizeof *scratch);

    assert_int_equal(codes_run(f->corpus, f->rows, ROWS, f->pool, NULL, &a, &many, &e), 0);
    assert_int_equal(codes_run(f->corpus, f->rows, ROWS, NULL, NULL, &a, &one, &e), 0);
    assert_same(many, one);
    planes.bits = arena_new(&a, code_bits_bytes(DIM, ROWS), 1);
    planes.six = arena_new(&a, code_six_bytes(DIM, ROWS), 1);
    planes.low = arena_new(&a, code_low_bytes(DIM, ROWS), 1);
    planes.factors = arena_new(&a, code_factors_bytes(ROWS), 1);
    code_rows(DTYPE_F32, DIM, f->rows, sizeof f->rows[0], 0, ROWS, &planes, scratch);
    assert_memory_equal(one->plane[0], planes.bits, code_bits_bytes(DIM, ROWS));
    assert_memory_equal(one->plane[1], planes.six, code_six_bytes(DIM, ROWS));
    assert_memory_equal(one->plane[2], planes.low, code_low_bytes(DIM, ROWS));
    assert_memory_equal(one->factors, planes.factors, code_factors_bytes(ROWS));
    arena_free(&a);
}

static bool always(void *arg)
{
    (void)arg;
    return true;
}

static void test_stopped(void **state)
{
    struct fixture *f = *state;
    const struct stop stop = {.asked = always};
    const struct codes *out;
    struct arena a = {0};
    struct err e = ERR_INIT;

    assert_int_equal(codes_run(f->corpus, f->rows, ROWS, f->pool, &stop, &a, &out, &e),
                     ERR_CANCELLED);
    assert_null(out);
    arena_free(&a);
}

/* What a commit stored, with codes made ahead and without, is what verify makes again. */
static void test_stored(void **state)
{
    struct fixture *f = *state;
    struct commit_example examples[ROWS];
    char ids[2 * ROWS][8];
    double norms[ROWS];
    struct commit_batch b = {.corpus = f->corpus, .name = "a", .count = ROWS, .encodings = f->rows,
                             .norms = norms, .examples = examples};
    struct commit_batch *list[] = {&b};
    const struct view *v;
    struct verify_report r;
    struct arena a = {0};
    struct err e = ERR_INIT;

    for (int turn = 0; turn < 2; turn++) {
        for (int i = 0; i < ROWS; i++) {
            char *id = ids[turn * ROWS + i];

            norms[i] = 1;
            examples[i] = (struct commit_example){.id = id};
            examples[i].id_len = (uint32_t)snprintf(id, 8, "%d", turn * ROWS + i);
        }
        if (turn == 0)
            assert_int_equal(codes_run(f->corpus, f->rows, ROWS, f->pool, NULL, &a, &b.codes, &e), 0);
        assert_int_equal(commit_group(f->store, list, 1, &e), 0);
        b.name = "b";
        b.codes = NULL;
        b.content_hash[0] = 1;
    }
    v = corpus_view(f->corpus);
    assert_int_equal(v->chunk_count, 2);
    for (size_t i = 0; i < 2; i++) {
        struct block six;

        assert_true(v->chunks[i].coded);
        assert_int_equal(block_open(&v->chunks[i], BLOCK_SIX, &six, &e), 0);
        assert_int_equal(six.len, code_six_bytes(DIM, ROWS));
        block_close(&six);
    }
    view_release(v);
    assert_int_equal(verify_store(f->store, NULL, NULL, NULL, &r, &e), 0);
    assert_int_equal(r.rows, 2 * ROWS);
    assert_int_equal(r.damaged_blocks + r.damaged_ids + r.ledger_faults, 0);
    arena_free(&a);
}

#define with_store(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_store(test_which_rows_get_codes),
        with_store(test_the_same_bytes),
        with_store(test_stopped),
        with_store(test_stored),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
