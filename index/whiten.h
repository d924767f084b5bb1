/* whiten.h - R_train^(-1/2) of each block: from a Gram matrix, applied to rows, kept as an image.
 *
 * Per block, in float64: R = U diag(l) U^T, S = U diag((l + damp)^(-1/2)) U^T, damp = damping times
 * the block's mean eigenvalue; negative l are rounding and count as 0. S is symmetric and rounded
 * once to float32. From then on the rounded S *is* the encoding: rows and queries go through the
 * same one, so rounding it moves the metric (docs/encoding.md says how far), never one side of it.
 *
 * A block is its image: one allocation, written as it is, read in place. So d = 65,536 (16 blocks
 * of 4,096, 1 GiB) is fitted, written and freed block by block. Immutable once made; any thread.
 */
#ifndef INDEX_WHITEN_H
#define INDEX_WHITEN_H

#include <stddef.h>
#include <stdint.h>

#include "index/gram.h"
#include "index/image.h"

#define WHITEN_DAMPING 0.1

/* Rows are taken in tiles of this many, so that S is read once for so many. */
enum { WHITEN_TILE = 48 };

struct whiten_block {
    size_t dim;
    uint64_t rows;             /* that R was taken from */
    double mean, damp;         /* mean eigenvalue of R; what was added to its diagonal */
    const double *eigenvalues; /* of R, without damp, descending, none negative; dim */
    const float *root;         /* S: dim x dim */
    const unsigned char *image;
    size_t bytes;              /* of the image */
    void *memory;              /* owned; NULL when the image is the caller's */
};

/* All blocks of a corpus, in the manifest's order. */
struct whiten {
    size_t count, dim; /* blocks; sum of their dims */
    uint64_t rows;
    double damping;
    struct whiten_block *block; /* owned, with what they own */
};

/* Fits one block and empties g (finished). `name` is the block's, for messages. INVALID: no rows,
 * damping negative or not finite, all gradients of the block zero, or R + damp singular to working
 * precision (text names the eigenvalue), or S outside float32. BUSY, INTERNAL from LAPACK. Peak
 * memory: 3 dim^2 doubles, the Gram's mean included (384 MiB at 4,096). On failure *b is zeroed. */
int whiten_fit(struct whiten_block *b, const char *name, struct gram *g, double damping,
               struct err *e);
void whiten_block_fini(struct whiten_block *b); /* safe twice */

/* The same for rows that went through `old` already: g sums over x = S_old g. R of the gradients is
 * S_old^-1 C S_old^-1, C the mean of x x^T; *b is fitted to that R as whiten_fit would. `move`
 * (dim x dim, by rows, the caller's) takes (S_new S_old^-1)^T: whiten_apply with it as root carries
 * x to S_new g. It is not symmetric. Peak memory: 5 dim^2 doubles. */
int whiten_refit(struct whiten_block *b, float *move, const char *name, struct gram *g,
                 const struct whiten_block *old, double damping, struct err *e);

/* The step of whiten_fit in float64: `mean` (dim x dim, both triangles) becomes S; values: dim,
 * descending; damp is absolute. */
int whiten_root(double *mean, size_t dim, double damp, double *values, const char *name,
                struct err *e);

/* The specification: one float32 row. out[j] is the sum over k of row[k] root[k][j], in pieces of
 * WHITEN_PIECE, k ascending: within a piece float32 fused multiply-adds from +0 on; the pieces are
 * summed in float64, and that is rounded once. Every step is fixed: the same bits on every machine.
 */
enum { WHITEN_PIECE = 256 };
void whiten_apply_plain(const struct whiten_block *b, const float *row, float *out);

/* The same for n rows: the block's columns of row r start r * stride bytes after `rows` and land
 * out_stride floats apart. scratch: whiten_scratch floats, aligned for doubles. Feed unit rows and
 * multiply norms in after: nothing then leaves float32's range. */
size_t whiten_scratch(size_t dim);
void whiten_apply(const struct whiten_block *b, const void *rows, enum dtype t, size_t stride,
                  size_t n, float *out, size_t out_stride, float *scratch);

/* The same for n float32 rows, at most WHITEN_FEW, elements from .. to-1 of each, at most
 * WHITEN_STRIP: S is read once, side by side, and nothing is copied. Rows and results lie stride
 * floats apart. 32 KiB of stack. */
enum { WHITEN_FEW = 4, WHITEN_STRIP = 1024 };
void whiten_strip(const struct whiten_block *b, const float *rows, size_t stride, size_t n,
                  size_t from, size_t to, float *out);

/* Bytes of images; SIZE_MAX when it would overflow. */
size_t whiten_block_bytes(size_t dim);
size_t whiten_head_bytes(size_t count);

/* Writes the head, then each block as it is fitted, in order; whiten_write does all of it. */
int whiten_write_head(const size_t *dims, size_t count, uint64_t rows, double damping,
                      const struct image_sink *to, struct err *e);
int whiten_write_block(const struct whiten_block *b, const struct image_sink *to, struct err *e);
int whiten_write(const struct whiten *w, const struct image_sink *to, struct err *e);

/* Reads in place: `bytes` (aligned to IMAGE_NEEDS) must outlive *w. CORRUPT (text says where and
 * what) on anything the writer does not write; matrix elements are not looked at one by one: a bad
 * one makes rows that normalising refuses. whiten_read_block reads one block alone. */
int whiten_read(const void *bytes, size_t len, struct whiten *out, struct err *e);
int whiten_read_block(const void *bytes, size_t len, size_t dim, struct whiten_block *out,
                      struct err *e);
void whiten_fini(struct whiten *w); /* safe twice */

#endif
