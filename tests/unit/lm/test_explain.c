/* test_explain.c - token shares against a slow oracle, position by position in float64; their sum
 * against the row; and the whole of `serve`, request by request. */
#include "tests/unit/lm/shared.h"

#include <jansson.h>
#include <math.h>

#include "client/lm/adafactor.h"
#include "client/lm/explain.h"
#include "client/lm/serve.h"

enum { TEXTS = 12 }; /* of those there are: the oracle is slow */

static void fill_vector(float *v, uint32_t number)
{
    struct rng r;

    rng_init(&r, 7, RNG_SAMPLE, number);
    for (size_t i = 0; i < DIM; i++)
        v[i] = (float)rng_below(&r, 2000) / 1000 - 1;
}

/* ---- the oracle ------------------------------------------------------------------------------ */

struct plain {
    const struct model *model;
    enum encoder_second second;
    const float *vector;
    uint32_t rows;
    double *shares; /* rows */
    struct shape_tensor tensors[SHAPE_TENSORS_MAX];
    size_t place[SHAPE_TENSORS_MAX];
};

/* 1 over what element (o, i) of the tensor's gradient is divided by. */
static double divide(const struct plain *x, const struct shape_tensor *t, size_t o, size_t i)
{
    const float *second = x->model->second, *row;
    double mean = 0;

    if (x->second == ENCODER_NONE)
        return 1;
    if (x->second == ENCODER_ADAM)
        return 1 / (sqrt((double)second[t->offset + o * t->cols + i]) + 1e-8);
    row = second + x->place[t - x->tensors];
    for (size_t r = 0; r < t->rows; r++)
        mean += ((double)row[r] + 1e-30) / t->rows;
    return 1 / sqrt(((double)row[o] + 1e-30) * ((double)row[t->rows + i] + 1e-30) / mean);
}

/* shares[r] += dy_r^T (D o (P^T V Q)) x_r, by loops, element by element. */
static void on_matrix(void *ctx, uint32_t layer, enum shape_role role, const double *in,
                      const double *dy)
{
    struct plain *x = ctx;
    const struct shape_tensor *t = &x->tensors[shape_at(layer, role)];
    const uint32_t block = encoder_block(layer, role);
    const float *v = x->vector + (size_t)block * P * P;
    struct project pr;
    struct err e = ERR_INIT;

    assert_int_equal(project_init(&pr, SEED, block, t->rows, t->cols, P, &e), 0);
    for (size_t o = 0; o < t->rows; o++)
        for (size_t i = 0; i < t->cols; i++) {
            double w = 0;

            for (size_t a = 0; a < P; a++)
                for (size_t b = 0; b < P; b++)
                    w += (double)pr.left[a * t->rows + o] * (double)v[a * P + b] *
                         (double)pr.right[b * t->cols + i];
            w *= divide(x, t, o, i);
            for (uint32_t r = 0; r < x->rows; r++)
                x->shares[r] += dy[r * t->rows + o] * w * in[r * t->cols + i];
        }
    project_fini(&pr);
}

static void oracle(const struct model *m, enum encoder_second second, const char *text,
                   const float *vector, double *shares)
{
    const size_t n = shape_params(&m->shape);
    struct plain x = {.model = m, .second = second, .vector = vector, .shares = shares};
    const struct net64_sink sink = {.matrix = on_matrix, .ctx = &x};
    double *params = mem_new(n, sizeof *params);
    uint32_t tokens[512];
    struct net64_state st;
    struct err e = ERR_INIT;
    struct pack p;

    adafactor_places(x.tensors, shape_tensors(&m->shape, x.tensors), x.place);
    for (size_t i = 0; i < n; i++)
        params[i] = (double)m->params[i];
    pack_init(&p, m->shape.context);
    pack_add(&p, tokens, tok_encode(&m->tok, text, strlen(text), tokens), 0, false);
    x.rows = p.rows;
    assert_int_equal(net64_init(&st, &m->shape, p.rows, &e), 0);
    net64_forward(&st, params, &p);
    net64_loss(&st, params, &p, 1.0);
    net64_backward(&st, params, &p, NULL, &sink);
    net64_fini(&st);
    pack_fini(&p);
    free(params);
}

static void against_the_oracle(const struct shared *s, enum encoder_second second)
{
    struct encoder_plan plan = shared_plan(s, second);
    struct encoder en;
    struct err e = ERR_INIT;
    float v[DIM], row[DIM];
    double worst = 0, worst_sum = 0;

    assert_int_equal(encoder_init(&en, &plan, &e), 0);
    for (uint32_t i = 0; i < TEXTS; i++) {
        const struct encoder_text one = {.text = s->text[i], .text_len = strlen(s->text[i])};
        struct explain_token *tokens;
        double want[512] = {0}, largest = 0, sum = 0, product = 0;
        size_t count;

        assert_int_equal(encoder_run(&en, &one, 1, row, NULL, &e), 0);
        if (i % 2) /* an example explained by itself, and by any vector */
            memcpy(v, row, sizeof v);
        else
            fill_vector(v, i);
        assert_int_equal(explain_text(&en, one.text, one.text_len, v, &tokens, &count, &e), 0);
        oracle(plan.model, second, one.text, v, want);
        for (size_t k = 0; k < count; k++)
            largest = fmax(largest, fabs(want[k]));
        for (size_t k = 0; k < count; k++) {
            worst = fmax(worst, fabs(tokens[k].share - want[k]) / largest);
            sum += tokens[k].share;
            assert_int_equal(tokens[k].from, k ? tokens[k - 1].to : 0);
        }
        assert_int_equal(tokens[count - 1].to, one.text_len);
        for (size_t k = 0; k < DIM; k++)
            product += (double)v[k] * (double)row[k];
        worst_sum = fmax(worst_sum, fabs(sum - product) / (i % 2 ? fabs(product) : largest));
        free(tokens);
    }
    print_message("figure: second moment %d: shares differ from the oracle by at most %.2g, sums "
                  "from the row by %.2g\n",
                  (int)second, worst, worst_sum);
    assert_true(worst < 2e-5);
    assert_true(worst_sum < 1e-5);
    encoder_fini(&en);
    encoder_plan_fini(&plan);
}

static void test_shares_with_adam(void **state)
{
    against_the_oracle(*state, ENCODER_ADAM);
}

static void test_shares_undivided(void **state)
{
    against_the_oracle(*state, ENCODER_NONE);
}

static void test_shares_with_adafactor(void **state)
{
    against_the_oracle(*state, ENCODER_ADAFACTOR);
}

/* More positions than are multiplied at once, of many windows. */
static void test_a_long_text(void **state)
{
    const struct shared *s = *state;
    struct encoder_plan plan = shared_plan(s, ENCODER_ADAM);
    struct encoder_text one;
    struct explain_token *tokens;
    struct encoder en;
    struct err e = ERR_INIT;
    char *text = mem_new(8000, 1);
    float row[DIM];
    double sum = 0, product = 0;
    size_t count;

    for (int i = 0; i < 40; i++)
        strcat(text, s->text[i % TEXTS]);
    one = (struct encoder_text){.text = text, .text_len = strlen(text)};
    assert_int_equal(encoder_init(&en, &plan, &e), 0);
    assert_int_equal(encoder_run(&en, &one, 1, row, NULL, &e), 0);
    assert_int_equal(explain_text(&en, text, one.text_len, row, &tokens, &count, &e), 0);
    assert_true(count > 512);
    for (size_t k = 0; k < count; k++)
        sum += tokens[k].share;
    for (size_t k = 0; k < DIM; k++)
        product += (double)row[k] * (double)row[k];
    assert_true(fabs(sum - product) < 1e-5 * product);
    assert_int_equal(explain_text(&en, text, 0, row, &tokens, &count, &e), ERR_ZERO_GRADIENT);
    free(text);
    encoder_fini(&en);
    encoder_plan_fini(&plan);
    free(tokens);
}

/* ---- serve ----------------------------------------------------------------------------------- */

/* The answer's head; *body what follows it, *rest what follows that. */
static json_t *take_answer(char **at, char **body)
{
    char *end = strchr(*at, '\n');
    json_t *head;

    assert_non_null(end);
    head = json_loadb(*at, (size_t)(end - *at), 0, NULL);
    assert_non_null(head);
    *body = end + 1;
    *at = end + 1 + json_integer_value(json_object_get(head, "bytes"));
    return head;
}

static void expect_refused(char **at, const char *words)
{
    char *body;
    json_t *head = take_answer(at, &body);
    const char *why = json_string_value(json_object_get(head, "error"));

    assert_true(json_is_false(json_object_get(head, "ok")));
    if (!why || !strstr(why, words))
        fail_msg("%s, not %s", why, words);
    json_decref(head);
}

static void test_serve(void **state)
{
    static const char requests[] =
        "{\"id\":1,\"verb\":\"hello\"}\n"
        "not JSON\n"
        "{\"id\":3,\"verb\":\"dance\"}\n"
        "{\"id\":4,\"verb\":\"encode\",\"prompt\":\"Arda:\"}\n"
        "{\"id\":5,\"verb\":\"encode\",\"prompt\":\"Arda:\",\"target\":\"\"}\n"
        "{\"id\":6,\"verb\":\"continue\",\"prompt\":\"Arda:\",\"tokens\":0}\n"
        "{\"id\":7,\"verb\":\"explain\",\"text\":\"Arda\",\"vector\":\"AAAA\"}\n"
        "{\"id\":8,\"verb\":\"continue\",\"prompt\":\"Arda:\",\"tokens\":4}\n"
        "{\"id\":9,\"verb\":\"encode\",\"prompt\":\"Arda:\",\"target\":\" the capital\"}\n";
    const struct shared *s = *state;
    struct encoder_plan plan = shared_plan(s, ENCODER_ADAM);
    struct err e = ERR_INIT;
    char *out = NULL, *at, *body;
    size_t len;
    FILE *to = open_memstream(&out, &len);
    FILE *from = fmemopen((void *)(uintptr_t)requests, sizeof requests - 1, "r");
    json_t *head;
    float row[DIM];
    struct encoder en;
    const struct encoder_text text = {"Arda:", 5, " the capital", 12};

    assert_int_equal(serve_run(&plan, from, to, &e), 0);
    fclose(from);
    fclose(to);
    at = out;
    head = take_answer(&at, &body);
    assert_int_equal(json_integer_value(json_object_get(head, "dim")), DIM);
    assert_int_equal(json_array_size(json_object_get(head, "verbs")), 3);
    json_decref(head);
    expect_refused(&at, "not a request");
    expect_refused(&at, "no verb \"dance\"");
    expect_refused(&at, "target: missing");
    expect_refused(&at, "the text is empty");
    expect_refused(&at, "tokens: must be");
    expect_refused(&at, "vector: not the base64 of 288 float32");
    head = take_answer(&at, &body);
    assert_int_equal(json_integer_value(json_object_get(head, "id")), 8);
    assert_true(json_is_string(json_object_get(head, "output")));
    json_decref(head);
    head = take_answer(&at, &body);
    assert_int_equal(encoder_init(&en, &plan, &e), 0);
    assert_int_equal(encoder_run(&en, &text, 1, row, NULL, &e), 0);
    assert_memory_equal(at - sizeof row, row, sizeof row);
    assert_true(json_integer_value(json_object_get(head, "tokens")) > 0);
    json_decref(head);
    assert_ptr_equal(at, out + len);
    encoder_fini(&en);
    encoder_plan_fini(&plan);
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares_with_adam),
        cmocka_unit_test(test_shares_undivided),
        cmocka_unit_test(test_shares_with_adafactor),
        cmocka_unit_test(test_a_long_text),
        cmocka_unit_test(test_serve),
    };

    return cmocka_run_group_tests(tests, shared_set_up, shared_tear_down);
}
