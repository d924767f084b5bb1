/* train.h - trains a model on a corpus from nothing: tokenizer, start values, Adam or Adafactor
 * with a warm-up and a cosine. Deterministic for a seed, whatever the number of threads: each
 * step's passages are dealt to TRAIN_SLICES slices whose gradients are summed in their order. (A
 * time limit makes the schedule depend on the clock; only --steps alone gives the same model
 * twice.)
 */
#ifndef CLIENT_LM_TRAIN_H
#define CLIENT_LM_TRAIN_H

#include <stdint.h>

#include "client/lm/model.h"
#include "client/lm/passages.h"

enum { TRAIN_SLICES = 4, TRAIN_KEPT_MAX = 64 };

struct train_options {
    struct shape shape;  /* vocab: how many tokens to learn */
    uint64_t steps;      /* at most; 0 = no limit, then minutes must be set */
    double minutes;      /* at most; 0 = no limit */
    uint64_t batch;      /* passages a step */
    enum model_optimizer optimizer;
    double rate;         /* highest learning rate */
    uint64_t seed;
    uint64_t threads;
    uint64_t keep[TRAIN_KEPT_MAX]; /* after these steps `kept` is called: rising */
    size_t keeps;
    /* The model as it is after m->steps steps, whole: its second moment as at the end of a run. It
     * is the trainer's again when this returns. What it says stops the run. */
    int (*kept)(void *ctx, struct model *m, struct err *e);
};

struct train_progress {
    uint64_t step;
    double share;  /* of the whole run, 0 to 1 */
    double loss;   /* mean nats a token of this step */
    uint64_t tokens; /* so far */
};

/* `tell` (may be NULL) hears of every step, on the caller's thread; kept gets the same ctx. The
 * result is the same with or without kept. INVALID on options out of
 * range, NOT_FINITE when the loss stops being a number, BUSY when there is no memory. */
int train_run(struct model *out, const struct passages *ps, const struct train_options *o,
              void (*tell)(void *ctx, const struct train_progress *p), void *ctx, struct err *e);

/* What a gradient of this length is multiplied by before a step: 1, or what makes it as long as the
 * limit, 1. */
double train_scale(double norm);

#endif
