/* safetensors.h - reads one safetensors file that lies whole in memory; writes headers.
 *
 * The file: 8 bytes little-endian header length, that many bytes of JSON ({"name":{"dtype","shape",
 * "data_offsets":[begin,end]},...,"__metadata__":{...}}), then the data. Nothing is trusted:
 * lengths, depth, duplicate names, types, shapes (products without overflow), offsets without gap
 * or overlap, ending where the body ends. The tensors may stand in the header in any order; nothing
 * about their alignment is assumed. Pure; any thread. */
#ifndef SERVER_SAFETENSORS_H
#define SERVER_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/dtype.h"
#include "storage/base/err.h"
#include "storage/base/mem.h"

enum { SAFETENSORS_RANK = 4, SAFETENSORS_COUNT = 64 };

struct safetensor {
    const char *name;  /* in the arena */
    const char *dtype; /* "F32", "U8", ...: static */
    size_t rank;
    uint64_t shape[SAFETENSORS_RANK];
    const unsigned char *data; /* in the body, any alignment */
    size_t bytes;              /* product of shape x size of the type: checked */
};

struct safetensors {
    size_t count;
    struct safetensor *tensors; /* in the order of their data */
    const char *fingerprint;    /* __metadata__'s member of that name, or NULL */
};

/* BAD_TENSOR names tensor, numbers and limit. All memory in `a`. */
int safetensors_read(const unsigned char *body, size_t len, struct arena *a,
                     struct safetensors *out, struct err *e);

/* The tensor of that name: BAD_TENSOR when it is missing. */
int safetensors_find(const struct safetensors *st, const char *name,
                     const struct safetensor **out, struct err *e);
/* BAD_TENSOR naming the first tensor that is not in the NULL-terminated list. */
int safetensors_only(const struct safetensors *st, const char *const names[], struct err *e);

/* Checks that `t` is a matrix of vectors, [n, dim], n from 1 to max_rows, of a type taken for them.
 * WRONG_DTYPE, WRONG_DIM, INVALID (no rows), TOO_LARGE (too many). */
int safetensors_rows(const struct safetensor *t, size_t dim, size_t max_rows, size_t *out_rows,
                     enum dtype *out_type, struct err *e);

/* One tensor of a file to be written; data follow each other in this order. */
struct safetensors_spec {
    const char *name, *dtype;
    size_t rank;
    uint64_t shape[SAFETENSORS_RANK];
    uint64_t bytes;
};
struct safetensors_note { /* one member of __metadata__ */
    const char *name, *value;
    size_t value_len;
};

/* Appends length and header, padded so that the data start at a multiple of 8. */
void safetensors_header(struct buf *out, const struct safetensors_spec *specs, size_t count,
                        const struct safetensors_note *notes, size_t note_count);

#endif
