/* test_encode.c - gradients to encodings: few rows and many, gradients and unit rows, against the
 * plain form; the first bad row is named. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "index/kern.h"
#include "index/vec.h"
#include "server/encode.h"
#include "storage/base/mem.h"

enum { FIRST = 21, SECOND = 11, DIM = FIRST + SECOND, ROWS = 130 };

static struct whiten whiten;
static float rows[ROWS][DIM];

static int setup(void **state)
{
    static const size_t dims[] = {FIRST, SECOND};
    uint64_t seed = 1;
    size_t at = 0;

    (void)state;
    kern_init(NULL);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t i = 0; i < DIM; i++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
            rows[r][i] = (float)((double)(seed >> 11) / 9007199254740992.0 - 0.5) * (float)(i + 1);
        }
    whiten = (struct whiten){.count = 2, .dim = DIM, .block = mem_new(2, sizeof *whiten.block)};
    for (size_t b = 0; b < 2; b++) {
        struct err e = ERR_INIT;
        struct gram g;

        assert_int_equal(gram_init(&g, dims[b], &e), 0);
        assert_int_equal(gram_add(&g, &rows[0][at], DTYPE_F32, sizeof rows[0], NULL, ROWS, 0, &e),
                         0);
        gram_finish(&g);
        assert_int_equal(whiten_fit(&whiten.block[b], "b", &g, 0.1, &e), 0);
        at += dims[b];
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    whiten_fini(&whiten);
    return 0;
}

/* The encoding of one gradient by the plain form; returns |S g|. */
static double plain(const float *g, float out[DIM])
{
    float white[DIM], scratch[DIM];
    struct err e = ERR_INIT;
    double length, stretch;

    assert_int_equal(vec_normalise(g, DTYPE_F32, DIM, DTYPE_F32, out, &length, scratch, "g", 0, &e),
                     0);
    whiten_apply_plain(&whiten.block[0], out, white);
    whiten_apply_plain(&whiten.block[1], out + FIRST, white + FIRST);
    assert_int_equal(
        vec_normalise(white, DTYPE_F32, DIM, DTYPE_F32, out, &stretch, scratch, "g", 0, &e), 0);
    return stretch * length;
}

/* Rows first .. first+count-1, bit for bit. */
static void check(const float *out, const double *norms, size_t first, size_t count)
{
    for (size_t r = 0; r < count; r++) {
        float want[DIM];
        double length = plain(rows[first + r], want);

        assert_memory_equal(&norms[r], &length, sizeof length);
        assert_memory_equal(out + r * DIM, want, sizeof want);
    }
}

static void test_every_count_is_the_plain_form(void **state)
{
    static const size_t counts[] = {1, 2, 3, 4, 5, 47, 48, 49, 96, 97, ROWS};
    float out[ROWS * DIM];
    double norms[ROWS];

    (void)state;
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (size_t last = 0; last < 2; last++) { /* the same rows, alone and among others */
            struct encode k = {.whiten = &whiten, .in = rows[last ? ROWS - counts[c] : 0],
                               .in_type = DTYPE_F32, .rows = counts[c], .dim = DIM,
                               .out_type = DTYPE_F32, .out = out, .norms = norms, .field = "rows"};
            struct err e = ERR_INIT;

            assert_int_equal(encode_run(&k, NULL, NULL, &e), 0);
            check(out, norms, last ? ROWS - counts[c] : 0, counts[c]);
        }
}

/* What a rewrite does: unit rows and their lengths in, in place of the gradients themselves. */
static void test_unit_rows_and_lengths(void **state)
{
    float unit[ROWS * DIM], out[ROWS * DIM];
    double norms[ROWS];
    struct encode k = {.in = rows, .in_type = DTYPE_F32, .rows = ROWS, .dim = DIM,
                       .out_type = DTYPE_F32, .out = unit, .norms = norms, .field = "rows"};
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(encode_run(&k, NULL, NULL, &e), 0);
    k.whiten = &whiten;
    k.in = unit;
    k.out = out;
    k.lengths = norms;
    assert_int_equal(encode_run(&k, NULL, NULL, &e), 0);
    check(out, norms, 0, ROWS);
}

static void test_the_first_bad_row_is_named(void **state)
{
    static const size_t counts[] = {3, 4, 60, ROWS};
    float out[ROWS * DIM], kept[DIM];
    double norms[ROWS];

    (void)state;
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        struct encode k = {.whiten = &whiten, .in = rows, .in_type = DTYPE_F32, .rows = counts[c],
                           .dim = DIM, .out_type = DTYPE_F32, .out = out, .norms = norms,
                           .field = "rows"};
        size_t bad = counts[c] - 2;
        struct err e = ERR_INIT;

        memcpy(kept, rows[bad], sizeof kept);
        rows[bad][5] = NAN;
        assert_int_equal(encode_run(&k, NULL, NULL, &e), ERR_NOT_FINITE);
        assert_int_equal(e.index, (int)bad);
        memset(rows[bad], 0, sizeof kept);
        assert_int_equal(encode_run(&k, NULL, NULL, &e), ERR_ZERO_GRADIENT);
        assert_int_equal(e.index, (int)bad);
        memcpy(rows[bad], kept, sizeof kept);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_count_is_the_plain_form),
        cmocka_unit_test(test_unit_rows_and_lengths),
        cmocka_unit_test(test_the_first_bad_row_is_named),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
