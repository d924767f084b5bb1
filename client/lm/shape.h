/* shape.h - the sizes of a model, and the one table of its tensors.
 *
 * All parameters are one flat array; a tensor is a name, a place in it and two sizes. Saving, the
 * optimiser and the gradient norm work on the flat array; the network finds its tensors by number.
 * Pure functions, no memory. */
#ifndef CLIENT_LM_SHAPE_H
#define CLIENT_LM_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/err.h"

enum {
    SHAPE_LANE = 16, /* vocab and width are multiples: the loops over them run in whole lanes */
    SHAPE_LAYERS_MAX = 64,
    SHAPE_WIDTH_MAX = 4096,
    SHAPE_CONTEXT_MAX = 4096,
    SHAPE_PARAMS_MAX = 1 << 30
};

struct shape {
    uint32_t vocab;   /* V */
    uint32_t context; /* C: positions; longer passages are cut into windows of C */
    uint32_t layers;  /* L */
    uint32_t width;   /* D */
    uint32_t heads;   /* H, divides D */
};

/* Tensors of one layer, in order; before them come the two embeddings, after them the last norm. */
enum shape_role {
    SHAPE_NORM1,    /* D */
    SHAPE_QKV,      /* 3D x D */
    SHAPE_ATTN_OUT, /* D x D */
    SHAPE_NORM2,    /* D */
    SHAPE_MLP_IN,   /* 4D x D */
    SHAPE_MLP_OUT,  /* D x 4D */
    SHAPE_ROLES
};

enum {
    SHAPE_TOKEN = 0,    /* V x D; also the output matrix (tied) */
    SHAPE_POSITION = 1, /* C x D */
    SHAPE_FIRST_LAYER = 2,
    SHAPE_TENSORS_MAX = SHAPE_FIRST_LAYER + SHAPE_LAYERS_MAX * SHAPE_ROLES + 1,
    SHAPE_MATRICES = 4  /* attention and MLP matrices a layer: the blocks of an encoding */
};

struct shape_tensor {
    char name[24];     /* "h0.attn.qkv" */
    size_t offset;     /* first element in the flat array */
    uint32_t rows, cols; /* row-major; a vector has one row */
    float deviation;   /* of the normal start values; 0 = starts as ones */
    bool block;        /* its gradient is part of an encoding */
};

/* INVALID, and the field at fault, unless every size is in range. */
int shape_check(const struct shape *s, struct err *e);

/* Fills the table; returns how many tensors there are. `s` has passed shape_check. */
size_t shape_tensors(const struct shape *s, struct shape_tensor out[SHAPE_TENSORS_MAX]);

/* Number of a layer's tensor in the table; number of the last norm's gain. */
size_t shape_at(uint32_t layer, enum shape_role role);
size_t shape_last_norm(const struct shape *s);

/* Elements of the flat array. */
size_t shape_params(const struct shape *s);

#endif
