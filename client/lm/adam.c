/* adam.c - see adam.h. */
#include "client/lm/adam.h"

#include <math.h>

#include "client/lm/hot.h"

enum { LANE = 16 };

struct factors { /* of one step */
    float b1, b2, c1, c2, eps, scale;
};

/* One element: the running means, their bias taken out, a step against the gradient. */
static inline void update_one(const struct factors *f, float grad, float *first, float *second,
                              float *param)
{
    const float g = grad * f->scale;

    *first = f->b1 * *first + (1 - f->b1) * g;
    *second = f->b2 * *second + (1 - f->b2) * (g * g);
    *param -= f->c1 * *first / (sqrtf(*second * f->c2) + f->eps);
}

HOT static void update(const struct factors *f, const float *restrict grads, float *restrict first,
                       float *restrict second, float *restrict params, size_t n)
{
    size_t base = 0;

    for (; base + LANE <= n; base += LANE)
        for (size_t i = base; i < base + LANE; i++)
            update_one(f, grads[i], &first[i], &second[i], &params[i]);
    for (; base < n; base++)
        update_one(f, grads[base], &first[base], &second[base], &params[base]);
}

void adam_update(const struct adam *a, float rate, float scale, const float *grads, float *params,
                 size_t from, size_t to)
{
    const double left1 = 1 - pow((double)a->beta1, (double)a->step);
    const double left2 = 1 - pow((double)a->beta2, (double)a->step);
    const struct factors f = {.b1 = a->beta1,
                              .b2 = a->beta2,
                              .c1 = (float)((double)rate / left1),
                              .c2 = (float)(1 / left2),
                              .eps = a->eps,
                              .scale = scale};

    update(&f, grads + from, a->first + from, a->second + from, params + from, to - from);
}

void adam_correct_second(struct adam *a, size_t count)
{
    const float c = (float)(1 / (1 - pow((double)a->beta2, (double)a->step)));

    for (size_t i = 0; i < count; i++)
        a->second[i] *= c;
}
