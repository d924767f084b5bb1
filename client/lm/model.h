/* model.h - a trained model as one thing: sizes, tokenizer, parameters, Adam's second moment. Saved
 * as a checkpoint (ckpt.h). Immutable once made; any thread may read. */
#ifndef CLIENT_LM_MODEL_H
#define CLIENT_LM_MODEL_H

#include <stdint.h>

#include "client/lm/shape.h"
#include "client/lm/tok.h"
#include "storage/base/err.h"

enum { MODEL_FINGERPRINT_LEN = 32 };

struct model {
    struct shape shape;
    struct tok tok;
    float *params;  /* shape_params floats, owned */
    float *second;  /* the same many, owned: Adam's mean of squared gradients, bias-corrected */
    uint64_t steps; /* of training */
    uint64_t seed;
    double loss;    /* mean nats a token over the last steps */
    char fingerprint[MODEL_FINGERPRINT_LEN + 1]; /* of the checkpoint; ckpt.h sets it */
};

/* Allocates params (seeded start values) and second (zeros). Takes over `tok`. shape.vocab is the
 * tokenizer's. INVALID on sizes out of range, BUSY when there is no memory; tok is freed then. */
int model_init(struct model *m, const struct shape *s, struct tok *tok, uint64_t seed,
               struct err *e);
void model_free(struct model *m);

#endif
