/* lapack.h - eigenvalues of symmetric matrices, by LAPACK's divide and conquer (dsyevd), and
 * inverses.
 *
 * lapack.c is the only file that names a Fortran symbol; they are in libopenblas itself, no
 * LAPACKE is needed. Works in float64, allocates its workspace, keeps nothing; any thread.
 * OpenBLAS runs with as many threads as it was set to; the last bits may depend on that number.
 */
#ifndef INDEX_LAPACK_H
#define INDEX_LAPACK_H

#include <stddef.h>

#include "storage/base/err.h"

/* Past this, the workspace of dsyevd (1 + 6n + 2n^2 doubles) does not fit LAPACK's 32-bit count. */
enum { LAPACK_DIM_MAX = 32766 };

/* a: n x n, symmetric; only the upper triangle (row-major) is read, all of it is overwritten.
 * values: n, ascending. After lapack_eigen, row i of `a` is the unit eigenvector of values[i].
 * lapack_eigenvalues leaves nothing of use in `a`. `what` opens the message ("block h0").
 * INVALID: n is 0 or past LAPACK_DIM_MAX; NOT_FINITE: an element is; BUSY: no memory for the
 * workspace; INTERNAL: no convergence. */
int lapack_eigen(double *a, size_t n, double *values, const char *what, struct err *e);
int lapack_eigenvalues(double *a, size_t n, double *values, const char *what, struct err *e);

/* a: n x n, symmetric and positive definite, both triangles; becomes its inverse, both triangles
 * (by Cholesky: dpotrf, dpotri). INVALID: not positive definite to working precision. */
int lapack_invert(double *a, size_t n, const char *what, struct err *e);

#endif
