/* test_moment.c - the second-moment correction: the fast form within its stated roundings of the
 * plain one, Adafactor against the V it never makes, in place, and what is refused. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "index/moment.h"
#include "index/philox.h"

enum { MOST = 60 * 60 };

static float w[MOST], v[MOST], want[MOST], got[MOST];

static void fill(float *out, size_t count, uint64_t seed, double decades)
{
    double x[2];

    for (size_t i = 0; i < count; i++) {
        philox_normals(seed, 3, PHILOX_LEFT, 2 * i, 2, x);
        out[i] = (float)(x[0] * pow(10.0, decades * x[1]));
    }
}

static void square(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] *= x[i];
}

static void close_to(const float *a, const float *b, size_t count, double roundings)
{
    for (size_t i = 0; i < count; i++) {
        double x = (double)a[i], y = (double)b[i];

        assert_true(fabs(x - y) <= (roundings + 0.01) * 0x1p-23 * fabs(y) + 0x1p-149 * roundings);
    }
}

static void adam_is_the_plain_form(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 60; c++) {
        uint32_t o = 1 + c % 17, i = 1 + c * 7 % 60;
        size_t n = (size_t)o * i;
        double eps = c % 3 ? MOMENT_ADAM_EPS : 1e-3;
        struct err e = ERR_INIT;
        struct moment m;

        fill(w, n, c, 1.0);
        fill(v, n, 100 + c, 2.0);
        square(v, n);
        v[n / 2] = 0.0f; /* a weight never touched */
        assert_int_equal(moment_adam(&m, o, i, v, eps, "v", &e), 0);
        moment_plain_adam(o, i, v, eps, w, want);
        moment_apply(&m, w, got);
        close_to(got, want, n, 2);
        moment_apply(&m, w, w);
        assert_memory_equal(w, got, n * sizeof *w);
        moment_fini(&m);
        moment_fini(&m);
    }
}

/* V = row col / mean(row), made here in full and handed to the Adam form with eps 0. */
static void adafactor_is_its_matrix(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 60; c++) {
        uint32_t o = 1 + c % 23, i = 1 + c * 11 % 50;
        float row[23], col[50];
        double mean = 0.0;
        struct err e = ERR_INIT;
        struct moment m;

        fill(w, (size_t)o * i, c, 1.0);
        fill(row, o, 200 + c, 1.5);
        fill(col, i, 300 + c, 1.5);
        square(row, o);
        square(col, i);
        for (uint32_t r = 0; r < o; r++)
            mean += (double)row[r] / o;
        for (uint32_t k = 0; k < o * i; k++)
            v[k] = (float)((double)row[k / i] * (double)col[k % i] / mean);
        assert_int_equal(moment_adafactor(&m, o, i, row, col, MOMENT_ADAFACTOR_EPS, "v", &e), 0);
        moment_plain_adafactor(o, i, row, col, MOMENT_ADAFACTOR_EPS, w, want);
        moment_apply(&m, w, got);
        close_to(got, want, (size_t)o * i, 3);
        moment_plain_adam(o, i, v, 0.0, w, want);
        close_to(got, want, (size_t)o * i, 5);
        moment_apply(&m, w, w);
        assert_memory_equal(w, got, (size_t)o * i * sizeof *w);
        moment_fini(&m);
    }
}

/* A rank-one V is what Adafactor's factors hold exactly: its means over columns and over rows. */
static void adafactor_finds_a_rank_one_moment(void **state)
{
    float row[4] = {0}, col[3] = {0}, in[12], plain[12];
    struct err e = ERR_INIT;
    struct moment m;

    (void)state;
    for (size_t k = 0; k < 12; k++) {
        v[k] = (float)((1 + k / 3) * (2 + k % 3));
        row[k / 3] += v[k] / 3.0f;
        col[k % 3] += v[k] / 4.0f;
        in[k] = 1.0f;
    }
    assert_int_equal(moment_adafactor(&m, 4, 3, row, col, MOMENT_ADAFACTOR_EPS, "v", &e), 0);
    moment_apply(&m, in, got);
    moment_plain_adam(4, 3, v, 0.0, in, plain);
    close_to(got, plain, 12, 4);
    moment_fini(&m);
}

static void none_copies(void **state)
{
    struct err e = ERR_INIT;
    struct moment m;

    (void)state;
    fill(w, 35, 9, 3.0);
    assert_int_equal(moment_none(&m, 5, 7, &e), 0);
    moment_apply(&m, w, got);
    assert_memory_equal(got, w, 35 * sizeof *w);
    moment_apply(&m, w, w);
    assert_memory_equal(got, w, 35 * sizeof *w);
    moment_fini(&m);
    assert_string_equal(moment_name(MOMENT_NONE), "none");
    assert_string_equal(moment_name(MOMENT_ADAM), "adam");
    assert_string_equal(moment_name(MOMENT_ADAFACTOR), "adafactor");
}

/* A dead row and column of Adafactor: eps keeps them finite. */
static void dead_factors_stay_finite(void **state)
{
    float row[2] = {0.0f, 1.0f}, col[2] = {0.0f, 1.0f}, in[4] = {1e-3f, 1.0f, 0.0f, 1.0f};
    struct err e = ERR_INIT;
    struct moment m;

    (void)state;
    assert_int_equal(moment_adafactor(&m, 2, 2, row, col, MOMENT_ADAFACTOR_EPS, "v", &e), 0);
    moment_apply(&m, in, got);
    moment_plain_adafactor(2, 2, row, col, MOMENT_ADAFACTOR_EPS, in, want);
    for (size_t k = 0; k < 4; k++)
        assert_true(isfinite(got[k]));
    close_to(got, want, 4, 3);
    moment_fini(&m);
}

static void refuses_bad_moments(void **state)
{
    static const float bad[] = {-1e-30f, -1.0f, NAN, INFINITY, -INFINITY};
    float row[3] = {1, 1, 1}, col[2] = {1, 1}, full[6] = {1, 1, 1, 1, 1, 1};
    struct err e = ERR_INIT;
    struct moment m;

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        int code = isfinite(bad[i]) ? ERR_INVALID : ERR_NOT_FINITE;

        full[4] = bad[i];
        assert_int_equal(moment_adam(&m, 3, 2, full, 1e-8, "h0.v", &e), code);
        assert_int_equal(e.index, 4);
        assert_string_equal(e.field, "h0.v");
        assert_null(m.full);
        row[1] = bad[i];
        assert_int_equal(moment_adafactor(&m, 3, 2, row, col, 1e-30, "h0.v", &e), code);
        assert_int_equal(e.index, 1);
        assert_non_null(strstr(e.text, "row factor"));
        row[1] = 1.0f;
        col[0] = bad[i];
        assert_int_equal(moment_adafactor(&m, 3, 2, row, col, 1e-30, "h0.v", &e), code);
        assert_non_null(strstr(e.text, "column factor"));
        col[0] = 1.0f;
        assert_null(m.left);
    }
    full[4] = 0.0f;
    assert_int_equal(moment_adam(&m, 3, 2, full, 0.0, "v", &e), ERR_INVALID);
    assert_int_equal(e.index, 4);
    assert_int_equal(moment_adam(&m, 3, 2, full, 1e-300, "v", &e), ERR_INVALID);
    assert_null(m.full);
    assert_int_equal(moment_adam(&m, 3, 2, full, -1e-8, "v", &e), ERR_INVALID);
    assert_int_equal(moment_adam(&m, 3, 2, full, (double)NAN, "v", &e), ERR_INVALID);
    assert_int_equal(moment_adam(&m, 0, 2, full, 1e-8, "v", &e), ERR_INVALID);
    assert_int_equal(moment_none(&m, 2, 0, &e), ERR_INVALID);
    row[2] = 0.0f;
    assert_int_equal(moment_adafactor(&m, 3, 2, row, col, 0.0, "v", &e), ERR_INVALID);
    assert_int_equal(e.index, 2);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(adam_is_the_plain_form),
        cmocka_unit_test(adafactor_is_its_matrix),
        cmocka_unit_test(adafactor_finds_a_rank_one_moment),
        cmocka_unit_test(none_copies),
        cmocka_unit_test(dead_factors_stay_finite),
        cmocka_unit_test(refuses_bad_moments),
    };

    return cmocka_run_group_tests_name("moment", tests, NULL, NULL);
}
