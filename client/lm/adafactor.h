/* adafactor.h - the Adafactor optimiser (Shazeer, Stern, 2018, https://arxiv.org/abs/1804.04235,
 * algorithms 4 and 5): a matrix remembers of its squared gradients only each row's mean and each
 * column's, a vector each element's. No first moment, no bias to correct (the first step's decay is
 * zero). Left out of the paper: steps relative to the parameters' size; the rate is absolute, as
 * Adam's here. One tensor at a time; different tensors may be stepped by different threads. */
#ifndef CLIENT_LM_ADAFACTOR_H
#define CLIENT_LM_ADAFACTOR_H

#include <stddef.h>
#include <stdint.h>

#include "client/lm/shape.h"

/* The state of all tensors is one flat array, tensor by tensor: a matrix has its row factors
 * (rows), then its column factors (cols); a vector (one row) has its second moment (cols).
 * place[i] (may be NULL) is where tensor i's begins; returns the floats of the whole. */
size_t adafactor_places(const struct shape_tensor *tensors, size_t count, size_t *place);

struct adafactor_step {
    uint64_t step;     /* from 1 */
    float rate, scale; /* the gradient is taken times scale */
};

/* Updates one tensor. grads, params and state begin at the tensor's own; grads is overwritten;
 * scratch has 2 * cols doubles. The same bits whoever calls. */
void adafactor_update(const struct adafactor_step *s, const struct shape_tensor *t, float *grads,
                      float *params, float *state, double *scratch);

#endif
