/* explain.c - see explain.h. One pass forward and one back, as for a row; but where the encoder
 * sums over positions, this keeps them apart. */
#include "client/lm/explain.h"

#include <cblas.h>
#include <stdlib.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"

enum { TILE = 256 }; /* positions at once: bounds the products of a wide matrix */

struct explaining {
    struct encoder *en;
    const float *vector;
    struct explain_token *tokens;
    float *product; /* owned: TILE x the widest matrix, or three times positions x p; */
    float *turned;  /* and p x the widest: part of it */
};

/* shares[r] += <a[r], b[r]>, rows of n elements, in float64. */
static void add_products(size_t rows, size_t n, const float *a, const float *b,
                         struct explain_token *tokens)
{
    for (size_t r = 0; r < rows; r++) {
        double sum = 0;

        for (size_t i = 0; i < n; i++)
            sum += (double)a[r * n + i] * (double)b[r * n + i];
        tokens[r].share += sum;
    }
}

/* With Adam's D in the way: W = D o (P^T V Q), o x i, once; then dY W against X. */
static void through_weights(struct explaining *x, uint32_t block, const float *in, const float *dy)
{
    struct encoder *en = x->en;
    const struct project *pr = &en->plan->project[block];
    const float *divide = en->plan->moment[block].full;
    const float *v = x->vector + (size_t)block * pr->p * pr->p;
    const int o = (int)pr->rows, i = (int)pr->cols, p = (int)pr->p;

    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, p, i, p, 1.0f, v, p, pr->right, i, 0.0f,
                x->turned, i);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, o, i, p, 1.0f, pr->left, o, x->turned, i,
                0.0f, en->gradient, i);
    for (size_t k = 0; k < (size_t)pr->rows * pr->cols; k++)
        en->gradient[k] *= divide[k];
    for (size_t at = 0; at < en->pack.rows; at += TILE) {
        const size_t rows = en->pack.rows - at < TILE ? en->pack.rows - at : TILE;

        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, i, o, 1.0f,
                    dy + at * pr->rows, o, en->gradient, i, 0.0f, x->product, i);
        add_products(rows, pr->cols, x->product, in + at * pr->cols, x->tokens + at);
    }
}

/* Without D, or with D in the projections: (dY P^T) V against X Q^T. */
static void through_factors(struct explaining *x, uint32_t block, const float *in, const float *dy)
{
    struct encoder *en = x->en;
    const struct project *pr = &en->plan->project[block];
    const float *v = x->vector + (size_t)block * pr->p * pr->p;
    const size_t part = (size_t)en->pack.rows * pr->p;
    const int n = (int)en->pack.rows, o = (int)pr->rows, i = (int)pr->cols, p = (int)pr->p;
    float *left = x->product, *right = left + part, *turned = right + part;

    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, p, o, 1.0f, dy, o, pr->left, o, 0.0f,
                left, p);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, p, i, 1.0f, in, i, pr->right, i, 0.0f,
                right, p);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, p, p, 1.0f, left, p, v, p, 0.0f,
                turned, p);
    add_products(en->pack.rows, pr->p, turned, right, x->tokens);
}

static void on_matrix(void *ctx, uint32_t layer, enum shape_role role, const float *in,
                      const float *dy)
{
    struct explaining *x = ctx;
    const uint32_t block = encoder_block(layer, role);

    if (x->en->plan->second == ENCODER_ADAM)
        through_weights(x, block, in, dy);
    else
        through_factors(x, block, in, dy);
}

static int make_room(struct explaining *x, struct err *e)
{
    const struct encoder_plan *plan = x->en->plan;
    size_t widest = 0, room = 3 * (size_t)x->en->pack.rows * plan->p;

    for (uint32_t b = 0; b < plan->blocks; b++)
        widest = plan->project[b].cols > widest ? plan->project[b].cols : widest;
    if (plan->second == ENCODER_ADAM)
        room = (TILE + plan->p) * widest;
    x->product = mem_big(room, sizeof *x->product);
    if (!x->product)
        return err_set(e, ERR_BUSY, "no memory for the products of %u tokens", x->en->pack.rows);
    if (plan->second == ENCODER_ADAM)
        x->turned = x->product + TILE * widest;
    return 0;
}

/* The text's tokens lie side by side: each ends where the next begins. */
static void place_tokens(const struct encoder *en, size_t len, struct explain_token *tokens)
{
    size_t at = 0;

    for (uint32_t r = 0; r < en->pack.rows; r++) {
        size_t bytes;

        tok_piece(&en->plan->model->tok, en->pack.target[r], &bytes);
        tokens[r].from = at;
        tokens[r].to = at += bytes;
    }
    require(at == len);
}

int explain_text(struct encoder *en, const char *text, size_t len, const float *vector,
                 struct explain_token **out, size_t *out_count, struct err *e)
{
    const struct encoder_text one = {.text = text, .text_len = len};
    struct explaining x = {.en = en, .vector = vector};
    const struct net32_sink sink = {.matrix = on_matrix, .ctx = &x};
    const float *params = en->plan->model->params;
    int rc = encoder_load(en, &one, e);

    if (!rc)
        rc = make_room(&x, e);
    if (rc)
        return rc;
    x.tokens = mem_new(en->pack.rows, sizeof *x.tokens);
    place_tokens(en, len, x.tokens);
    net32_forward(&en->state, params, &en->pack);
    net32_loss(&en->state, params, &en->pack, 1.0);
    net32_backward(&en->state, params, &en->pack, NULL, &sink);
    free(x.product);
    *out = x.tokens;
    *out_count = en->pack.rows;
    return 0;
}
