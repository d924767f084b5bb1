/* encode.h - from gradients to encodings, as a corpus's state says: before a fit the unit
 * vector; after it the unit vector of S g (index/whiten.h). Batches, stored rows in a rewrite,
 * queries and evaluation gradients all go through here. Reader, task and writer threads. */
#ifndef SERVER_ENCODE_H
#define SERVER_ENCODE_H

#include <stdbool.h>
#include <stddef.h>

#include "index/whiten.h"
#include "server/stop.h"
#include "storage/base/dtype.h"
#include "storage/base/err.h"
#include "storage/corpus.h"

struct pool;

/* The whitening a view's rows went through; *out is NULL before the first fit. Lives as long as the
 * view. Read from its artifact at first use. CORRUPT. */
int encode_whitening(const struct view *v, const struct whiten **out, struct err *e);

struct encode {
    const struct whiten *whiten; /* NULL: rows are only normalised */
    const void *in;              /* rows x dim of in_type, side by side, any alignment */
    enum dtype in_type;
    size_t rows, dim;
    const double *lengths; /* NULL: `in` are gradients; else unit rows, of gradients so long */
    enum dtype out_type;
    void *out;     /* rows x dim of out_type: unit vectors */
    double *norms; /* rows: |x|, of the gradient or of S g; may be `lengths` */
    const char *field; /* the tensor's name, for messages */
};

/* On up to all readers of `pool` (NULL: on this thread alone). Of several bad rows the first is
 * reported: NOT_FINITE, ZERO_GRADIENT. CANCELLED, BUSY. The result of a row depends on its content
 * alone, and is the same to the bit on every machine (index/whiten.h). */
int encode_run(const struct encode *k, struct pool *pool, const struct stop *stop, struct err *e);

#endif
