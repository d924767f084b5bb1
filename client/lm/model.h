/* model.h - a trained model as one thing: sizes, tokenizer, parameters, its optimiser's second
 * moment. Saved as a checkpoint (ckpt.h). Immutable once made; any thread may read. */
#ifndef CLIENT_LM_MODEL_H
#define CLIENT_LM_MODEL_H

#include <stdint.h>

#include "client/lm/shape.h"
#include "client/lm/tok.h"
#include "storage/base/err.h"

enum { MODEL_FINGERPRINT_LEN = 32 };

enum model_optimizer { MODEL_ADAM, MODEL_ADAFACTOR }; /* what it was trained by */

struct model {
    struct shape shape;
    struct tok tok;
    enum model_optimizer optimizer;
    float *params;  /* shape_params floats, owned */
    float *second;  /* model_second_count floats, owned. Adam: the mean of squared gradients, bias-
                       corrected, laid out as params. Adafactor: its factors (adafactor.h) */
    uint64_t steps; /* of training */
    uint64_t seed;
    double loss;    /* mean nats a token over the last steps */
    char fingerprint[MODEL_FINGERPRINT_LEN + 1]; /* of the checkpoint; ckpt.h sets it */
};

/* "adam", "adafactor"; INVALID (field "optimizer") names the value. */
const char *model_optimizer_name(enum model_optimizer o);
int model_optimizer_parse(const char *name, enum model_optimizer *out, struct err *e);

/* Floats of the second moment. `s` has passed shape_check. */
size_t model_second_count(const struct shape *s, enum model_optimizer o);

/* Allocates params (seeded start values) and second (zeros). Takes over `tok`. shape.vocab is the
 * tokenizer's. INVALID on sizes out of range, BUSY when there is no memory; tok is freed then. */
int model_init(struct model *m, const struct shape *s, struct tok *tok, enum model_optimizer o,
               uint64_t seed, struct err *e);
void model_free(struct model *m);

#endif
