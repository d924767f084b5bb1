/* shape.c - see shape.h. */
#include "client/lm/shape.h"

#include <stdio.h>

#include "storage/base/check.h"

/* What a layer has. Rows and columns in units of the width. */
static const struct {
    const char *name;
    uint32_t rows, cols;
    bool matrix, to_residual;
} role[SHAPE_ROLES] = {
    [SHAPE_NORM1] = {"norm1", 0, 1, false, false},
    [SHAPE_QKV] = {"attn.qkv", 3, 1, true, false},
    [SHAPE_ATTN_OUT] = {"attn.out", 1, 1, true, true},
    [SHAPE_NORM2] = {"norm2", 0, 1, false, false},
    [SHAPE_MLP_IN] = {"mlp.in", 4, 1, true, false},
    [SHAPE_MLP_OUT] = {"mlp.out", 1, 4, true, true},
};

/* Deviations of the start values, chosen by short runs on the demo's corpus (docs/lm.md).
 * Embeddings this large give logits of about one at the start, since they are tied; the two
 * matrices that write to the residual stream start next to nothing, so that each layer begins as
 * the identity. */
static const float token_deviation = 0.08f, position_deviation = 0.02f;
static const float matrix_deviation = 0.05f, residual_deviation = 0.001f;

static int in_range(const char *field, uint32_t value, uint32_t low, uint32_t high, uint32_t step,
                    struct err *e)
{
    if (value >= low && value <= high && value % step == 0)
        return 0;
    err_set(e, ERR_INVALID, "%s is %u: must be a multiple of %u from %u to %u", field, value, step,
            low, high);
    return err_at_field(e, field);
}

int shape_check(const struct shape *s, struct err *e)
{
    int rc = in_range("vocab", s->vocab, 272, 65536, SHAPE_LANE, e);

    if (!rc)
        rc = in_range("context", s->context, 2, SHAPE_CONTEXT_MAX, 1, e);
    if (!rc)
        rc = in_range("layers", s->layers, 1, SHAPE_LAYERS_MAX, 1, e);
    if (!rc)
        rc = in_range("width", s->width, SHAPE_LANE, SHAPE_WIDTH_MAX, SHAPE_LANE, e);
    if (!rc)
        rc = in_range("heads", s->heads, 1, s->width, 1, e);
    if (!rc && s->width % s->heads) {
        err_set(e, ERR_INVALID, "%u heads do not divide a width of %u", s->heads, s->width);
        rc = err_at_field(e, "heads");
    }
    if (!rc && shape_params(s) > SHAPE_PARAMS_MAX)
        rc = err_set(e, ERR_TOO_LARGE, "%zu parameters, at most %d", shape_params(s),
                     SHAPE_PARAMS_MAX);
    return rc;
}

struct table {
    struct shape_tensor *rows;
    size_t count, offset;
};

static void add(struct table *t, const char *name, uint32_t rows, uint32_t cols, float deviation,
                bool block)
{
    struct shape_tensor *x = &t->rows[t->count++];

    *x = (struct shape_tensor){.offset = t->offset,
                               .rows = rows,
                               .cols = cols,
                               .deviation = deviation,
                               .block = block};
    snprintf(x->name, sizeof x->name, "%s", name);
    t->offset += (size_t)rows * cols;
}

size_t shape_tensors(const struct shape *s, struct shape_tensor out[SHAPE_TENSORS_MAX])
{
    struct table t = {.rows = out};

    add(&t, "embed.token", s->vocab, s->width, token_deviation, false);
    add(&t, "embed.position", s->context, s->width, position_deviation, false);
    for (uint32_t l = 0; l < s->layers; l++)
        for (size_t r = 0; r < SHAPE_ROLES; r++) {
            char name[24];
            float deviation = role[r].to_residual ? residual_deviation : matrix_deviation;
            snprintf(name, sizeof name, "h%u.%s", l, role[r].name);
            add(&t, name, role[r].matrix ? role[r].rows * s->width : 1, role[r].cols * s->width,
                role[r].matrix ? deviation : 0, role[r].matrix);
        }
    add(&t, "norm", 1, s->width, 0, false);
    return t.count;
}

size_t shape_at(uint32_t layer, enum shape_role r)
{
    return SHAPE_FIRST_LAYER + (size_t)layer * SHAPE_ROLES + (size_t)r;
}

size_t shape_last_norm(const struct shape *s)
{
    return shape_at(s->layers, SHAPE_NORM1);
}

size_t shape_params(const struct shape *s)
{
    size_t width = s->width;

    return (s->vocab + s->context + s->layers * (12 * width + 2) + 1) * width;
}
