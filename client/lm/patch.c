/* patch.c - see patch.h. */
#include "client/lm/patch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/lm/adafactor.h"
#include "client/lm/adam.h"
#include "client/lm/encoder.h"
#include "client/lm/hot.h"
#include "client/lm/train.h"
#include "storage/base/mem.h"

static int init_adafactor(struct patch *x, struct err *e)
{
    const size_t floats = adafactor_places(x->tensor, x->tensors, x->place);
    size_t widest = 0;

    for (size_t i = 0; i < x->tensors; i++)
        widest = x->tensor[i].cols > widest ? x->tensor[i].cols : widest;
    x->second = mem_big(floats, sizeof *x->second);
    x->scratch = mem_big(2 * widest, sizeof *x->scratch);
    return x->second && x->scratch ? 0 : err_set(e, ERR_BUSY, "no memory for the optimiser");
}

int patch_init(struct patch *x, const struct model *m, const struct patch_options *o,
               struct err *e)
{
    const size_t count = shape_params(&m->shape);
    int rc = 0;

    *x = (struct patch){.model = m, .options = *o};
    pack_init(&x->pack, m->shape.context);
    x->tensors = shape_tensors(&m->shape, x->tensor);
    x->grads = mem_big(count, sizeof *x->grads);
    x->params = mem_big(count, sizeof *x->params);
    if (!x->grads || !x->params)
        rc = err_set(e, ERR_BUSY, "no memory for a copy of %zu parameters", count);
    if (!rc && m->optimizer == MODEL_ADAFACTOR && !o->plain)
        rc = init_adafactor(x, e);
    if (rc)
        patch_fini(x);
    return rc;
}

void patch_fini(struct patch *x)
{
    net32_fini(&x->state);
    pack_fini(&x->pack);
    free(x->tokens);
    free(x->log_sums);
    free(x->grads);
    free(x->params);
    free(x->second);
    free(x->scratch);
    *x = (struct patch){0};
}

/* The tokens of two texts, one after the other, into x->tokens. */
static int tokenize(struct patch *x, const char *first, size_t first_len, const char *then,
                    size_t then_len, size_t *given, size_t *count, struct err *e)
{
    const struct tok *tok = &x->model->tok;
    const size_t bytes = first_len + then_len;

    if (bytes > x->token_cap) {
        uint32_t *more = mem_big(bytes, sizeof *more);
        if (!more)
            return err_set(e, ERR_BUSY, "no memory for the tokens of %zu bytes", bytes);
        free(x->tokens);
        x->tokens = more;
        x->token_cap = bytes;
    }
    *given = first_len ? tok_encode(tok, first, first_len, x->tokens) : 0;
    *count = *given + tok_encode(tok, then, then_len, x->tokens + *given);
    return 0;
}

int patch_check_passage(struct patch *x, const char *text, size_t len, struct err *e)
{
    size_t given = 0, count = 0;
    int rc = tokenize(x, NULL, 0, text, len, &given, &count, e);

    if (!rc && count > ENCODER_TOKENS_MAX) {
        err_set(e, ERR_TOO_LARGE, "%zu tokens, at most %d", count, ENCODER_TOKENS_MAX);
        rc = err_at_limit(e, ENCODER_TOKENS_MAX);
    }
    return rc;
}

int patch_check_target(struct patch *x, const char *prompt, size_t prompt_len, const char *target,
                       size_t target_len, struct err *e)
{
    const uint32_t context = x->model->shape.context;
    size_t given = 0, count = 0;
    int rc = tokenize(x, prompt, prompt_len, target, target_len, &given, &count, e);

    if (!rc && count > context) {
        err_set(e, ERR_TOO_LARGE, "prompt and target have %zu tokens, the model sees %u", count,
                context);
        rc = err_at_limit(e, context);
    }
    return rc;
}

/* Packs what is in x->tokens and makes room for its rows. */
static int fit(struct patch *x, size_t count, size_t given, bool ending, struct err *e)
{
    int rc;

    pack_clear(&x->pack);
    pack_add(&x->pack, x->tokens, count, given, ending);
    rc = pack_check(&x->pack, e);
    if (!rc)
        rc = net32_fit(&x->state, &x->model->shape, x->pack.rows, e);
    if (!rc && x->pack.rows > x->row_cap) {
        double *more = mem_big(x->pack.rows, sizeof *more);
        if (!more)
            return err_set(e, ERR_BUSY, "no memory for %u rows", x->pack.rows);
        free(x->log_sums);
        x->log_sums = more;
        x->row_cap = x->pack.rows;
    }
    return rc;
}

/* Sum of squares in lanes, added from left to right. n: a multiple of the lane. */
HOT static double squares(size_t n, const float *restrict g)
{
    double lane[SHAPE_LANE] = {0}, sum = 0;

    for (size_t base = 0; base < n; base += SHAPE_LANE)
        for (size_t i = 0; i < SHAPE_LANE; i++)
            lane[i] += (double)g[base + i] * (double)g[base + i];
    for (size_t i = 0; i < SHAPE_LANE; i++)
        sum += lane[i];
    return sum;
}

HOT static void step_plain(size_t n, float rate, const float *restrict grads,
                        const float *restrict params, float *restrict out)
{
    for (size_t base = 0; base < n; base += SHAPE_LANE)
        for (size_t i = base; i < base + SHAPE_LANE; i++)
            out[i] = params[i] - rate * grads[i];
}

static void step_adafactor(struct patch *x, float scale)
{
    const struct model *m = x->model;
    const struct adafactor_step step = {m->steps + 1, (float)x->options.rate, scale};

    memcpy(x->params, m->params, shape_params(&m->shape) * sizeof *x->params);
    memcpy(x->second, m->second,
           model_second_count(&m->shape, MODEL_ADAFACTOR) * sizeof *x->second);
    for (size_t i = 0; i < x->tensors; i++) {
        const struct shape_tensor *t = &x->tensor[i];
        adafactor_update(&step, t, x->grads + t->offset, x->params + t->offset,
                         x->second + x->place[i], x->scratch);
    }
}

/* x->params from the model and x->grads; scale shortens the gradient. */
static void update(struct patch *x, float scale)
{
    const struct model *m = x->model;
    const size_t count = shape_params(&m->shape);
    struct adam adam = adam_usual();

    adam.step = m->steps;
    if (x->options.plain)
        step_plain(count, (float)x->options.rate * scale, x->grads, m->params, x->params);
    else if (m->optimizer == MODEL_ADAM)
        adam_step_aside(&adam, (float)x->options.rate, scale, m->second, x->grads, m->params,
                        x->params, count);
    else
        step_adafactor(x, scale);
}

int patch_step(struct patch *x, const char *text, size_t len, struct err *e)
{
    const struct model *m = x->model;
    const size_t count = shape_params(&m->shape);
    size_t given = 0, tokens = 0;
    double loss, norm;
    int rc = tokenize(x, NULL, 0, text, len, &given, &tokens, e);

    if (!rc)
        rc = fit(x, tokens, 0, true, e);
    if (rc)
        return rc;
    memset(x->grads, 0, count * sizeof *x->grads);
    net32_forward(&x->state, m->params, &x->pack);
    loss = net32_loss(&x->state, m->params, &x->pack, 1.0 / x->pack.rows);
    net32_backward(&x->state, m->params, &x->pack, x->grads, NULL);
    norm = sqrt(squares(count, x->grads));
    if (!isfinite(loss) || !isfinite(norm))
        return err_set(e, ERR_NOT_FINITE, "the passage's loss is %g, its gradient's norm %g", loss,
                       norm);
    update(x, (float)train_scale(norm));
    return 0;
}

int patch_target(struct patch *x, bool after, const char *prompt, size_t prompt_len,
                 const char *target, size_t target_len, double *out, struct err *e)
{
    const float *params = after ? x->params : x->model->params;
    const size_t vocab = x->model->shape.vocab;
    size_t given = 0, count = 0;
    double sum = 0;
    int rc = tokenize(x, prompt, prompt_len, target, target_len, &given, &count, e);

    if (!rc)
        rc = fit(x, count, given, false, e);
    if (rc)
        return rc;
    net32_forward(&x->state, params, &x->pack);
    net32_read(&x->state, params, (uint32_t)given, (uint32_t)(count - given), x->log_sums);
    for (size_t r = given; r < count; r++)
        sum += (double)x->state.logits[r * vocab + x->tokens[r]] - x->log_sums[r - given];
    if (!isfinite(sum))
        return err_set(e, ERR_NOT_FINITE,
                       "the target's log-probability is %g: a lower --rate may help", sum);
    *out = sum;
    return 0;
}
