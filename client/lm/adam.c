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

struct adam adam_usual(void)
{
    return (struct adam){.beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f};
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

/* f: b2 and c2 as below; c1 is the rate. */
static inline float aside_one(const struct factors *f, float second, float grad, float param)
{
    const float g = grad * f->scale;

    return param - f->c1 * g / (sqrtf(f->b2 * second + f->c2 * (g * g)) + f->eps);
}

HOT static void step_aside(const struct factors *f, const float *restrict second,
                           const float *restrict grads, const float *restrict params,
                           float *restrict out, size_t n)
{
    size_t base = 0;

    for (; base + LANE <= n; base += LANE)
        for (size_t i = base; i < base + LANE; i++)
            out[i] = aside_one(f, second[i], grads[i], params[i]);
    for (; base < n; base++)
        out[base] = aside_one(f, second[base], grads[base], params[base]);
}

void adam_step_aside(const struct adam *a, float rate, float scale, const float *second,
                     const float *grads, const float *params, float *out, size_t count)
{
    /* second is s / (1 - beta2^t), s the running mean; the next one, corrected, is
     * (beta2 s + (1 - beta2) g^2) / (1 - beta2^(t+1)) */
    const double b2 = (double)a->beta2;
    const double now = 1 - pow(b2, (double)a->step), next = 1 - pow(b2, (double)a->step + 1);
    const struct factors f = {.b2 = (float)(b2 * now / next),
                              .c2 = (float)((1 - b2) / next),
                              .c1 = rate,
                              .eps = a->eps,
                              .scale = scale};

    step_aside(&f, second, grads, params, out, count);
}
