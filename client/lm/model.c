/* model.c - see model.h. */
#include "client/lm/model.h"

#include <stdlib.h>
#include <string.h>

#include "client/lm/adafactor.h"
#include "index/philox.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

static const char *const optimizer_name[] = {
    [MODEL_ADAM] = "adam",
    [MODEL_ADAFACTOR] = "adafactor",
};

const char *model_optimizer_name(enum model_optimizer o)
{
    return optimizer_name[o];
}

int model_optimizer_parse(const char *name, enum model_optimizer *out, struct err *e)
{
    for (size_t i = 0; i < sizeof optimizer_name / sizeof optimizer_name[0]; i++)
        if (strcmp(name, optimizer_name[i]) == 0) {
            *out = (enum model_optimizer)i;
            return 0;
        }
    err_set(e, ERR_INVALID, "optimizer \"%.40s\": must be adam or adafactor", name);
    return err_at_field(e, "optimizer");
}

size_t model_second_count(const struct shape *s, enum model_optimizer o)
{
    struct shape_tensor tensors[SHAPE_TENSORS_MAX];

    if (o == MODEL_ADAM)
        return shape_params(s);
    return adafactor_places(tensors, shape_tensors(s, tensors), NULL);
}

/* Start values: normal from the stream (seed, tensor, left), or ones. */
static void start_values(struct model *m)
{
    struct shape_tensor tensors[SHAPE_TENSORS_MAX];
    size_t count = shape_tensors(&m->shape, tensors);
    double normals[256];

    for (size_t t = 0; t < count; t++) {
        float *w = m->params + tensors[t].offset;
        const size_t n = (size_t)tensors[t].rows * tensors[t].cols;
        for (size_t i = 0; i < n; i += 256) {
            const size_t some = n - i < 256 ? n - i : 256;
            if (tensors[t].deviation > 0)
                philox_normals(m->seed, (uint32_t)t, PHILOX_LEFT, i, some, normals);
            for (size_t j = 0; j < some; j++)
                w[i + j] = tensors[t].deviation > 0
                               ? (float)(normals[j] * (double)tensors[t].deviation)
                               : 1.0f;
        }
    }
}

int model_init(struct model *m, const struct shape *s, struct tok *tok, enum model_optimizer o,
               uint64_t seed, struct err *e)
{
    size_t count, second;
    int rc;

    *m = (struct model){.shape = *s, .tok = *tok, .optimizer = o, .seed = seed};
    *tok = (struct tok){0};
    m->shape.vocab = m->tok.vocab;
    rc = shape_check(&m->shape, e);
    if (rc) {
        model_free(m);
        return rc;
    }
    count = shape_params(&m->shape);
    m->params = mem_big(count, sizeof *m->params);
    second = model_second_count(&m->shape, o);
    m->second = mem_big(second, sizeof *m->second);
    if (!m->params || !m->second) {
        model_free(m);
        return err_set(e, ERR_BUSY, "no memory for %zu parameters", count);
    }
    memset(m->second, 0, second * sizeof *m->second);
    start_values(m);
    return 0;
}

void model_free(struct model *m)
{
    tok_free(&m->tok);
    free(m->params);
    free(m->second);
    *m = (struct model){0};
}
