/* test_adafactor.c - the Adafactor step against the paper's algorithms written out in float64, with
 * sums where the program keeps means and V in full where it has two factors. */
#include "tests/unit/lm/fixture.h"

#include <math.h>

#include "client/lm/adafactor.h"

enum { ROWS = 21, COLS = 48, STEPS = 12 };

struct plain { /* one tensor */
    size_t rows, cols;
    double row[ROWS], col[COLS], full[COLS], param[ROWS * COLS];
    double largest; /* root mean square of an update so far, before clipping */
};

/* Algorithm 4 (matrix) or 5 (vector) of the paper, d = 1, eps1 = 1e-30. */
static void plain_step(struct plain *x, unsigned step, double rate, const double *g)
{
    const double beta = 1 - pow(step, -0.8);
    const size_t n = x->rows * x->cols;
    double u[ROWS * COLS], all = 0, squares = 0, clip;

    for (size_t r = 0; r < x->rows; r++) {
        double sum = 0;
        for (size_t c = 0; c < x->cols; c++)
            sum += g[r * x->cols + c] * g[r * x->cols + c] + 1e-30;
        x->row[r] = beta * x->row[r] + (1 - beta) * sum;
        all += x->row[r];
    }
    for (size_t c = 0; c < x->cols; c++) {
        double sum = 0;
        for (size_t r = 0; r < x->rows; r++)
            sum += g[r * x->cols + c] * g[r * x->cols + c] + 1e-30;
        x->col[c] = beta * x->col[c] + (1 - beta) * sum;
        x->full[c] = beta * x->full[c] + (1 - beta) * (g[c] * g[c] + 1e-30);
    }
    for (size_t i = 0; i < n; i++) {
        const double v = x->rows > 1 ? x->row[i / x->cols] * x->col[i % x->cols] / all : x->full[i];
        u[i] = g[i] / sqrt(v);
        squares += u[i] * u[i];
    }
    clip = sqrt(squares / (double)n);
    x->largest = clip > x->largest ? clip : x->largest;
    clip = clip > 1 ? clip : 1;
    for (size_t i = 0; i < n; i++)
        x->param[i] -= rate * u[i] / clip;
}

static void near(double got, double want, double bound, const char *what, size_t i)
{
    if (!(fabs(got - want) <= bound * fabs(want) + 1e-37))
        fail_msg("%s %zu: %.9g, the plain way %.9g", what, i, got, want);
}

/* Gradients of rows and columns of very different sizes, one row and one column without any, a jump
 * of a thousand in the middle; each is taken times a scale. */
static void follow(uint32_t rows)
{
    const struct shape_tensor t = {.name = "t", .rows = rows, .cols = COLS};
    const size_t n = (size_t)rows * COLS;
    static struct plain want;
    static float grads[ROWS * COLS], params[ROWS * COLS], state[ROWS + COLS];
    static double g[ROWS * COLS], scratch[2 * COLS];
    struct rng r;

    want = (struct plain){.rows = rows, .cols = COLS};
    memset(state, 0, sizeof state);
    rng_init(&r, 3, RNG_SAMPLE, rows);
    for (size_t i = 0; i < n; i++) {
        params[i] = (float)rng_below(&r, 2000) / 1000 - 1;
        want.param[i] = (double)params[i];
    }
    for (unsigned step = 1; step <= STEPS; step++) {
        const struct adafactor_step s = {.step = step, .rate = 0.01f, .scale = 0.25f};
        for (size_t i = 0; i < n; i++) {
            const double size = pow(10, (double)(i / COLS) / 5 - (double)(i % COLS) / 10) *
                                (step == 7 ? 1000 : 1);
            const bool none = i % COLS == 5 || (rows > 1 && i / COLS == 3);
            grads[i] = none ? 0 : (float)(size * ((double)rng_below(&r, 2001) / 1000 - 1));
            g[i] = (double)grads[i] * 0.25;
        }
        adafactor_update(&s, &t, grads, params, state, scratch);
        plain_step(&want, step, (double)s.rate, g);
        for (size_t i = 0; i < rows && rows > 1; i++)
            near((double)state[i], want.row[i] / COLS, 2e-6, "row factor", i);
        for (size_t i = 0; i < COLS; i++)
            near((double)state[rows > 1 ? rows + i : i],
                 rows > 1 ? want.col[i] / rows : want.full[i], 2e-6, "column factor", i);
        for (size_t i = 0; i < n; i++)
            if (!(fabs((double)params[i] - want.param[i]) < 1e-6))
                fail_msg("step %u, parameter %zu: %.9g, the plain way %.9g", step, i,
                         (double)params[i], want.param[i]);
    }
    assert_true(want.largest > 2); /* so the limit was at work */
}

static void test_a_matrix_follows_the_paper(void **state)
{
    (void)state;
    follow(ROWS);
}

static void test_a_vector_follows_the_paper(void **state)
{
    (void)state;
    follow(1);
}

/* The first step's decay is zero: V is the gradient's own square, a vector moves by the rate. */
static void test_the_first_step_is_the_rate(void **state)
{
    const struct shape_tensor t = {.name = "t", .rows = 1, .cols = SHAPE_LANE};
    const struct adafactor_step s = {.step = 1, .rate = 0.5f, .scale = 1};
    float grads[SHAPE_LANE], params[SHAPE_LANE] = {0}, second[SHAPE_LANE] = {0};
    double scratch[2 * SHAPE_LANE];

    (void)state;
    for (size_t i = 0; i < SHAPE_LANE; i++)
        grads[i] = (i % 2 ? -1.0f : 1.0f) * powf(10, (float)i - 8);
    adafactor_update(&s, &t, grads, params, second, scratch);
    for (size_t i = 0; i < SHAPE_LANE; i++)
        assert_true(fabs((double)params[i] - (i % 2 ? 0.5 : -0.5)) < 1e-6);
}

static void test_places(void **state)
{
    const struct shape_tensor t[] = {{.rows = 3, .cols = 16}, {.rows = 1, .cols = 32},
                                     {.rows = 5, .cols = 48}};
    size_t place[3];

    (void)state;
    assert_int_equal(adafactor_places(t, 3, place), 3 + 16 + 32 + 5 + 48);
    assert_int_equal(place[0], 0);
    assert_int_equal(place[1], 19);
    assert_int_equal(place[2], 51);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_matrix_follows_the_paper),
        cmocka_unit_test(test_a_vector_follows_the_paper),
        cmocka_unit_test(test_the_first_step_is_the_rate),
        cmocka_unit_test(test_places),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
