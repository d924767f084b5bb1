/* patch.h - the model as it would be one optimiser step later, and how likely a target is to it:
 * the two halves of a tail-patch, the change of a target's probability by one training step on a
 * passage (Chang et al., 2024, arXiv 2410.17413).
 *
 * The step is the training's: the mean loss a token over the whole passage and the mark after it, a
 * batch of one, a gradient longer than the limit scaled down (train_scale), and the optimiser that
 * made the checkpoint, with its second moment as the checkpoint has it. What is not stored is said
 * here: there is no first moment (the step is all this passage's), and the rate is the caller's.
 * The result is made in an array of its own: the model is never written to. One owner; as many as
 * threads. */
#ifndef CLIENT_LM_PATCH_H
#define CLIENT_LM_PATCH_H

#include <stdbool.h>

#include "client/lm/model.h"
#include "client/lm/net.h"
#include "client/lm/pack.h"

struct patch_options {
    double rate;
    bool plain; /* params - rate * gradient (SGD) instead of the checkpoint's optimiser */
};

struct patch {
    const struct model *model; /* the caller's; outlives this */
    struct patch_options options;
    struct net32_state state;
    struct pack pack;
    uint32_t *tokens;   /* scratch, owned, like all below */
    size_t token_cap;
    double *log_sums;   /* scratch */
    size_t row_cap;     /* of log_sums */
    float *grads;       /* (params) */
    float *params;      /* (params) after patch_step: the model a step later */
    float *second;      /* Adafactor's state, which its step writes to */
    double *scratch;    /* of Adafactor's step */
    struct shape_tensor tensor[SHAPE_TENSORS_MAX];
    size_t place[SHAPE_TENSORS_MAX];
    size_t tensors;
};

int patch_init(struct patch *x, const struct model *m, const struct patch_options *o,
               struct err *e);
void patch_fini(struct patch *x);

/* TOO_LARGE when the passage has more tokens than encode takes (ENCODER_TOKENS_MAX). A passage
 * beyond the context becomes windows, as in training. */
int patch_check_passage(struct patch *x, const char *text, size_t len, struct err *e);

/* TOO_LARGE when prompt and target together are more than the model sees at once. */
int patch_check_target(struct patch *x, const char *prompt, size_t prompt_len, const char *target,
                       size_t target_len, struct err *e);

/* x->params = the model one step on `text` later. The same bits whatever was done before.
 * NOT_FINITE when loss or gradient are not; BUSY when there is no memory. */
int patch_step(struct patch *x, const char *text, size_t len, struct err *e);

/* The target's log-probability after the prompt, summed over its tokens, in nats; by x->params when
 * `after`, by the model's own otherwise. Tokenized apart and joined, as query does. */
int patch_target(struct patch *x, bool after, const char *prompt, size_t prompt_len,
                 const char *target, size_t target_len, double *out, struct err *e);

#endif
