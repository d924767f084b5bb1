/* adam.h - the Adam optimiser (Kingma, Ba, 2015) over the flat parameter array. Kept by range, so
 * that several threads can each step a part of the array. */
#ifndef CLIENT_LM_ADAM_H
#define CLIENT_LM_ADAM_H

#include <stddef.h>
#include <stdint.h>

struct adam {
    float beta1, beta2, eps;
    float *first;  /* running mean of the gradient; the caller's, like second */
    float *second; /* running mean of its square, not bias-corrected */
    uint64_t step; /* of the update under way, from 1: the caller counts */
};

/* beta1 0.9, beta2 0.99, eps 1e-8: what this program trains with. */
struct adam adam_usual(void);

/* Updates params[from .. to) by grads * scale. */
void adam_update(const struct adam *a, float rate, float scale, const float *grads, float *params,
                 size_t from, size_t to);

/* second / (1 - beta2^step), in place: the estimate that encodings divide by. */
void adam_correct_second(struct adam *a, size_t count);

/* One step aside: out (count) = params - rate * g / (sqrt(v) + eps), g = grads * scale, and v what
 * `second` (bias-corrected, of a->step steps, as in a checkpoint) becomes with g in it and the bias
 * of one step more taken out. There is no first moment: the step is all g's. Nothing but out
 * changes; a's own first and second are not read. */
void adam_step_aside(const struct adam *a, float rate, float scale, const float *second,
                     const float *grads, const float *params, float *out, size_t count);

#endif
