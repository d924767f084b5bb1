/* encoder.c - see encoder.h. The network's backward pass hands over the two factors of each
 * matrix's gradient (net_decl.inc, sink); everything after that is here. */
#include "client/lm/encoder.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/lm/adafactor.h"
#include "client/lm/hot.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

/* The matrices of a layer, in the order of the blocks. */
static const enum shape_role matrix[SHAPE_MATRICES] = {SHAPE_QKV, SHAPE_ATTN_OUT, SHAPE_MLP_IN,
                                                       SHAPE_MLP_OUT};

int encoder_second_parse(const char *name, enum encoder_second *out, struct err *e)
{
    static const char *const names[] = {[ENCODER_NONE] = "none",
                                        [ENCODER_ADAM] = "adam",
                                        [ENCODER_ADAFACTOR] = "adafactor",
                                        [ENCODER_AUTO] = "auto"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (enum encoder_second)i;
            return 0;
        }
    err_set(e, ERR_INVALID, "second moment \"%.40s\": must be none, adam, adafactor or auto", name);
    return err_at_field(e, "second-moment");
}

uint32_t encoder_block(uint32_t layer, enum shape_role role)
{
    uint32_t i = 0;

    while (matrix[i] != role)
        i++;
    return layer * SHAPE_MATRICES + i;
}

static const struct shape_tensor *tensor_of(const struct encoder_plan *plan, uint32_t block)
{
    return &plan->tensor[shape_at(block / SHAPE_MATRICES, matrix[block % SHAPE_MATRICES])];
}

static int choose_p(struct encoder_plan *plan, uint32_t dim, struct err *e)
{
    uint32_t p = (uint32_t)sqrt((double)dim / plan->blocks);

    if (dim <= ENCODER_DIM_MAX && p > 0 && plan->blocks * p * p == dim) {
        plan->p = p;
        plan->dim = dim;
        return 0;
    }
    err_set(e, ERR_INVALID,
            "dim %u does not fit: %u blocks of p x p need %u * p * p, for instance %u or %u "
            "(at most %d)",
            dim, plan->blocks, plan->blocks, plan->blocks * (p ? p * p : 1),
            plan->blocks * (p + 1) * (p + 1), ENCODER_DIM_MAX);
    return err_at_field(e, "dim");
}

/* What is asked for against what the model has. */
static int choose_second(struct encoder_plan *plan, enum encoder_second asked, struct err *e)
{
    const enum model_optimizer o = plan->model->optimizer;
    const enum encoder_second own = o == MODEL_ADAM ? ENCODER_ADAM : ENCODER_ADAFACTOR;

    if (asked == ENCODER_NONE || asked == ENCODER_AUTO || asked == own) {
        plan->second = asked == ENCODER_AUTO ? own : asked;
        return 0;
    }
    err_set(e, ERR_INVALID,
            "second moment %s: the checkpoint was trained by %s and has only its second moment",
            moment_name((enum moment_kind)asked), model_optimizer_name(o));
    return err_at_field(e, "second-moment");
}

/* out (rows, n) *= by (n), row by row. */
static void scale_columns(size_t rows, size_t n, float *out, const float *by)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++)
            out[r * n + i] *= by[i];
}

/* Adafactor's division is a diagonal on either side of G, P (L G R) Q^T = (P L) G (Q R)^T: it goes
 * into the projections once, and encoding is as cheap as without it. `at`: the tensor's state. */
static int fold_factors(struct encoder_plan *plan, uint32_t b, size_t at, struct err *e)
{
    const struct shape_tensor *t = tensor_of(plan, b);
    const float *row = plan->model->second + at;
    int rc = moment_adafactor(&plan->moment[b], t->rows, t->cols, row, row + t->rows,
                              MOMENT_ADAFACTOR_EPS, t->name, e);

    if (rc)
        return rc;
    scale_columns(plan->p, t->rows, plan->project[b].left, plan->moment[b].left);
    scale_columns(plan->p, t->cols, plan->project[b].right, plan->moment[b].right);
    return 0;
}

static int make_block(struct encoder_plan *plan, uint32_t b, const size_t *place, struct err *e)
{
    const struct shape_tensor *t = tensor_of(plan, b);
    int rc = project_init(&plan->project[b], plan->seed, b, t->rows, t->cols, plan->p, e);

    if (!rc && plan->second == ENCODER_ADAM)
        rc = moment_adam(&plan->moment[b], t->rows, t->cols, plan->model->second + t->offset,
                         MOMENT_ADAM_EPS, t->name, e);
    if (!rc && plan->second == ENCODER_ADAFACTOR)
        rc = fold_factors(plan, b, place[t - plan->tensor], e);
    return rc;
}

int encoder_plan_init(struct encoder_plan *plan, const struct model *m, uint32_t dim,
                      enum encoder_second second, uint64_t seed, struct err *e)
{
    size_t place[SHAPE_TENSORS_MAX];
    int rc;

    *plan = (struct encoder_plan){.model = m,
                                  .seed = seed,
                                  .blocks = m->shape.layers * SHAPE_MATRICES};
    adafactor_places(plan->tensor, shape_tensors(&m->shape, plan->tensor), place);
    rc = choose_p(plan, dim, e);
    if (!rc)
        rc = choose_second(plan, second, e);
    if (!rc) {
        plan->project = mem_new(plan->blocks, sizeof *plan->project);
        plan->moment = mem_new(plan->blocks, sizeof *plan->moment);
    }
    for (uint32_t b = 0; b < plan->blocks && !rc; b++)
        rc = make_block(plan, b, place, e);
    if (rc)
        encoder_plan_fini(plan);
    return rc;
}

void encoder_plan_fini(struct encoder_plan *plan)
{
    for (uint32_t b = 0; plan->project && b < plan->blocks; b++) {
        project_fini(&plan->project[b]);
        moment_fini(&plan->moment[b]);
    }
    free(plan->project);
    free(plan->moment);
    *plan = (struct encoder_plan){0};
}

void encoder_plan_describe(const struct encoder_plan *plan, const char *dtype, struct buf *out)
{
    static const char *const eps[] = {[ENCODER_NONE] = "",
                                      [ENCODER_ADAM] = ",\"eps\":1e-8",
                                      [ENCODER_ADAFACTOR] = ",\"eps\":1e-30"};

    buf_format(out, "{\"dim\":%u,\"dtype\":\"%s\",\"blocks\":[", plan->dim, dtype);
    for (uint32_t b = 0; b < plan->blocks; b++)
        buf_format(out, "%s{\"name\":\"%s\",\"dim\":%u}", b ? "," : "", tensor_of(plan, b)->name,
                   plan->p * plan->p);
    buf_format(out,
               "],\"encoded\":false,\"projection\":{\"kind\":\"two-sided-gaussian\",\"seed\":%llu,"
               "\"p\":%u,\"scale\":\"1/sqrt(p)\",\"generator\":\"philox4x32-10\"},",
               (unsigned long long)plan->seed, plan->p);
    buf_format(out, "\"second_moment\":{\"kind\":\"%s\"%s},",
               moment_name((enum moment_kind)plan->second), eps[plan->second]);
    buf_format(out, "\"loss\":\"sum\",\"model\":\"ascribe-lm/%d:%s\"}\n", ENCODER_VERSION,
               plan->model->fingerprint);
}

int encoder_init(struct encoder *en, const struct encoder_plan *plan, struct err *e)
{
    size_t largest = 0, scratch = 0;

    *en = (struct encoder){.plan = plan};
    pack_init(&en->pack, plan->model->shape.context);
    for (uint32_t b = 0; b < plan->blocks; b++) {
        const struct shape_tensor *t = tensor_of(plan, b);
        const size_t size = (size_t)t->rows * t->cols, s = project_scratch(&plan->project[b]);
        largest = size > largest ? size : largest;
        scratch = s > scratch ? s : scratch;
    }
    en->gradient = mem_big(largest, sizeof *en->gradient);
    en->scratch = mem_big(scratch, sizeof *en->scratch);
    en->scratch_cap = scratch;
    if (!en->gradient || !en->scratch) {
        encoder_fini(en);
        return err_set(e, ERR_BUSY, "no memory for a gradient of %zu floats", largest);
    }
    return 0;
}

void encoder_fini(struct encoder *en)
{
    net32_fini(&en->state);
    pack_fini(&en->pack);
    free(en->tokens);
    free(en->gradient);
    free(en->scratch);
    *en = (struct encoder){0};
}

/* out (n) *= by (n). */
HOT static void multiply(size_t n, float *restrict out, const float *restrict by)
{
    for (size_t base = 0; base < n; base += SHAPE_LANE)
        for (size_t i = base; i < base + SHAPE_LANE; i++)
            out[i] *= by[i];
}

/* With Adam's V in the way the whole G of each passage is made, divided and projected. */
static void project_divided(struct encoder *en, uint32_t b, const float *x, const float *dy)
{
    const struct encoder_plan *plan = en->plan;
    const struct shape_tensor *t = tensor_of(plan, b);
    const int o = (int)t->rows, i = (int)t->cols;

    for (uint32_t g = 0; g < en->pack.groups; g++) {
        const size_t first = en->pack.group[g], rows = en->pack.group[g + 1] - first;
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, o, i, (int)rows, 1.0f,
                    dy + first * t->rows, o, x + first * t->cols, i, 0.0f, en->gradient, i);
        multiply((size_t)t->rows * t->cols, en->gradient, plan->moment[b].full);
        project_apply(&plan->project[b], en->gradient, en->scratch,
                      en->rows + (size_t)g * plan->dim + (size_t)b * plan->p * plan->p);
    }
}

/* Without V, or with V in the projections, G's factors are projected, not their product:
 * P G Q^T = (dY P^T)^T (X Q^T), exact algebra and far less work. scratch holds (N, p) of each. */
static void project_factors(struct encoder *en, uint32_t b, const float *x, const float *dy)
{
    const struct encoder_plan *plan = en->plan;
    const struct project *pr = &plan->project[b];
    const int n = (int)en->pack.rows, o = (int)pr->rows, i = (int)pr->cols, p = (int)pr->p;
    float *left = en->scratch, *right = left + (size_t)n * plan->p;

    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, p, o, 1.0f, dy, o, pr->left, o, 0.0f,
                left, p);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, p, i, 1.0f, x, i, pr->right, i, 0.0f,
                right, p);
    for (uint32_t g = 0; g < en->pack.groups; g++) {
        const size_t first = en->pack.group[g], rows = en->pack.group[g + 1] - first;
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, p, p, (int)rows, 1.0f,
                    left + first * plan->p, p, right + first * plan->p, p, 0.0f,
                    en->rows + (size_t)g * plan->dim + (size_t)b * plan->p * plan->p, p);
    }
}

static void on_matrix(void *ctx, uint32_t layer, enum shape_role role, const float *x,
                      const float *dy)
{
    struct encoder *en = ctx;

    if (en->plan->second == ENCODER_ADAM)
        project_divided(en, encoder_block(layer, role), x, dy);
    else
        project_factors(en, encoder_block(layer, role), x, dy);
}

static int fit_tokens(struct encoder *en, size_t bytes, struct err *e)
{
    uint32_t *more;

    if (bytes <= en->token_cap)
        return 0;
    more = mem_big(bytes, sizeof *more);
    if (!more)
        return err_set(e, ERR_BUSY, "no memory for the tokens of %zu bytes", bytes);
    free(en->tokens);
    en->tokens = more;
    en->token_cap = bytes;
    return 0;
}

static int add_text(struct encoder *en, const struct encoder_text *t, struct err *e)
{
    const struct tok *tok = &en->plan->model->tok;
    size_t given = 0, count;
    int rc = fit_tokens(en, t->given_len + t->text_len, e);

    if (rc)
        return rc;
    if (t->text_len == 0)
        return err_set(e, ERR_ZERO_GRADIENT, "the text is empty: it has no gradient");
    if (t->given_len)
        given = tok_encode(tok, t->given, t->given_len, en->tokens);
    count = given + tok_encode(tok, t->text, t->text_len, en->tokens + given);
    if (count > ENCODER_TOKENS_MAX) {
        err_set(e, ERR_TOO_LARGE, "%zu tokens, at most %d", count, ENCODER_TOKENS_MAX);
        return err_at_limit(e, ENCODER_TOKENS_MAX);
    }
    pack_add(&en->pack, en->tokens, count, given, false);
    return pack_check(&en->pack, e);
}

/* Packs texts from `from` on until the pack is full; *to is the first left out. */
static int fill(struct encoder *en, const struct encoder_text *texts, size_t count, size_t from,
                size_t *to, struct err *e)
{
    size_t n = from;

    pack_clear(&en->pack);
    for (; n < count && en->pack.rows < ENCODER_PACK_ROWS; n++) {
        int rc = add_text(en, &texts[n], e);
        if (rc)
            return err_at_index(e, (int64_t)n);
    }
    *to = n;
    return 0;
}

static int fit(struct encoder *en, struct err *e)
{
    const size_t need = 2 * (size_t)en->pack.rows * en->plan->p;
    float *more;

    if (en->plan->second != ENCODER_ADAM && need > en->scratch_cap) {
        more = mem_big(need, sizeof *more);
        if (!more)
            return err_set(e, ERR_BUSY, "no memory for the projections of %u tokens",
                           en->pack.rows);
        free(en->scratch);
        en->scratch = more;
        en->scratch_cap = need;
    }
    return net32_fit(&en->state, &en->plan->model->shape, en->pack.rows, e);
}

static int check_row(const float *row, size_t dim, struct err *e)
{
    double squares = 0;

    for (size_t i = 0; i < dim; i++)
        squares += (double)row[i] * (double)row[i];
    if (!isfinite(squares))
        return err_set(e, ERR_NOT_FINITE, "the gradient is not finite");
    if (squares == 0)
        return err_set(e, ERR_ZERO_GRADIENT, "the gradient is zero and has no direction");
    return 0;
}

static int run_pack(struct encoder *en, float *rows, double *losses, struct err *e)
{
    const struct net32_sink sink = {.matrix = on_matrix, .ctx = en};
    const float *params = en->plan->model->params;
    int rc = fit(en, e);

    if (rc)
        return rc;
    en->rows = rows;
    net32_forward(&en->state, params, &en->pack);
    net32_loss(&en->state, params, &en->pack, 1.0);
    net32_backward(&en->state, params, &en->pack, NULL, &sink);
    for (uint32_t g = 0; g < en->pack.groups; g++) {
        if (losses) {
            losses[g] = 0;
            for (uint32_t r = en->pack.group[g]; r < en->pack.group[g + 1]; r++)
                losses[g] += (double)en->state.row_loss[r];
        }
        rc = check_row(rows + (size_t)g * en->plan->dim, en->plan->dim, e);
        if (rc)
            return err_at_index(e, (int64_t)g);
    }
    return 0;
}

int encoder_run(struct encoder *en, const struct encoder_text *texts, size_t count, float *rows,
                double *losses, struct err *e)
{
    size_t at = 0, next = 0;

    while (at < count) {
        int rc = fill(en, texts, count, at, &next, e);
        if (rc)
            return rc;
        rc = run_pack(en, rows + at * en->plan->dim, losses ? losses + at : NULL, e);
        if (rc) {
            if (e->index >= 0)
                err_at_index(e, e->index + (int64_t)at);
            return rc;
        }
        at = next;
    }
    return 0;
}

int encoder_load(struct encoder *en, const struct encoder_text *text, struct err *e)
{
    int rc;

    pack_clear(&en->pack);
    rc = add_text(en, text, e);
    return rc ? rc : fit(en, e);
}
