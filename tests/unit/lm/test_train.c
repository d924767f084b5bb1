/* test_train.c - training: the recorded loss curve, the same bits for any number of threads and
 * whatever is kept on the way, that it learns, and what it refuses. */
#include "tests/unit/lm/fixture.h"

#include <math.h>

#include "client/lm/adafactor.h"

struct curve {
    double loss[64];
    size_t count;
    struct kept {
        uint64_t steps;
        float *params, *second;
    } kept[4];
    size_t keeps;
};

static void keep(void *ctx, const struct train_progress *p)
{
    struct curve *c = ctx;

    assert_int_equal(p->step, c->count + 1);
    c->loss[c->count++] = p->loss;
}

static struct model run(const struct train_options *o, struct curve *c)
{
    struct passages ps = fixture_passages(200);
    struct err e = ERR_INIT;
    struct model m;

    *c = (struct curve){0};
    if (train_run(&m, &ps, o, keep, c, &e))
        fail_msg("%s", e.text);
    passages_free(&ps);
    return m;
}

/* Recorded with OpenBLAS 0.3.21 on the day this was written. BLAS may sum in another order on
 * another processor: float32 rounding, grown by ten steps of training, stays far below 1e-3. */
static void test_the_first_ten_steps(void **state)
{
    static const double recorded[10] = {
        5.934813, 5.929712, 4.792361, 4.437545, 3.967870,
        3.771120, 3.578143, 3.355243, 3.317198, 3.255803,
    };
    const struct train_options o = fixture_options();
    struct curve c;
    struct model m = run(&o, &c);

    (void)state;
    assert_int_equal(c.count, 10);
    for (size_t i = 0; i < 10; i++)
        if (!(fabs(c.loss[i] - recorded[i]) < 1e-3))
            fail_msg("step %zu: loss %.6f, recorded %.6f", i + 1, c.loss[i], recorded[i]);
    /* untrained, all tokens are about as likely as each other: log 320 = 5.77 */
    assert_true(fabs(c.loss[0] - log(m.shape.vocab)) < 0.3);
    assert_int_equal(m.steps, 10);
    model_free(&m);
}

static void threads_do_not_matter(enum model_optimizer optimizer)
{
    struct train_options o = fixture_options();
    struct curve c;
    struct model one;
    size_t n, second;

    o.optimizer = optimizer;
    one = run(&o, &c);
    n = shape_params(&one.shape);
    second = model_second_count(&one.shape, optimizer);
    for (o.threads = 2; o.threads <= 5; o.threads++) {
        struct model more = run(&o, &c);
        assert_memory_equal(one.params, more.params, n * sizeof *one.params);
        assert_memory_equal(one.second, more.second, second * sizeof *one.second);
        model_free(&more);
    }
    model_free(&one);
}

static void test_threads_do_not_matter(void **state)
{
    (void)state;
    threads_do_not_matter(MODEL_ADAM);
    threads_do_not_matter(MODEL_ADAFACTOR);
}

static void test_another_seed_is_another_model(void **state)
{
    struct train_options o = fixture_options();
    struct curve c;
    struct model a = run(&o, &c), b;

    (void)state;
    o.seed++;
    b = run(&o, &c);
    assert_int_not_equal(memcmp(a.params, b.params, shape_params(&a.shape) * sizeof *a.params), 0);
    model_free(&a);
    model_free(&b);
}

static void it_learns(enum model_optimizer optimizer)
{
    struct train_options o = fixture_options();
    struct curve c;
    struct model m;

    o.optimizer = optimizer;
    o.steps = 60;
    m = run(&o, &c);
    assert_true(c.loss[59] < 0.4 * c.loss[0]);
    assert_int_equal(m.optimizer, optimizer);
    for (size_t i = 0; i < shape_params(&m.shape); i++)
        assert_true(isfinite(m.params[i]));
    for (size_t i = 0; i < model_second_count(&m.shape, optimizer); i++)
        assert_true(m.second[i] >= 0 && isfinite(m.second[i]));
    model_free(&m);
}

static void test_it_learns(void **state)
{
    (void)state;
    it_learns(MODEL_ADAM);
    it_learns(MODEL_ADAFACTOR);
}

/* A row's mean of the whole matrix and a column's are means of the same squares. */
static void test_the_factors_agree(void **state)
{
    struct train_options o = fixture_options();
    struct shape_tensor t[SHAPE_TENSORS_MAX];
    size_t place[SHAPE_TENSORS_MAX], count;
    struct curve c;
    struct model m;

    (void)state;
    o.optimizer = MODEL_ADAFACTOR;
    m = run(&o, &c);
    count = shape_tensors(&m.shape, t);
    adafactor_places(t, count, place);
    for (size_t i = 0; i < count; i++) {
        const float *row = m.second + place[i], *col = row + t[i].rows;
        double rows = 0, cols = 0;
        if (t[i].rows == 1)
            continue;
        for (size_t r = 0; r < t[i].rows; r++)
            rows += (double)row[r] / t[i].rows;
        for (size_t k = 0; k < t[i].cols; k++)
            cols += (double)col[k] / t[i].cols;
        assert_true(rows > 1e-12 && fabs(rows - cols) < 1e-5 * rows);
    }
    model_free(&m);
}

static float *copy(const float *from, size_t count)
{
    float *to = mem_new(count, sizeof *to);

    memcpy(to, from, count * sizeof *to);
    return to;
}

static int keep_model(void *ctx, struct model *m, struct err *e)
{
    struct curve *c = ctx;
    struct kept *k = &c->kept[c->keeps++];

    if (m->steps == 9)
        return err_set(e, ERR_FULL, "no room for step 9");
    assert_int_equal(m->steps, c->count);
    *k = (struct kept){m->steps, copy(m->params, shape_params(&m->shape)),
                       copy(m->second, model_second_count(&m->shape, m->optimizer))};
    return 0;
}

static void free_kept(struct curve *c)
{
    for (size_t i = 0; i < c->keeps; i++) {
        free(c->kept[i].params);
        free(c->kept[i].second);
    }
    c->keeps = 0;
}

/* Keeping models on the way changes nothing; the one kept last is the one that comes out; each is
 * the same whether others are kept or not. */
static void keeping_changes_nothing(enum model_optimizer optimizer)
{
    struct train_options o = fixture_options();
    struct curve c, alone;
    struct model plain, m;
    size_t n, second;

    o.optimizer = optimizer;
    plain = run(&o, &c);
    o.kept = keep_model;
    o.keep[0] = 1, o.keep[1] = 4, o.keep[2] = 10, o.keeps = 3;
    m = run(&o, &c);
    n = shape_params(&m.shape) * sizeof *m.params;
    second = model_second_count(&m.shape, optimizer) * sizeof *m.second;
    assert_int_equal(c.keeps, 3);
    assert_memory_equal(plain.params, m.params, n);
    assert_memory_equal(plain.second, m.second, second);
    assert_memory_equal(c.kept[2].params, m.params, n);
    assert_memory_equal(c.kept[2].second, m.second, second);
    assert_int_not_equal(memcmp(c.kept[1].params, m.params, n), 0);
    model_free(&m);
    o.keep[0] = 4, o.keeps = 1;
    m = run(&o, &alone);
    assert_int_equal(alone.kept[0].steps, 4);
    assert_memory_equal(c.kept[1].params, alone.kept[0].params, n);
    assert_memory_equal(c.kept[1].second, alone.kept[0].second, second);
    free_kept(&c);
    free_kept(&alone);
    model_free(&m);
    model_free(&plain);
}

static void test_keeping_changes_nothing(void **state)
{
    (void)state;
    keeping_changes_nothing(MODEL_ADAM);
    keeping_changes_nothing(MODEL_ADAFACTOR);
}

static void test_steps_that_cannot_be_kept(void **state)
{
    static const uint64_t bad[][2] = {{0, 5}, {5, 5}, {6, 5}, {5, 11}};
    struct passages ps = fixture_passages(20);
    struct train_options o = fixture_options();
    struct err e = ERR_INIT;
    struct curve c = {0};
    struct model m;

    (void)state;
    o.kept = keep_model;
    o.keeps = 2;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memcpy(o.keep, bad[i], sizeof bad[i]);
        assert_int_equal(train_run(&m, &ps, &o, NULL, &c, &e), ERR_INVALID);
        assert_string_equal(e.field, "checkpoint-steps");
    }
    /* a model that cannot be kept ends the run */
    o.keep[0] = 9, o.keeps = 1;
    assert_int_equal(train_run(&m, &ps, &o, keep, &c, &e), ERR_FULL);
    assert_int_equal(c.count, 9);
    assert_null(m.params);
    passages_free(&ps);
}

static void test_a_batch_of_one(void **state)
{
    struct train_options o = fixture_options();
    struct curve c;
    struct model m;

    (void)state;
    o.batch = 1; /* three of the four slices are empty */
    o.steps = 3;
    m = run(&o, &c);
    assert_int_equal(c.count, 3);
    model_free(&m);
}

static void test_refusals(void **state)
{
    struct passages ps = fixture_passages(20);
    struct err e = ERR_INIT;
    struct train_options o = fixture_options();
    struct model m;

    (void)state;
    o.steps = 0;
    assert_int_equal(train_run(&m, &ps, &o, NULL, NULL, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "steps or minutes"));
    o = fixture_options();
    o.batch = 0;
    assert_int_equal(train_run(&m, &ps, &o, NULL, NULL, &e), ERR_INVALID);
    o = fixture_options();
    o.threads = 0;
    assert_int_equal(train_run(&m, &ps, &o, NULL, NULL, &e), ERR_INVALID);
    o = fixture_options();
    o.shape.heads = 3;
    assert_int_equal(train_run(&m, &ps, &o, NULL, NULL, &e), ERR_INVALID);
    assert_string_equal(e.field, "heads");
    o = fixture_options();
    o.rate = 1e30;
    assert_int_equal(train_run(&m, &ps, &o, NULL, NULL, &e), ERR_NOT_FINITE);
    assert_non_null(strstr(e.text, "--rate"));
    passages_free(&ps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_ten_steps),
        cmocka_unit_test(test_threads_do_not_matter),
        cmocka_unit_test(test_another_seed_is_another_model),
        cmocka_unit_test(test_it_learns),
        cmocka_unit_test(test_the_factors_agree),
        cmocka_unit_test(test_keeping_changes_nothing),
        cmocka_unit_test(test_steps_that_cannot_be_kept),
        cmocka_unit_test(test_a_batch_of_one),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
