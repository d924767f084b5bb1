/* gram.h - the mean of g g^T over the gradients of one block, in float64: R_train of the design.
 *
 * A row is the stored unit vector times its stored norm, cut to the block's columns. Rows go, in
 * the order they come, into tiles of GRAM_TILE; a full tile is added to the running part by one
 * dsyrk; a part of GRAM_PART rows is added to the sum. So the shape of the sum is fixed by the
 * order of rows alone.
 *
 * Promised: the same bits however rows are cut into calls, and when whole parts are summed
 * elsewhere (one gram each) and merged in the order of their rows (an MPI reduce in rank order). On
 * one processor type with one OpenBLAS: it picks kernels by processor. Columns are padded with
 * zeros to GRAM_PAD, because only then do OpenBLAS's threads cut the work where its kernels agree:
 * measured the same bits at 1 to 8 threads, and tests/unit/index/test_gram.c holds it to that.
 *
 * Memory: (2 dim + GRAM_TILE) x dim doubles: 264 MiB for a block of 4,096. One owner, any thread; a
 * caller short of memory runs one block at a time over the rows.
 */
#ifndef INDEX_GRAM_H
#define INDEX_GRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/dtype.h"
#include "storage/base/err.h"

enum { GRAM_TILE = 256, GRAM_PART = 16 * GRAM_TILE, GRAM_PAD = 16 };

struct gram {
    size_t dim, stride; /* columns; and padded */
    uint64_t rows;      /* added, merged ones too */
    bool finished;      /* nothing is pending; no more rows are taken */
    size_t filled;      /* rows in the tile */
    size_t in_part;     /* rows in the part, without the tile */
    double *tile;       /* GRAM_TILE x stride, owned */
    double *part, *sum; /* stride x stride, upper triangle by rows, owned */
    float *wide;        /* one row as float32, owned */
};

/* What a gram of this dim holds, in bytes: for a caller that plans how many blocks go at once. */
size_t gram_bytes(size_t dim);

/* An empty sum. INVALID: dim is 0 or past LAPACK_DIM_MAX; BUSY: no memory. */
int gram_init(struct gram *g, size_t dim, struct err *e);
void gram_fini(struct gram *g); /* safe twice, and after a failed init */

/* Adds count rows. rows: the first row's first element of the block; the next row is `stride` bytes
 * on. norms: count, NULL for all 1. first: number of the first row, for messages. NOT_FINITE (an
 * element or norm; index names the row) leaves the rows before it added. */
int gram_add(struct gram *g, const void *rows, enum dtype t, size_t stride, const double *norms,
             size_t count, uint64_t first, struct err *e);

/* Takes in what is pending. Before any of the calls below. */
void gram_finish(struct gram *g);

/* into += from, both finished, of one dim. */
void gram_merge(struct gram *into, const struct gram *from);

/* Trace of the mean, and its mean eigenvalue (trace / dim). 0 when there are no rows. */
double gram_trace(const struct gram *g);
double gram_mean_eigenvalue(const struct gram *g);

/* Hands over the mean: dim x dim, by rows, both triangles; the caller frees it. g is empty after
 * and wants only gram_fini. INVALID: no rows. */
int gram_take(struct gram *g, double **out_mean, struct err *e);

/* A few rows at once, of doubles (m x dim, not kept): *out is the upper triangle of X X^T / m
 * (m x m) when m < dim, else of X^T X / m (dim x dim); the caller frees it. Both have the same
 * eigenvalues above 0. Last bits may differ with the thread count. `name` is the block's.
 * NOT_FINITE (index names the row), BUSY, INVALID: m or dim is 0, or both past LAPACK_DIM_MAX. */
int gram_small(const double *rows, size_t m, size_t dim, const char *name, double **out,
               struct err *e);

#endif
