/* encoder.h - from passages to projected per-example gradients (design, section 4, steps 1 and 2).
 *
 * For each passage and each attention or MLP matrix W (o x i): the gradient of the loss summed over
 * the passage's counted tokens, G = dY^T X; divided by the root of the second moment that the
 * model's optimiser left (index/moment.h); projected, g = vec(P G' Q^T), p x p. The blocks side by
 * side are a row of dim = blocks * p * p.
 *
 * A plan is immutable and shared; an encoder belongs to one thread. Rows do not depend on threads;
 * on what is packed beside a passage only as far as BLAS rounds by shape (docs/lm.md has the
 * bound). */
#ifndef CLIENT_LM_ENCODER_H
#define CLIENT_LM_ENCODER_H

#include <stddef.h>
#include <stdint.h>

#include "client/lm/model.h"
#include "client/lm/net.h"
#include "client/lm/pack.h"
#include "index/moment.h"
#include "index/project.h"
#include "storage/base/bytes.h"

enum {
    ENCODER_VERSION = 1,       /* of what a row means; part of the fingerprint */
    ENCODER_TOKENS_MAX = 4096, /* of one passage or prompt; bounds the activations */
    ENCODER_PACK_ROWS = 320,   /* passages are packed up to about so many tokens: fits the caches */
    ENCODER_DIM_MAX = 1 << 20
};

enum encoder_second {
    ENCODER_NONE = MOMENT_NONE,
    ENCODER_ADAM = MOMENT_ADAM,
    ENCODER_ADAFACTOR = MOMENT_ADAFACTOR,
    ENCODER_AUTO /* the model's own; in a plan it is one of the others */
};

/* "none", "adam", "adafactor" or "auto", as on the command line; INVALID names the value. */
int encoder_second_parse(const char *name, enum encoder_second *out, struct err *e);

struct encoder_plan {
    const struct model *model;    /* the caller's; outlives the plan */
    enum encoder_second second;
    uint64_t seed;
    uint32_t blocks, p, dim;
    struct project *project;      /* blocks of them, owned; Adafactor's V is folded in */
    struct moment *moment;        /* blocks of them, owned; only Adam's is applied */
    struct shape_tensor tensor[SHAPE_TENSORS_MAX];
};

struct encoder {
    const struct encoder_plan *plan;
    struct net32_state state;
    struct pack pack;
    uint32_t *tokens; /* scratch, owned */
    size_t token_cap;
    float *gradient;  /* (largest o x i), owned */
    float *scratch;   /* of the projection, or the rows' own projections; owned */
    size_t scratch_cap;
    float *rows;      /* where matrix gradients go during a run: the caller's */
};

/* INVALID (field "dim") when dim is not blocks * p * p; the text names the nearest that are.
 * INVALID (field "second-moment") when the model has no such second moment. */
int encoder_plan_init(struct encoder_plan *plan, const struct model *m, uint32_t dim,
                      enum encoder_second second, uint64_t seed, struct err *e);
void encoder_plan_fini(struct encoder_plan *plan);

/* The body for PUT /v1/corpora/{c}: one line of JSON with a newline. dtype: "f32", "bf16",
 * "f16". */
void encoder_plan_describe(const struct encoder_plan *plan, const char *dtype, struct buf *out);

int encoder_init(struct encoder *en, const struct encoder_plan *plan, struct err *e);
void encoder_fini(struct encoder *en);

struct encoder_text {
    const char *given; /* only read; may be NULL */
    size_t given_len;
    const char *text;  /* the loss is over these tokens; at least one byte */
    size_t text_len;
};

/* rows: (count, dim) float32 out. losses (count, may be NULL): summed nats. TOO_LARGE for a text of
 * too many tokens, NOT_FINITE and ZERO_GRADIENT for a row without direction; err.index is the
 * text's number. */
int encoder_run(struct encoder *en, const struct encoder_text *texts, size_t count, float *rows,
                double *losses, struct err *e);

/* The first half of that for one text: en->pack and en->state are ready for a pass of the network.
 * TOO_LARGE, ZERO_GRADIENT (an empty text), BUSY. */
int encoder_load(struct encoder *en, const struct encoder_text *text, struct err *e);

/* Which matrix a sink is handed (net_decl.inc): the number of its block in a row. */
uint32_t encoder_block(uint32_t layer, enum shape_role role);

#endif
