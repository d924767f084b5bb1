/* adam.c - see adam.h. */
#include "client/lm/adam.h"

#include <math.h>

void adam_update(const struct adam *a, float rate, float scale, const float *grads, float *params,
                 size_t from, size_t to)
{
    const float b1 = a->beta1, b2 = a->beta2, eps = a->eps;
    const float c1 = (float)((double)rate / (1 - pow((double)b1, (double)a->step)));
    const float c2 = (float)(1 / (1 - pow((double)b2, (double)a->step)));

    for (size_t i = from; i < to; i++) {
        const float g = grads[i] * scale;
        const float m = b1 * a->first[i] + (1 - b1) * g;
        const float v = b2 * a->second[i] + (1 - b2) * (g * g);
        a->first[i] = m;
        a->second[i] = v;
        params[i] -= c1 * m / (sqrtf(v * c2) + eps);
    }
}

void adam_correct_second(struct adam *a, size_t count)
{
    const float c = (float)(1 / (1 - pow((double)a->beta2, (double)a->step)));

    for (size_t i = 0; i < count; i++)
        a->second[i] *= c;
}
