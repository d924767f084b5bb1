/* lens.c - fitting a task's lens, applying it, and its image. See lens.h.
 *
 * Block image: head 64 bytes (image.h's 24; dim u64, rank u64, zeros), values f64[rank], basis
 * f64[rank x dim], padded to IMAGE_ALIGN. Whole image: head 64 bytes (24; blocks u64, dim u64,
 * rows u64, lambda f64, zeros), then the block images.
 */
#include "index/lens.h"

#include <cblas.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/gram.h"
#include "index/kern.h"
#include "index/lapack.h"
#include "index/vec.h"
#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

static const char magic_all[8] = "asclens", magic_block[8] = "asclblk";

/* GROUP: rows of B that a query meets at a time, 64 KiB of 1,024 dimensions. */
enum { HEAD = 64, BLOCKS_MAX = 65536, GROUP = 8 };

/* --- making ----------------------------------------------------------------------------------- */

int lens_init(struct lens *l, const size_t *dims, size_t count, uint64_t rows, double lambda,
              struct err *e)
{
    *l = (struct lens){0};
    if (!(lambda >= 0.0 && lambda < 1.0)) {
        err_set(e, ERR_INVALID, "lambda %g is outside [0, 1)", lambda);
        return err_at_field(e, "lambda");
    }
    if (!rows)
        return err_set(e, ERR_INVALID, "a task needs at least one evaluation gradient");
    require(count > 0 && count <= BLOCKS_MAX);
    l->block = mem_new(count, sizeof *l->block);
    l->count = count;
    l->rows = rows;
    l->lambda = lambda;
    for (size_t i = 0; i < count; i++) {
        require(dims[i] > 0 && dims[i] <= LAPACK_DIM_MAX);
        l->block[i].dim = dims[i];
        l->dim += dims[i];
    }
    return 0;
}

void lens_fini(struct lens *l)
{
    for (size_t i = 0; i < l->count; i++)
        free(l->block[i].memory);
    free(l->block);
    *l = (struct lens){0};
}

static size_t block_bytes(size_t dim, size_t rank)
{
    size_t count, values = image_section(rank, sizeof(double)), basis, bytes;

    if (!mem_mul(dim, rank, &count))
        return SIZE_MAX;
    basis = image_section(count, sizeof(double));
    if (values == SIZE_MAX || basis == SIZE_MAX || !mem_add(values, basis, &bytes) ||
        !mem_add(bytes, HEAD, &bytes))
        return SIZE_MAX;
    return bytes;
}

static void view_block(struct lens_block *b, const unsigned char *image, size_t bytes)
{
    const unsigned char *values = image + HEAD;

    b->image = image;
    b->bytes = bytes;
    b->dim = (size_t)bytes_get_le64(image + 24);
    b->rank = (size_t)bytes_get_le64(image + 32);
    b->values = (const double *)(const void *)values;
    b->basis = (const double *)(const void *)(values + image_section(b->rank, sizeof(double)));
}

/* A zeroed image of a block with its head, and where values and basis go. NULL when no memory. */
static unsigned char *new_image(size_t dim, size_t rank, double **values, double **basis)
{
    size_t bytes = block_bytes(dim, rank);
    unsigned char *image = mem_big(bytes, 1);

    if (!image)
        return NULL;
    memset(image, 0, bytes);
    image_head(image, magic_block, bytes);
    bytes_put_le64(image + 24, dim);
    bytes_put_le64(image + 32, rank);
    *values = (double *)(void *)(image + HEAD);
    *basis = (double *)(void *)(image + HEAD + image_section(rank, sizeof(double)));
    return image;
}

static void take_image(struct lens *l, size_t i, unsigned char *image)
{
    struct lens_block *b = &l->block[i];

    free(b->memory);
    view_block(b, image, block_bytes((size_t)bytes_get_le64(image + 24),
                                     (size_t)bytes_get_le64(image + 32)));
    b->memory = image;
    if (b->rank > l->rank)
        l->rank = b->rank;
}

/* How many of n ascending eigenvalues are kept, by the two rules of LENS_TRUNCATE. */
static size_t kept(const double *ascending, size_t n, double noise, double lambda)
{
    double most = ascending[n - 1];
    size_t rank = 0;

    while (rank < n) {
        double s = ascending[n - 1 - rank];

        if (!(s > noise * DBL_EPSILON * most && lambda * s > LENS_TRUNCATE * (1.0 - lambda)))
            break;
        rank++;
    }
    return rank;
}

static int no_memory(const char *name, size_t bytes, struct err *e)
{
    return err_set(e, ERR_BUSY, "block %s: no memory for a lens (%zu bytes)", name, bytes);
}

static void name_block(char what[ERR_TEXT_MAX / 2], const char *name)
{
    snprintf(what, ERR_TEXT_MAX / 2, "block %s", name);
}

int lens_fit_mean(struct lens *l, size_t i, const char *name, double *mean, struct err *e)
{
    size_t dim = l->block[i].dim, rank, noise = l->rows > dim ? (size_t)l->rows : dim;
    double *ascending = mem_new(dim, sizeof *ascending), *values, *basis;
    unsigned char *image;
    char what[ERR_TEXT_MAX / 2];

    name_block(what, name);
    if (lapack_eigen(mean, dim, ascending, what, e))
        goto out;
    rank = kept(ascending, dim, (double)noise, l->lambda);
    image = new_image(dim, rank, &values, &basis);
    if (!image) {
        no_memory(name, block_bytes(dim, rank), e);
        goto out;
    }
    for (size_t r = 0; r < rank; r++) {
        values[r] = ascending[dim - 1 - r];
        memcpy(basis + r * dim, mean + (dim - 1 - r) * dim, dim * sizeof *basis);
    }
    take_image(l, i, image);
    err_clear(e);
out:
    free(ascending);
    return (int)e->code;
}

/* v: eigenvectors of X X^T / m by rows. B = diag(1 / sqrt(m s)) V X: with V orthonormal to working
 * precision, B^T diag(s) B = E^T E is too, however small the s. */
static void lift_vectors(const double *rows, size_t m, size_t dim, double *v, const double *values,
                         size_t rank, double *basis)
{
    double *kept_rows = v + (m - rank) * m; /* ascending: the last is the largest */

    for (size_t r = 0; r < rank; r++) {
        double *row = kept_rows + (rank - 1 - r) * m, w = 1.0 / sqrt((double)m * values[r]);

        for (size_t c = 0; c < m; c++)
            row[c] *= w;
    }
    for (size_t r = 0; r < rank / 2; r++) /* descending, as values are */
        cblas_dswap((int)m, kept_rows + r * m, 1, kept_rows + (rank - 1 - r) * m, 1);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rank, (int)dim, (int)m, 1.0,
                kept_rows, (int)m, rows, (int)dim, 0.0, basis, (int)dim);
}

static int fit_few(struct lens *l, size_t i, const char *name, const double *rows, double *gram,
                   struct err *e)
{
    size_t m = (size_t)l->rows, dim = l->block[i].dim, rank;
    double *ascending = mem_big(m, sizeof *ascending), *values, *basis;
    unsigned char *image;
    char what[ERR_TEXT_MAX / 2];

    name_block(what, name);
    if (!ascending)
        return no_memory(name, m * sizeof *ascending, e);
    if (lapack_eigen(gram, m, ascending, what, e))
        goto out;
    rank = kept(ascending, m, (double)dim, l->lambda);
    image = new_image(dim, rank, &values, &basis);
    if (!image) {
        no_memory(name, block_bytes(dim, rank), e);
        goto out;
    }
    for (size_t r = 0; r < rank; r++)
        values[r] = ascending[m - 1 - r];
    if (rank)
        lift_vectors(rows, m, dim, gram, values, rank, basis);
    take_image(l, i, image);
    err_clear(e);
out:
    free(ascending);
    return (int)e->code;
}

int lens_fit(struct lens *l, size_t i, const char *name, const double *rows, struct err *e)
{
    size_t m = (size_t)l->rows, dim = l->block[i].dim;
    double *gram;
    int rc;

    if (gram_small(rows, m, dim, name, &gram, e))
        return (int)e->code;
    if (m < dim)
        rc = fit_few(l, i, name, rows, gram, e);
    else
        rc = lens_fit_mean(l, i, name, gram, e);
    free(gram);
    return rc;
}

/* --- applying --------------------------------------------------------------------------------- */

static double weight(const struct lens *l, double s)
{
    return 1.0 / ((1.0 - l->lambda) + l->lambda * s);
}

static size_t widest_block(const struct lens *l)
{
    size_t widest = 0;

    for (size_t i = 0; i < l->count; i++)
        if (l->block[i].dim > widest)
            widest = l->block[i].dim;
    return widest;
}

size_t lens_scratch(const struct lens *l)
{
    size_t widest = widest_block(l);

    return LENS_TILE * (widest + l->rank) + widest; /* the last: one row of floats, and room */
}

/* Rows first .. of B on one vector: out = B_g x; and its adjoint: out += alpha B_g^T y. */
static void onto(const struct lens_block *b, size_t first, size_t rows, const double *x,
                 double *out)
{
    cblas_dgemv(CblasRowMajor, CblasNoTrans, (int)rows, (int)b->dim, 1.0,
                b->basis + first * b->dim, (int)b->dim, x, 1, 0.0, out, 1);
}

static void back(const struct lens_block *b, size_t first, size_t rows, double alpha,
                 const double *y, double *out)
{
    cblas_dgemv(CblasRowMajor, CblasTrans, (int)rows, (int)b->dim, alpha,
                b->basis + first * b->dim, (int)b->dim, y, 1, 1.0, out, 1);
}

static size_t group_rows(const struct lens_block *b, size_t first)
{
    return b->rank - first < GROUP ? b->rank - first : GROUP;
}

/* x = B^T t + rest: t = B x and rest = x - B^T t, taken out group by group while a group is in the
 * first cache, so that memory is read once. */
static void split_block(const struct lens_block *b, double *rest, double *t)
{
    for (size_t g = 0; g < b->rank; g += GROUP) {
        onto(b, g, group_rows(b, g), rest, t + g);
        back(b, g, group_rows(b, g), -1.0, t + g, rest);
    }
}

/* The residual is taken twice: what the first pass leaves of B in it is rounding, and 1/(1-lambda)
 * would blow that up (Kahan's and Parlett's "twice is enough"). With p = B rest the second pass
 * makes it rest - B^T p, of square |rest|^2 - |p|^2 since B has orthonormal rows, and moves p into
 * t: so M x = outside rest + B^T (w (t + p) - outside p), one more sweep over B. It goes backwards:
 * the last groups of the first are still in cache. */
double lens_apply_block(const struct lens *l, size_t i, const double *x, double *out,
                        double *scratch)
{
    const struct lens_block *b = &l->block[i];
    const double outside = b->rank == b->dim ? 0.0 : 1.0 / (1.0 - l->lambda);
    double *rest = scratch, *t = rest + b->dim, step[GROUP], left = 0.0, quad = 0.0;

    memcpy(rest, x, b->dim * sizeof *rest);
    split_block(b, rest, t);
    for (size_t j = 0; j < b->dim; j++) {
        left += rest[j] * rest[j];
        out[j] = outside * rest[j];
    }
    for (size_t end = b->rank; end;) {
        size_t g = (end - 1) / GROUP * GROUP;

        onto(b, g, end - g, rest, step);
        for (size_t j = g; j < end; j++) {
            double p = step[j - g], w = weight(l, b->values[j]), inside = t[j] + p;

            left -= p * p;
            quad += w * inside * inside;
            step[j - g] = w * inside - outside * p;
        }
        back(b, g, end - g, 1.0, step, out);
        end = g;
    }
    return quad + (left < 0.0 ? 0.0 : outside * left);
}

size_t lens_apply_scratch(const struct lens *l)
{
    return widest_block(l) + l->rank;
}

void lens_apply(const struct lens *l, const double *x, double *out, double *quad, double *scratch)
{
    double sum = 0.0;
    size_t at = 0;

    for (size_t i = 0; i < l->count; i++) {
        sum += lens_apply_block(l, i, x + at, out + at, scratch);
        at += l->block[i].dim;
    }
    *quad = sum;
}

int lens_settle(const struct lens *l, const double *mx, double quad, float *out, double *length,
                struct err *e)
{
    if (!isfinite(quad))
        return err_set(e, ERR_NOT_FINITE, "the query is not finite under the task's lens");
    if (quad <= 0.0)
        return err_set(e, ERR_ZERO_GRADIENT, "the query is all zeros and has no direction");
    *length = sqrt(quad);
    for (size_t i = 0; i < l->dim; i++)
        out[i] = (float)(mx[i] / *length);
    return 0;
}

/* One tile of one block: sums[r] += x^T M x. The share outside B is |x|^2 - |Bx|^2, both in float64
 * of float32 values, so its error is some 1e-16 |x|^2 / (1 - lambda). */
static void tile_quads(const struct lens *l, const struct lens_block *b, const char *rows,
                       enum dtype t, size_t stride, size_t count, double *sums, double *scratch)
{
    const double outside = 1.0 / (1.0 - l->lambda);
    double *x = scratch, *projected = x + LENS_TILE * b->dim;
    float *wide = (float *)(void *)(projected + LENS_TILE * b->rank);
    double whole[LENS_TILE];

    for (size_t r = 0; r < count; r++) {
        vec_widen(rows + r * stride, t, b->dim, wide);
        whole[r] = kern->dot_f32(wide, wide, b->dim);
        for (size_t j = 0; j < b->dim; j++)
            x[r * b->dim + j] = (double)wide[j];
    }
    memset(x + count * b->dim, 0, (LENS_TILE - count) * b->dim * sizeof *x);
    if (b->rank)
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, LENS_TILE, (int)b->rank, (int)b->dim,
                    1.0, x, (int)b->dim, b->basis, (int)b->dim, 0.0, projected, (int)b->rank);
    for (size_t r = 0; r < count; r++) {
        double inside = 0.0, quad = 0.0, rest;

        for (size_t j = 0; j < b->rank; j++) {
            double p = projected[r * b->rank + j], square = p * p;

            inside += square;
            quad += weight(l, b->values[j]) * square;
        }
        rest = b->rank == b->dim ? 0.0 : whole[r] - inside;
        sums[r] += quad + (rest < 0.0 ? 0.0 : outside * rest);
    }
}

void lens_norms(const struct lens *l, const void *rows, enum dtype t, size_t stride, size_t count,
                double *out, double *scratch)
{
    for (size_t at = 0; at < count; at += LENS_TILE) {
        size_t n = count - at < LENS_TILE ? count - at : LENS_TILE;
        const char *first = (const char *)rows + at * stride;
        double sums[LENS_TILE] = {0};

        for (size_t i = 0; i < l->count; i++) {
            tile_quads(l, &l->block[i], first, t, stride, n, sums, scratch);
            first += l->block[i].dim * dtype_size(t);
        }
        for (size_t r = 0; r < n; r++)
            out[at + r] = sqrt(sums[r]);
    }
}

double lens_score(double dot, double n)
{
    return dot / n;
}

/* --- images ----------------------------------------------------------------------------------- */

size_t lens_bytes(const struct lens *l)
{
    size_t total = HEAD;

    for (size_t i = 0; i < l->count; i++)
        if (!mem_add(total, l->block[i].bytes, &total))
            return SIZE_MAX;
    return total;
}

int lens_write(const struct lens *l, const struct image_sink *to, struct err *e)
{
    unsigned char head[HEAD] = {0};
    int rc;

    image_head(head, magic_all, lens_bytes(l));
    bytes_put_le64(head + 24, l->count);
    bytes_put_le64(head + 32, l->dim);
    bytes_put_le64(head + 40, l->rows);
    image_put_f64(head + 48, l->lambda);
    rc = to->put(to->arg, head, sizeof head, e);
    for (size_t i = 0; i < l->count && !rc; i++) {
        require(l->block[i].image != NULL);
        rc = to->put(to->arg, l->block[i].image, l->block[i].bytes, e);
    }
    return rc;
}

static int read_block(const unsigned char *p, size_t len, struct lens_block *out, struct err *e)
{
    struct lens_block b = {0};
    uint64_t dim, rank;
    size_t size;

    if (image_open(p, len, magic_block, "lens block", &size, e))
        return (int)e->code;
    dim = size < HEAD ? 0 : bytes_get_le64(p + 24);
    rank = size < HEAD ? 0 : bytes_get_le64(p + 32);
    if (dim == 0 || dim > LAPACK_DIM_MAX || rank > dim ||
        block_bytes((size_t)dim, (size_t)rank) != size)
        return err_set(e, ERR_CORRUPT, "lens block: %llu dimensions of rank %llu in %zu bytes",
                       (unsigned long long)dim, (unsigned long long)rank, size);
    view_block(&b, p, size);
    for (size_t i = 0; i < b.rank; i++)
        if (!(isfinite(b.values[i]) && b.values[i] > 0.0 && (!i || b.values[i] <= b.values[i - 1])))
            return err_set(e, ERR_CORRUPT, "lens block: eigenvalue %zu is %g", i, b.values[i]);
    *out = b;
    return 0;
}

static int read_blocks(const unsigned char *p, size_t size, struct lens *l, struct err *e)
{
    size_t at = HEAD, dim = 0;

    for (size_t i = 0; i < l->count; i++) {
        if (read_block(p + at, size - at, &l->block[i], e)) {
            err_wrap(e, "block %zu at byte %zu: ", i, at);
            return (int)e->code;
        }
        at += l->block[i].bytes;
        dim += l->block[i].dim;
        if (l->block[i].rank > l->rank)
            l->rank = l->block[i].rank;
    }
    if (at != size || dim != l->dim)
        return err_set(e, ERR_CORRUPT, "lens: blocks of %zu dimensions end at byte %zu; the head "
                       "says %zu and %zu", dim, at, l->dim, size);
    return 0;
}

int lens_read(const void *bytes, size_t len, struct lens *out, struct err *e)
{
    const unsigned char *p = bytes;
    struct lens l = {0};
    uint64_t count;
    size_t size;

    if (image_open(p, len, magic_all, "lens", &size, e))
        return (int)e->code;
    count = size < HEAD ? 0 : bytes_get_le64(p + 24);
    if (count == 0 || count > BLOCKS_MAX)
        return err_set(e, ERR_CORRUPT, "lens: %llu blocks in %zu bytes",
                       (unsigned long long)count, size);
    l.count = (size_t)count;
    l.dim = (size_t)bytes_get_le64(p + 32);
    l.rows = bytes_get_le64(p + 40);
    l.lambda = image_get_f64(p + 48);
    if (!(l.lambda >= 0.0 && l.lambda < 1.0) || !l.rows)
        return err_set(e, ERR_CORRUPT, "lens: lambda %g of %llu rows", l.lambda,
                       (unsigned long long)l.rows);
    l.block = mem_new(l.count, sizeof *l.block);
    if (read_blocks(p, size, &l, e)) {
        free(l.block);
        return (int)e->code;
    }
    *out = l;
    return 0;
}
