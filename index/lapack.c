/* lapack.c - the one caller of Fortran. See lapack.h.
 *
 * LAPACK counts columns first: our upper triangle by rows is its lower triangle by columns, and its
 * eigenvector columns are our rows. Nothing is copied for that.
 */
#include "index/lapack.h"

#include <math.h>
#include <stdlib.h>

#include "storage/base/mem.h"

/* gfortran passes the length of each character argument at the end. */
extern void dsyevd_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda,
                    double *w, double *work, const int *lwork, int *iwork, const int *liwork,
                    int *info, size_t jobz_len, size_t uplo_len);
extern void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info,
                    size_t uplo_len);
extern void dpotri_(const char *uplo, const int *n, double *a, const int *lda, int *info,
                    size_t uplo_len);

static int check_input(const double *a, size_t n, const char *what, struct err *e)
{
    if (n == 0 || n > LAPACK_DIM_MAX) {
        err_set(e, ERR_INVALID, "%s: a %zu x %zu matrix; eigenvalues are for 1 to %d rows", what, n,
                n, LAPACK_DIM_MAX);
        return err_at_limit(e, LAPACK_DIM_MAX);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j++)
            if (!isfinite(a[i * n + j]))
                return err_set(e, ERR_NOT_FINITE, "%s: element (%zu, %zu) of the matrix is not "
                               "finite", what, i, j);
    return 0;
}

static int solve(const char *job, double *a, size_t dim, double *values, const char *what,
                 struct err *e)
{
    const int n = (int)dim, ask = -1;
    int lwork, liwork, info = 0, least_ints;
    double least;
    double *work;
    int *iwork;

    dsyevd_(job, "L", &n, a, &n, values, &least, &ask, &least_ints, &ask, &info, 1, 1);
    lwork = (int)least;
    liwork = least_ints;
    work = mem_big((size_t)lwork, sizeof *work);
    iwork = mem_big((size_t)liwork, sizeof *iwork);
    if (!work || !iwork)
        err_set(e, ERR_BUSY, "%s: no memory for the eigenvalues of a %d x %d matrix (%zu bytes)",
                what, n, n, (size_t)lwork * sizeof *work);
    else
        dsyevd_(job, "L", &n, a, &n, values, work, &lwork, iwork, &liwork, &info, 1, 1);
    if (work && iwork && info != 0)
        err_set(e, ERR_INTERNAL, "%s: the eigenvalues of a %d x %d matrix did not converge "
                "(dsyevd: %d)", what, n, n, info);
    else if (work && iwork)
        err_clear(e);
    free(work);
    free(iwork);
    return (int)e->code;
}

int lapack_eigen(double *a, size_t n, double *values, const char *what, struct err *e)
{
    int rc = check_input(a, n, what, e);

    return rc ? rc : solve("V", a, n, values, what, e);
}

int lapack_eigenvalues(double *a, size_t n, double *values, const char *what, struct err *e)
{
    int rc = check_input(a, n, what, e);

    return rc ? rc : solve("N", a, n, values, what, e);
}

int lapack_invert(double *a, size_t dim, const char *what, struct err *e)
{
    const int n = (int)dim;
    int rc = check_input(a, dim, what, e), info = 0;

    if (rc)
        return rc;
    dpotrf_("L", &n, a, &n, &info, 1);
    if (info == 0)
        dpotri_("L", &n, a, &n, &info, 1);
    if (info != 0)
        return err_set(e, ERR_INVALID, "%s: a %d x %d matrix is singular to working precision "
                       "(dpotrf: %d)", what, n, n, info);
    for (size_t i = 0; i < dim; i++)
        for (size_t j = i + 1; j < dim; j++)
            a[j * dim + i] = a[i * dim + j];
    return 0;
}
