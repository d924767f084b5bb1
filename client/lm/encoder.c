/* encoder.c - see encoder.h. The network's backward pass hands over the two factors of each
 * matrix's gradient (net_decl.inc, sink); everything after that is here. */
#include "client/lm/encoder.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/lm/hot.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

static const float second_eps = 1e-8f; /* outside the root, as in Adam */

/* The matrices of a layer, in the order of the blocks. */
static const enum shape_role matrix[SHAPE_MATRICES] = {SHAPE_QKV, SHAPE_ATTN_OUT, SHAPE_MLP_IN,
                                                       SHAPE_MLP_OUT};

int encoder_second_parse(const char *name, enum encoder_second *out, struct err *e)
{
    if (strcmp(name, "adam") == 0) {
        *out = ENCODER_ADAM;
        return 0;
    }
    if (strcmp(name, "none") == 0) {
        *out = ENCODER_NONE;
        return 0;
    }
    err_set(e, ERR_INVALID, "second moment \"%.40s\": must be adam or none", name);
    return err_at_field(e, "second-moment");
}

static uint32_t block_of(uint32_t layer, enum shape_role role)
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

/* The division by sqrt(V) + eps as a product: the inverse is taken in float64 and rounded once, so
 * a quotient differs from the divided one by at most one unit in the last place. */
static int invert_second(struct encoder_plan *plan, struct err *e)
{
    const size_t count = shape_params(&plan->model->shape);

    plan->inverse = mem_big(count, sizeof *plan->inverse);
    if (!plan->inverse)
        return err_set(e, ERR_BUSY, "no memory for %zu second moments", count);
    for (size_t i = 0; i < count; i++)
        plan->inverse[i] =
            (float)(1.0 / (sqrt((double)plan->model->second[i]) + (double)second_eps));
    return 0;
}

int encoder_plan_init(struct encoder_plan *plan, const struct model *m, uint32_t dim,
                      enum encoder_second second, uint64_t seed, struct err *e)
{
    int rc;

    *plan = (struct encoder_plan){.model = m,
                                  .second = second,
                                  .seed = seed,
                                  .blocks = m->shape.layers * SHAPE_MATRICES};
    shape_tensors(&m->shape, plan->tensor);
    rc = choose_p(plan, dim, e);
    if (!rc && second == ENCODER_ADAM)
        rc = invert_second(plan, e);
    if (!rc)
        plan->project = mem_new(plan->blocks, sizeof *plan->project);
    for (uint32_t b = 0; b < plan->blocks && !rc; b++) {
        const struct shape_tensor *t = tensor_of(plan, b);
        rc = project_init(&plan->project[b], seed, b, t->rows, t->cols, plan->p, e);
    }
    if (rc)
        encoder_plan_fini(plan);
    return rc;
}

void encoder_plan_fini(struct encoder_plan *plan)
{
    for (uint32_t b = 0; plan->project && b < plan->blocks; b++)
        project_fini(&plan->project[b]);
    free(plan->project);
    free(plan->inverse);
    *plan = (struct encoder_plan){0};
}

void encoder_plan_describe(const struct encoder_plan *plan, const char *dtype, struct buf *out)
{
    buf_format(out, "{\"dim\":%u,\"dtype\":\"%s\",\"blocks\":[", plan->dim, dtype);
    for (uint32_t b = 0; b < plan->blocks; b++)
        buf_format(out, "%s{\"name\":\"%s\",\"dim\":%u}", b ? "," : "", tensor_of(plan, b)->name,
                   plan->p * plan->p);
    buf_format(out,
               "],\"encoded\":false,\"projection\":{\"kind\":\"two-sided-gaussian\",\"seed\":%llu,"
               "\"p\":%u,\"scale\":\"1/sqrt(p)\",\"generator\":\"philox4x32-10\"},",
               (unsigned long long)plan->seed, plan->p);
    if (plan->second == ENCODER_ADAM)
        buf_format(out, "\"second_moment\":{\"kind\":\"adam\",\"eps\":1e-8},");
    else
        buf_format(out, "\"second_moment\":{\"kind\":\"none\"},");
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

/* With V in the way the whole G of each passage is made, divided and projected. */
static void project_divided(struct encoder *en, uint32_t b, const float *x, const float *dy)
{
    const struct encoder_plan *plan = en->plan;
    const struct shape_tensor *t = tensor_of(plan, b);
    const int o = (int)t->rows, i = (int)t->cols;

    for (uint32_t g = 0; g < en->pack.groups; g++) {
        const size_t first = en->pack.group[g], rows = en->pack.group[g + 1] - first;
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, o, i, (int)rows, 1.0f,
                    dy + first * t->rows, o, x + first * t->cols, i, 0.0f, en->gradient, i);
        multiply((size_t)t->rows * t->cols, en->gradient, plan->inverse + t->offset);
        project_apply(&plan->project[b], en->gradient, en->scratch,
                      en->rows + (size_t)g * plan->dim + (size_t)b * plan->p * plan->p);
    }
}

/* Without V the factors are projected, not the product: P G Q^T = (dY P^T)^T (X Q^T), exact algebra
 * and far less work. scratch holds (N, p) of each. */
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
        project_divided(en, block_of(layer, role), x, dy);
    else
        project_factors(en, block_of(layer, role), x, dy);
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

    if (en->plan->second == ENCODER_NONE && need > en->scratch_cap) {
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
