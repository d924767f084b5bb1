/* model.c - see model.h. */
#include "client/lm/model.h"

#include <stdlib.h>
#include <string.h>

#include "index/philox.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

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

int model_init(struct model *m, const struct shape *s, struct tok *tok, uint64_t seed,
               struct err *e)
{
    int rc;
    size_t count;

    *m = (struct model){.shape = *s, .tok = *tok, .seed = seed};
    *tok = (struct tok){0};
    m->shape.vocab = m->tok.vocab;
    rc = shape_check(&m->shape, e);
    if (rc) {
        model_free(m);
        return rc;
    }
    count = shape_params(&m->shape);
    m->params = mem_big(count, sizeof *m->params);
    m->second = mem_big(count, sizeof *m->second);
    if (!m->params || !m->second) {
        model_free(m);
        return err_set(e, ERR_BUSY, "no memory for %zu parameters", count);
    }
    memset(m->second, 0, count * sizeof *m->second);
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
