/* test_encoder.c - encodings against a slow oracle: one example at a time, the whole gradient by
 * the network's own backward pass, divided, projected by project_apply_plain. */
#include "tests/unit/lm/shared.h"

#include <math.h>

#include "client/lm/adafactor.h"
#include "client/lm/encoder.h"

enum { TEXTS = SHARED_TEXTS };

static void encode_all(const struct encoder_plan *plan, const struct shared *s, size_t at_once,
                       float *rows, double *losses)
{
    struct encoder_text texts[TEXTS];
    struct encoder en;
    struct err e = ERR_INIT;

    assert_int_equal(encoder_init(&en, plan, &e), 0);
    for (size_t i = 0; i < TEXTS; i++)
        texts[i] = (struct encoder_text){.text = s->text[i], .text_len = strlen(s->text[i])};
    for (size_t i = 0; i < TEXTS; i += at_once) {
        size_t some = TEXTS - i < at_once ? TEXTS - i : at_once;
        if (encoder_run(&en, texts + i, some, rows + i * DIM, losses ? losses + i : NULL, &e))
            fail_msg("%s", e.text);
    }
    encoder_fini(&en);
}

/* g / sqrt(V), V = row col / mean(row) in full, 1e-30 added to the factors first. */
static void divide_by_factors(const struct shape_tensor *t, const float *row, double *g)
{
    const float *col = row + t->rows;
    double mean = 0;

    for (size_t r = 0; r < t->rows; r++)
        mean += ((double)row[r] + 1e-30) / t->rows;
    for (size_t i = 0; i < (size_t)t->rows * t->cols; i++)
        g[i] /= sqrt(((double)row[i / t->cols] + 1e-30) *
                     ((double)col[i % t->cols] + 1e-30) / mean);
}

/* The row of one text by the plain way. Blocks: layer by layer qkv, out, mlp.in, mlp.out. */
static double oracle(const struct shared *s, const char *text, enum encoder_second second,
                     float *row)
{
    static const enum shape_role order[] = {SHAPE_QKV, SHAPE_ATTN_OUT, SHAPE_MLP_IN, SHAPE_MLP_OUT};
    const struct model *m = shared_model(s, second);
    const struct shape *shape = &m->shape;
    const size_t n = shape_params(shape);
    struct shape_tensor tensors[SHAPE_TENSORS_MAX];
    double *params = mem_new(n, sizeof *params), *grads = mem_new(n, sizeof *grads), loss;
    float *w = mem_new(n, sizeof *w);
    uint32_t tokens[512];
    struct net64_state st;
    struct err e = ERR_INIT;
    struct pack p;
    size_t place[SHAPE_TENSORS_MAX];

    adafactor_places(tensors, shape_tensors(shape, tensors), place);
    for (size_t i = 0; i < n; i++)
        params[i] = (double)m->params[i];
    pack_init(&p, shape->context);
    pack_add(&p, tokens, tok_encode(&m->tok, text, strlen(text), tokens), 0, false);
    assert_int_equal(net64_init(&st, shape, p.rows, &e), 0);
    net64_forward(&st, params, &p);
    loss = net64_loss(&st, params, &p, 1.0);
    net64_backward(&st, params, &p, grads, NULL);
    for (uint32_t b = 0; b < 8; b++) {
        const size_t at = shape_at(b / 4, order[b % 4]);
        const struct shape_tensor *t = &tensors[at];
        struct project pr;
        if (second == ENCODER_ADAFACTOR)
            divide_by_factors(t, m->second + place[at], grads + t->offset);
        for (size_t i = 0; i < (size_t)t->rows * t->cols; i++) {
            const double g = grads[t->offset + i];
            w[i] = (float)(second == ENCODER_ADAM
                               ? g / (sqrt((double)m->second[t->offset + i]) + 1e-8)
                               : g);
        }
        assert_int_equal(project_init(&pr, SEED, b, t->rows, t->cols, 6, &e), 0);
        project_apply_plain(&pr, w, row + b * 36);
        project_fini(&pr);
    }
    net64_fini(&st);
    pack_fini(&p);
    free(params);
    free(grads);
    free(w);
    return loss;
}

/* Largest |a - b| over |b|, of one row. */
static double distance(const float *a, const float *b)
{
    double worst = 0, squares = 0;

    for (size_t i = 0; i < DIM; i++) {
        const double d = fabs((double)a[i] - (double)b[i]);
        worst = d > worst ? d : worst;
        squares += (double)b[i] * (double)b[i];
    }
    return worst / sqrt(squares);
}

static void against_the_oracle(const struct shared *s, enum encoder_second second)
{
    struct encoder_plan plan = shared_plan(s, second);
    float *rows = mem_new((size_t)TEXTS * DIM, sizeof *rows), want[DIM];
    double losses[TEXTS], worst = 0;

    encode_all(&plan, s, TEXTS, rows, losses);
    for (size_t i = 0; i < TEXTS; i++) {
        const double loss = oracle(s, s->text[i], second, want);
        const double d = distance(rows + i * DIM, want);
        assert_true(fabs(loss - losses[i]) < 1e-4);
        worst = d > worst ? d : worst;
    }
    print_message("figure: second moment %d: rows differ from the oracle by at most %.2g\n",
                  (int)second, worst);
    assert_true(worst < 2e-5);
    free(rows);
    encoder_plan_fini(&plan);
}

static void test_divided_rows_equal_the_oracle(void **state)
{
    against_the_oracle(*state, ENCODER_ADAM);
}

static void test_undivided_rows_equal_the_oracle(void **state)
{
    against_the_oracle(*state, ENCODER_NONE);
}

static void test_rows_divided_by_factors_equal_the_oracle(void **state)
{
    against_the_oracle(*state, ENCODER_ADAFACTOR);
}

/* auto is the model's own, and what a model has not is refused by name. */
static void test_the_models_own_second_moment(void **state)
{
    static const struct {
        enum encoder_second own, other;
        const char *says;
    } cases[] = {
        {ENCODER_ADAM, ENCODER_ADAFACTOR, "moment adafactor: the checkpoint was trained by adam"},
        {ENCODER_ADAFACTOR, ENCODER_ADAM, "moment adam: the checkpoint was trained by adafactor"},
    };
    const struct shared *s = *state;

    for (size_t i = 0; i < 2; i++) {
        const struct model *m = shared_model(s, cases[i].own);
        struct encoder_plan plan;
        struct err e = ERR_INIT;
        assert_int_equal(encoder_plan_init(&plan, m, DIM, ENCODER_AUTO, SEED, &e), 0);
        assert_int_equal(plan.second, cases[i].own);
        encoder_plan_fini(&plan);
        assert_int_equal(encoder_plan_init(&plan, m, DIM, ENCODER_NONE, SEED, &e), 0);
        assert_int_equal(plan.second, ENCODER_NONE);
        encoder_plan_fini(&plan);
        assert_int_equal(encoder_plan_init(&plan, m, DIM, cases[i].other, SEED, &e), ERR_INVALID);
        assert_string_equal(e.field, "second-moment");
        if (!strstr(e.text, cases[i].says))
            fail_msg("%s", e.text);
    }
}

/* Packed all together, in sevens or alone: the stated bound. */
static void test_packing_stays_within_its_bound(void **state)
{
    const struct shared *s = *state;
    struct encoder_plan plan = shared_plan(s, ENCODER_ADAM);
    float *all = mem_new((size_t)TEXTS * DIM, sizeof *all), *part = mem_new((size_t)TEXTS * DIM, 4);
    static const size_t sizes[] = {1, 7};
    double worst = 0;

    encode_all(&plan, s, TEXTS, all, NULL);
    for (size_t i = 0; i < 2; i++) {
        encode_all(&plan, s, sizes[i], part, NULL);
        for (size_t r = 0; r < TEXTS; r++) {
            const double d = distance(part + r * DIM, all + r * DIM);
            worst = d > worst ? d : worst;
        }
    }
    print_message("figure: packing changes a row by at most %.2g of its length\n", worst);
    assert_true(worst < 1e-5);
    encode_all(&plan, s, TEXTS, part, NULL);
    assert_memory_equal(all, part, (size_t)TEXTS * DIM * sizeof *all);
    free(all);
    free(part);
    encoder_plan_fini(&plan);
}

/* The gradient of "given + text" with the loss on all is that on given plus that on text. */
static void test_targets_add_up(void **state)
{
    const struct shared *s = *state;
    struct encoder_plan plan = shared_plan(s, ENCODER_ADAM);
    const struct encoder_text cases[] = {
        {.text = "Arda: the capital of Norland.", .text_len = 29},
        {.text = "Arda: the capital of", .text_len = 20},
        {.given = "Arda: the capital of", .given_len = 20, .text = " Norland.", .text_len = 9},
    };
    float rows[3][DIM], sum[DIM];
    double losses[3];
    struct encoder en;
    struct err e = ERR_INIT;

    assert_int_equal(encoder_init(&en, &plan, &e), 0);
    assert_int_equal(encoder_run(&en, cases, 3, rows[0], losses, &e), 0);
    for (size_t i = 0; i < DIM; i++)
        sum[i] = rows[1][i] + rows[2][i];
    assert_true(distance(sum, rows[0]) < 1e-5);
    assert_true(fabs(losses[1] + losses[2] - losses[0]) < 1e-4);
    assert_true(distance(rows[1], rows[2]) > 0.01);
    encoder_fini(&en);
    encoder_plan_fini(&plan);
}

/* A text of many windows: the fixture's context is 24. */
static void test_a_long_text(void **state)
{
    const struct shared *s = *state;
    struct encoder_plan plan = shared_plan(s, ENCODER_ADAM);
    char text[400] = "";
    float row[DIM], want[DIM];
    struct encoder en;
    struct err e = ERR_INIT;
    struct encoder_text one;

    for (size_t i = 0; i < 6; i++)
        strcat(text, s->text[0]);
    one = (struct encoder_text){.text = text, .text_len = strlen(text)};
    assert_int_equal(encoder_init(&en, &plan, &e), 0);
    assert_int_equal(encoder_run(&en, &one, 1, row, NULL, &e), 0);
    assert_true(en.pack.windows > 2);
    oracle(s, text, ENCODER_ADAM, want);
    assert_true(distance(row, want) < 2e-5);
    encoder_fini(&en);
    encoder_plan_fini(&plan);
}

static void test_too_long_and_empty(void **state)
{
    const struct shared *s = *state;
    struct encoder_plan plan = shared_plan(s, ENCODER_ADAM);
    char *text = mem_new(20001, 1);
    float *rows = mem_new(3 * DIM, sizeof *rows);
    struct encoder_text texts[3];
    struct encoder en;
    struct err e = ERR_INIT;

    for (size_t i = 0; i < 20000; i++)
        text[i] = "!1"[i % 2]; /* no merge in the fixture joins these */
    for (size_t i = 0; i < 3; i++)
        texts[i] = (struct encoder_text){.text = s->text[i], .text_len = strlen(s->text[i])};
    texts[1] = (struct encoder_text){.text = text, .text_len = 20000};
    assert_int_equal(encoder_init(&en, &plan, &e), 0);
    assert_int_equal(encoder_run(&en, texts, 3, rows, NULL, &e), ERR_TOO_LARGE);
    assert_int_equal(e.index, 1);
    assert_non_null(strstr(e.text, "20000 tokens"));
    texts[1].text_len = 0;
    assert_int_equal(encoder_run(&en, texts, 3, rows, NULL, &e), ERR_ZERO_GRADIENT);
    assert_int_equal(e.index, 1);
    texts[1].text_len = 10;
    assert_int_equal(encoder_run(&en, texts, 3, rows, NULL, &e), 0); /* usable after an error */
    encoder_fini(&en);
    encoder_plan_fini(&plan);
    free(text);
    free(rows);
}

static void test_a_broken_model_is_named(void **state)
{
    const struct shared *s = *state;
    struct model broken = s->model;
    const size_t n = shape_params(&s->model.shape);
    float row[DIM];
    struct encoder_text one = {.text = s->text[0], .text_len = strlen(s->text[0])};
    struct encoder_plan plan;
    struct encoder en;
    struct err e = ERR_INIT;

    broken.params = mem_new(n, sizeof(float)); /* all zero: nothing has a gradient but the head */
    assert_int_equal(encoder_plan_init(&plan, &broken, DIM, ENCODER_NONE, 1, &e), 0);
    assert_int_equal(encoder_init(&en, &plan, &e), 0);
    assert_int_equal(encoder_run(&en, &one, 1, row, NULL, &e), ERR_ZERO_GRADIENT);
    broken.params[n - 1] = NAN;
    assert_int_equal(encoder_run(&en, &one, 1, row, NULL, &e), ERR_NOT_FINITE);
    encoder_fini(&en);
    encoder_plan_fini(&plan);
    free(broken.params);
}

static void test_dims_that_do_not_fit(void **state)
{
    static const uint32_t bad[] = {1, 7, 9, DIM - 1, DIM + 1, ENCODER_DIM_MAX + 8};
    const struct shared *s = *state;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct encoder_plan plan;
        struct err e = ERR_INIT;
        assert_int_equal(encoder_plan_init(&plan, &s->model, bad[i], ENCODER_ADAM, 1, &e),
                         ERR_INVALID);
        assert_string_equal(e.field, "dim");
    }
}

/* What the server is told changes with whatever changes a row. */
static void test_the_description(void **state)
{
    struct shared *s = *state;
    struct encoder_plan plan = shared_plan(s, ENCODER_ADAM), none = shared_plan(s, ENCODER_NONE),
                        factors = shared_plan(s, ENCODER_ADAFACTOR);
    struct buf a = {0}, b = {0}, c = {0}, d = {0};
    char kept;

    strcpy(s->model.fingerprint, "00112233445566778899aabbccddeeff");
    encoder_plan_describe(&plan, "f32", &a);
    buf_add(&a, "", 1);
    assert_non_null(strstr((char *)a.data, "{\"dim\":288,\"dtype\":\"f32\",\"blocks\":[{\"name\":"
                                           "\"h0.attn.qkv\",\"dim\":36}"));
    assert_non_null(
        strstr((char *)a.data, "\"model\":\"ascribe-lm/1:00112233445566778899aabbccddeeff\""));
    encoder_plan_describe(&none, "f32", &b);
    buf_add(&b, "", 1);
    assert_string_not_equal((char *)a.data, (char *)b.data);
    kept = s->model.fingerprint[0];
    s->model.fingerprint[0] = 'f';
    encoder_plan_describe(&plan, "f32", &c);
    buf_add(&c, "", 1);
    assert_string_not_equal((char *)a.data, (char *)c.data);
    s->model.fingerprint[0] = kept;
    encoder_plan_describe(&factors, "f32", &d);
    buf_add(&d, "", 1);
    assert_non_null(strstr((char *)a.data, "\"second_moment\":{\"kind\":\"adam\",\"eps\":1e-8},"));
    assert_non_null(strstr((char *)b.data, "\"second_moment\":{\"kind\":\"none\"},"));
    assert_non_null(
        strstr((char *)d.data, "\"second_moment\":{\"kind\":\"adafactor\",\"eps\":1e-30},"));
    buf_free(&d);
    encoder_plan_fini(&factors);
    buf_free(&a);
    buf_free(&b);
    buf_free(&c);
    encoder_plan_fini(&plan);
    encoder_plan_fini(&none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_divided_rows_equal_the_oracle),
        cmocka_unit_test(test_undivided_rows_equal_the_oracle),
        cmocka_unit_test(test_rows_divided_by_factors_equal_the_oracle),
        cmocka_unit_test(test_the_models_own_second_moment),
        cmocka_unit_test(test_packing_stays_within_its_bound),
        cmocka_unit_test(test_targets_add_up),
        cmocka_unit_test(test_a_long_text),
        cmocka_unit_test(test_too_long_and_empty),
        cmocka_unit_test(test_a_broken_model_is_named),
        cmocka_unit_test(test_dims_that_do_not_fit),
        cmocka_unit_test(test_the_description),
    };

    return cmocka_run_group_tests(tests, shared_set_up, shared_tear_down);
}
