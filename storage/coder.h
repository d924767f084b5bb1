/* coder.h - codes: the few bits a dimension that a scan reads in place of the encodings.
 *
 * Storage keeps them beside the encodings and knows nothing of what they mean: whoever opens a
 * store brings the coder that makes them (struct store_options). Every path that writes chunks
 * writes codes as well, of rows that came without them on the spot. Codes follow from the encodings
 * alone: the same rows give the same bytes on every machine, so verify can make them again and
 * compare.
 */
#ifndef STORAGE_CODER_H
#define STORAGE_CODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/dtype.h"
#include "storage/base/err.h"

enum { CODER_PLANES = 3, CODER_VERSION_MAX = 255 };

/* What the codes of one row are. Version 0: none. */
struct coder_shape {
    uint32_t version;                   /* 1 to CODER_VERSION_MAX, stored with every chunk */
    uint32_t plane_bytes[CODER_PLANES]; /* bytes of a row in planes bits, six, low */
    uint32_t factors;                   /* float32 numbers of a row */
};

/* The codes of `count` rows. */
struct codes {
    struct coder_shape shape;
    uint32_t count;
    unsigned char *plane[CODER_PLANES]; /* count x plane_bytes, row after row */
    float *factors; /* shape.factors arrays of `count` numbers, one array after the other */
};

/* Called by any thread, by several at once. */
struct store_coder {
    void *arg;
    /* *out is zeroed; left so when rows of this kind get no codes. */
    void (*shape)(void *arg, uint32_t dim, enum dtype dtype, struct coder_shape *out);
    /* The codes of rows first .. first+count-1 of `out`; rows[i] is the encoding of row first+i.
     * BUSY when there is no memory. */
    int (*encode)(void *arg, uint32_t dim, enum dtype dtype, const void *const *rows,
                  uint32_t first, uint32_t count, const struct codes *out, struct err *e);
};

/* ---- Storage's own --------------------------------------------------------------------------- */

/* Bytes of a plane (0 to CODER_PLANES-1) or, as plane CODER_PLANES, of the factors. */
size_t coder_plane_bytes(const struct coder_shape *s, unsigned plane, uint32_t count);

/* The same bytes: plane, or the factors as the last. */
const unsigned char *coder_plane(const struct codes *c, unsigned plane);

/* Bytes of all planes, each starting on 64 bytes; false on overflow. */
bool coder_bytes(const struct coder_shape *s, uint32_t count, size_t *out);

/* Lays the planes of `count` rows out in `memory`, which has coder_bytes and starts on 64 bytes. */
struct codes coder_layout(const struct coder_shape *s, uint32_t count, void *memory);

#endif
