/* lens.h - a task: how an evaluation set's own Hessian bends the metric of a whitened corpus.
 *
 * In whitened coordinates TrackStar's R = lambda R_eval + (1 - lambda) R_train is, per block,
 *   R' = (1 - lambda) I + lambda E^T E,   E = whitened evaluation gradients (m x d) / sqrt(m),
 * and M = R'^-1. With E^T E = B^T diag(s) B, the rows of B orthonormal (rank x d):
 *   M = (I - B^T B) / (1 - lambda) + B^T diag(1 / ((1 - lambda) + lambda s)) B,
 * the sum of two positive parts, so nothing cancels where s is large. Score of row x on query q:
 *   <x, u> / n,   u = M q / sqrt(q^T M q),   n = sqrt(x^T M x),
 * which is TrackStar's cosine exactly (docs/encoding.md has the proof and the error bounds).
 *
 * All in float64; B too: float32 would cost kappa * 6e-8, kappa = 1 + lambda s_max / (1 - lambda).
 * A block is its image, as in whiten.h. Immutable once made; any thread.
 */
#ifndef INDEX_LENS_H
#define INDEX_LENS_H

#include <stddef.h>
#include <stdint.h>

#include "index/image.h"
#include "storage/base/dtype.h"

/* Directions with lambda s <= LENS_TRUNCATE (1 - lambda) are left out. For every x, x^T M x then
 * grows by at most that share, and a score moves by at most twice it. Also left out: s within
 * rounding of zero (max(m, d) eps s_max). */
#define LENS_TRUNCATE 1e-9

/* Rows go through BLAS in tiles of this many, as in whiten.h. */
enum { LENS_TILE = 48 };

struct lens_block {
    size_t dim, rank;
    const double *values; /* s, descending; rank */
    const double *basis;  /* B: rank x dim, orthonormal rows */
    const unsigned char *image;
    size_t bytes;
    void *memory; /* owned; NULL when the image is the caller's */
};

struct lens {
    size_t count, dim; /* blocks; sum of their dims */
    size_t rank;       /* the largest of a block */
    uint64_t rows;     /* m */
    double lambda;
    struct lens_block *block; /* owned, with what they own */
};

/* A lens of `count` blocks of these dims, to be filled by lens_fit. INVALID: lambda outside [0, 1),
 * no rows. */
int lens_init(struct lens *l, const size_t *dims, size_t count, uint64_t rows, double lambda,
              struct err *e);
void lens_fini(struct lens *l); /* safe twice */

/* Fits block i from rows: m x dim whitened evaluation gradients (S g, not unit, not scaled).
 * `name` is the block's. NOT_FINITE (index names the row), BUSY, INVALID or INTERNAL from LAPACK.
 * Memory: min(m, dim)^2 doubles three times over, and the basis. */
int lens_fit(struct lens *l, size_t i, const char *name, const double *rows, struct err *e);

/* The same from their mean of x x^T (gram_take of a Gram over the whitened rows), for m far above
 * dim; `mean` is overwritten. */
int lens_fit_mean(struct lens *l, size_t i, const char *name, double *mean, struct err *e);

/* out = M x and *quad = x^T M x > 0 for x of l->dim doubles. scratch: lens_apply_scratch
 * doubles. */
size_t lens_apply_scratch(const struct lens *l);
void lens_apply(const struct lens *l, const double *x, double *out, double *quad, double *scratch);

/* Block i of it, for threads that share a query: x and out are the block's. Returns its part of
 * x^T M x; lens_apply is these, added in order of blocks. NaN where x is not finite. */
double lens_apply_block(const struct lens *l, size_t i, const double *x, double *out,
                        double *scratch);

/* u of one whitened query from what lens_apply made of it, rounded once, and *length =
 * sqrt(q^T M q). out: l->dim floats. ZERO_GRADIENT, NOT_FINITE. */
int lens_settle(const struct lens *l, const double *mx, double quad, float *out, double *length,
                struct err *e);

/* n of `count` stored rows, `stride` bytes apart. scratch: lens_scratch doubles. A row's result
 * depends on its content and its place in its tile (row number mod LENS_TILE), with OpenBLAS at one
 * thread. Relative error about 1e-15 kappa. A row of NaN gives NaN; no other row is touched. */
void lens_norms(const struct lens *l, const void *rows, enum dtype t, size_t stride, size_t count,
                double *out, double *scratch);
size_t lens_scratch(const struct lens *l);

/* The exact kernel's dot, then one float64 division: part of what "exact" means. n > 0. */
double lens_score(double dot, double n);

/* As in whiten.h. */
size_t lens_bytes(const struct lens *l);
int lens_write(const struct lens *l, const struct image_sink *to, struct err *e);
int lens_read(const void *bytes, size_t len, struct lens *out, struct err *e);

#endif
