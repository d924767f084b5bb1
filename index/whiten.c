/* whiten.c - the inverse square root of each block's Hessian. See whiten.h.
 *
 * Block image: head 64 bytes (image.h's 24; dim u64, rows u64, mean f64, damp f64, zeros), the
 * eigenvalues f64[dim], the root f32[dim x dim], each section padded to IMAGE_ALIGN.
 * Whole image: head 64 bytes (24; blocks u64, dim u64, rows u64, damping f64, zeros), u64 dims[],
 * padded, then the block images.
 */
#include "index/whiten.h"

#include <cblas.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/kern.h"
#include "index/lapack.h"
#include "index/vec.h"
#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

static const char magic_all[8] = "ascwhit", magic_block[8] = "ascwblk";

enum { HEAD = 64, BLOCKS_MAX = 65536 };

/* Ascending values, vectors by rows: to descending values clamped at 0, or a refusal. */
static int check_spectrum(const double *values, size_t n, double damp, const char *name,
                          struct err *e)
{
    double least = fmax(values[0], 0.0), most = values[n - 1];

    if (least + damp > (double)n * DBL_EPSILON * most)
        return 0;
    err_set(e, ERR_INVALID, "block %s: singular to working precision: smallest eigenvalue %g, "
            "largest %g, damping %g; more damping or more rows are needed", name, values[0], most,
            damp);
    return err_at_field(e, "damping");
}

/* a: eigenvectors by rows, scaled here by (l + damp)^(-1/4), so that S = A^T A comes out exactly
 * symmetric. */
static void scale_vectors(double *a, size_t n, const double *values, double damp)
{
    for (size_t i = 0; i < n; i++) {
        double w = 1.0 / sqrt(sqrt(fmax(values[i], 0.0) + damp));

        for (size_t j = 0; j < n; j++)
            a[i * n + j] *= w;
    }
}

static void reverse_clamped(double *values, size_t n)
{
    for (size_t i = 0, j = n - 1; i <= j && j < n; i++, j--) {
        double low = fmax(values[i], 0.0), high = fmax(values[j], 0.0);

        values[i] = high;
        values[j] = low;
    }
}

int whiten_root(double *mean, size_t dim, double damp, double *values, const char *name,
                struct err *e)
{
    const int n = (int)dim;
    double *product;
    char what[ERR_TEXT_MAX / 2];

    snprintf(what, sizeof what, "block %s", name);
    if (lapack_eigen(mean, dim, values, what, e) || check_spectrum(values, dim, damp, name, e))
        return (int)e->code;
    product = mem_big(dim * dim, sizeof *product);
    if (!product)
        return err_set(e, ERR_BUSY, "block %s: no memory for a %zu x %zu matrix", name, dim, dim);
    scale_vectors(mean, dim, values, damp);
    cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, n, n, 1.0, mean, n, 0.0, product, n);
    for (size_t i = 0; i < dim; i++)
        for (size_t j = i; j < dim; j++)
            mean[i * dim + j] = mean[j * dim + i] = product[i * dim + j];
    free(product);
    reverse_clamped(values, dim);
    return 0;
}

/* --- images ----------------------------------------------------------------------------------- */

size_t whiten_block_bytes(size_t dim)
{
    size_t values = image_section(dim, sizeof(double)), square, matrix, bytes;

    if (!mem_mul(dim, dim, &square))
        return SIZE_MAX;
    matrix = image_section(square, sizeof(float));
    if (values == SIZE_MAX || matrix == SIZE_MAX || !mem_add(values, matrix, &bytes) ||
        !mem_add(bytes, HEAD, &bytes))
        return SIZE_MAX;
    return bytes;
}

size_t whiten_head_bytes(size_t count)
{
    size_t dims = image_section(count, sizeof(uint64_t)), bytes;

    return dims != SIZE_MAX && mem_add(dims, HEAD, &bytes) ? bytes : SIZE_MAX;
}

/* Points the fields of *b into its image, whose head is right. */
static void view_block(struct whiten_block *b, const unsigned char *image, size_t bytes)
{
    const unsigned char *values = image + HEAD;

    b->image = image;
    b->bytes = bytes;
    b->dim = (size_t)bytes_get_le64(image + 24);
    b->rows = bytes_get_le64(image + 32);
    b->mean = image_get_f64(image + 40);
    b->damp = image_get_f64(image + 48);
    b->eigenvalues = (const double *)(const void *)values;
    b->root = (const float *)(const void *)(values + image_section(b->dim, sizeof(double)));
}

int whiten_read_block(const void *bytes, size_t len, size_t dim, struct whiten_block *out,
                      struct err *e)
{
    struct whiten_block b = {0};
    size_t size;

    if (image_open(bytes, len, magic_block, "whitening block", &size, e))
        return (int)e->code;
    if (size < HEAD || bytes_get_le64((const char *)bytes + 24) != dim ||
        size != whiten_block_bytes(dim))
        return err_set(e, ERR_CORRUPT, "whitening block: %zu bytes do not hold the %zu dimensions "
                       "it should have", size, dim);
    view_block(&b, bytes, size);
    if (!(isfinite(b.mean) && b.mean > 0.0 && isfinite(b.damp) && b.damp >= 0.0 && b.rows))
        return err_set(e, ERR_CORRUPT, "whitening block: mean eigenvalue %g, damping %g of %llu "
                       "rows", b.mean, b.damp, (unsigned long long)b.rows);
    for (size_t i = 0; i < dim; i++) {
        double v = b.eigenvalues[i], s = (double)b.root[i * dim + i];

        if (!(isfinite(v) && v >= 0.0 && (i == 0 || v <= b.eigenvalues[i - 1])))
            return err_set(e, ERR_CORRUPT, "whitening block: eigenvalue %zu is %g", i, v);
        if (!(isfinite(s) && s > 0.0))
            return err_set(e, ERR_CORRUPT, "whitening block: diagonal element %zu is %g", i, s);
    }
    *out = b;
    return 0;
}

int whiten_write_block(const struct whiten_block *b, const struct image_sink *to, struct err *e)
{
    return to->put(to->arg, b->image, b->bytes, e);
}

int whiten_write_head(const size_t *dims, size_t count, uint64_t rows, double damping,
                      const struct image_sink *to, struct err *e)
{
    size_t head = whiten_head_bytes(count), total = head, dim = 0;
    unsigned char *bytes;
    int rc;

    require(count > 0 && count <= BLOCKS_MAX);
    bytes = mem_new(head, 1);
    for (size_t i = 0; i < count; i++) {
        require(dims[i] > 0 && dims[i] <= LAPACK_DIM_MAX);
        require(mem_add(total, whiten_block_bytes(dims[i]), &total));
        dim += dims[i];
        bytes_put_le64(bytes + HEAD + 8 * i, dims[i]);
    }
    image_head(bytes, magic_all, total);
    bytes_put_le64(bytes + 24, count);
    bytes_put_le64(bytes + 32, dim);
    bytes_put_le64(bytes + 40, rows);
    image_put_f64(bytes + 48, damping);
    rc = to->put(to->arg, bytes, head, e);
    free(bytes);
    return rc;
}

int whiten_write(const struct whiten *w, const struct image_sink *to, struct err *e)
{
    size_t *dims = mem_new(w->count, sizeof *dims);
    int rc;

    for (size_t i = 0; i < w->count; i++)
        dims[i] = w->block[i].dim;
    rc = whiten_write_head(dims, w->count, w->rows, w->damping, to, e);
    for (size_t i = 0; i < w->count && !rc; i++)
        rc = whiten_write_block(&w->block[i], to, e);
    free(dims);
    return rc;
}

/* The blocks after the head of `size` bytes; they must fill it to the byte. */
static int read_blocks(const unsigned char *p, size_t size, struct whiten *w, struct err *e)
{
    size_t at = whiten_head_bytes(w->count), dim = 0;

    for (size_t i = 0; i < w->count; i++) {
        uint64_t d = bytes_get_le64(p + HEAD + 8 * i);

        if (d == 0 || d > LAPACK_DIM_MAX)
            return err_set(e, ERR_CORRUPT, "whitening: block %zu has %llu dimensions", i,
                           (unsigned long long)d);
        if (whiten_read_block(p + at, size - at, (size_t)d, &w->block[i], e)) {
            err_wrap(e, "block %zu at byte %zu: ", i, at);
            return (int)e->code;
        }
        at += w->block[i].bytes;
        dim += (size_t)d;
    }
    if (at != size || dim != w->dim)
        return err_set(e, ERR_CORRUPT, "whitening: blocks of %zu dimensions end at byte %zu; the "
                       "head says %zu and %zu", dim, at, w->dim, size);
    return 0;
}

int whiten_read(const void *bytes, size_t len, struct whiten *out, struct err *e)
{
    const unsigned char *p = bytes;
    struct whiten w = {0};
    uint64_t count, dim;
    size_t size;

    if (image_open(p, len, magic_all, "whitening", &size, e))
        return (int)e->code;
    count = size < HEAD ? 0 : bytes_get_le64(p + 24);
    if (count == 0 || count > BLOCKS_MAX || whiten_head_bytes((size_t)count) > size)
        return err_set(e, ERR_CORRUPT, "whitening: %llu blocks in %zu bytes",
                       (unsigned long long)count, size);
    dim = bytes_get_le64(p + 32);
    w.count = (size_t)count;
    w.dim = (size_t)dim;
    w.rows = bytes_get_le64(p + 40);
    w.damping = image_get_f64(p + 48);
    if (!(isfinite(w.damping) && w.damping >= 0.0))
        return err_set(e, ERR_CORRUPT, "whitening: damping %g", w.damping);
    w.block = mem_new(w.count, sizeof *w.block);
    if (read_blocks(p, size, &w, e)) {
        free(w.block);
        return (int)e->code;
    }
    *out = w;
    return 0;
}

void whiten_block_fini(struct whiten_block *b)
{
    free(b->memory);
    *b = (struct whiten_block){0};
}

void whiten_fini(struct whiten *w)
{
    for (size_t i = 0; i < w->count; i++)
        whiten_block_fini(&w->block[i]);
    free(w->block);
    *w = (struct whiten){0};
}

/* --- fitting ---------------------------------------------------------------------------------- */

/* S to float32 into the image. Its largest entries lie on the diagonal (S is positive definite), so
 * those tell whether float32 holds it. */
static int round_root(const double *root, size_t n, float *out, const char *name, struct err *e)
{
    double most = 0.0;

    for (size_t i = 0; i < n; i++)
        most = fmax(most, root[i * n + i]);
    if (!(most < (double)FLT_MAX && most > (double)FLT_MIN))
        return err_set(e, ERR_INVALID, "block %s: gradients of this size cannot be whitened in "
                       "float32: the inverse root reaches %g; scale the loss", name, most);
    for (size_t i = 0; i < n * n; i++)
        out[i] = (float)root[i];
    return 0;
}

static int fit_mean(struct whiten_block *b, const char *name, double *mean, size_t dim,
                    uint64_t rows, double average, double damp, struct err *e)
{
    size_t bytes = whiten_block_bytes(dim), values = image_section(dim, sizeof(double));
    double *sorted = mem_new(dim, sizeof *sorted);
    unsigned char *image = NULL;

    if (whiten_root(mean, dim, damp, sorted, name, e))
        goto out;
    image = mem_big(bytes, 1);
    if (!image) {
        err_set(e, ERR_BUSY, "block %s: no memory for %zu bytes of whitening", name, bytes);
        goto out;
    }
    memset(image, 0, HEAD);
    memset(image + HEAD, 0, values);
    memset(image + bytes - IMAGE_ALIGN, 0, IMAGE_ALIGN);
    image_head(image, magic_block, bytes);
    bytes_put_le64(image + 24, dim);
    bytes_put_le64(image + 32, rows);
    image_put_f64(image + 40, average);
    image_put_f64(image + 48, damp);
    memcpy(image + HEAD, sorted, dim * sizeof *sorted);
    if (round_root(mean, dim, (float *)(void *)(image + HEAD + values), name, e))
        goto out;
    view_block(b, image, bytes);
    b->memory = image;
    image = NULL;
    err_clear(e);
out:
    free(image);
    free(sorted);
    return (int)e->code;
}

int whiten_fit(struct whiten_block *b, const char *name, struct gram *g, double damping,
               struct err *e)
{
    double average = gram_mean_eigenvalue(g), *mean;
    uint64_t rows = g->rows;
    size_t dim = g->dim;
    int rc;

    *b = (struct whiten_block){0};
    if (!(isfinite(damping) && damping >= 0.0)) {
        err_set(e, ERR_INVALID, "damping %g: it must be finite and not negative", damping);
        return err_at_field(e, "damping");
    }
    if (gram_take(g, &mean, e)) {
        err_wrap(e, "block %s: ", name);
        return (int)e->code;
    }
    if (!(average > 0.0 && isfinite(average)))
        rc = err_set(e, ERR_INVALID, "block %s: its gradients have mean square %g over %llu rows: "
                     "there is nothing to whiten", name, average, (unsigned long long)rows);
    else
        rc = fit_mean(b, name, mean, dim, rows, average, damping * average, e);
    free(mean);
    return rc;
}

/* out = a b, all n x n by rows. */
static void multiply(const double *a, const double *b, size_t dim, double *out)
{
    const int n = (int)dim;

    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1.0, a, n, b, n, 0.0, out, n);
}

static void widen(const float *from, size_t count, double *to)
{
    for (size_t i = 0; i < count; i++)
        to[i] = (double)from[i];
}

/* R = S^-1 C S^-1 into `c`; `inverse` takes S^-1; `spare` is room. Exactly symmetric. */
static int undo(const struct whiten_block *old, double *c, double *inverse, double *spare,
                const char *name, struct err *e)
{
    size_t n = old->dim;
    char what[ERR_TEXT_MAX / 2];

    snprintf(what, sizeof what, "block %s: undoing the earlier fit", name);
    widen(old->root, n * n, inverse);
    if (lapack_invert(inverse, n, what, e))
        return (int)e->code;
    multiply(inverse, c, n, spare);
    multiply(spare, inverse, n, c);
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            c[i * n + j] = c[j * n + i] = (c[i * n + j] + c[j * n + i]) / 2;
    return 0;
}

static double mean_of_diagonal(const double *a, size_t n)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++)
        sum += a[i * n + i];
    return sum / (double)n;
}

static int refit(struct whiten_block *b, float *move, const char *name, double *c, double *inverse,
                 double *spare, const struct whiten_block *old, uint64_t rows, double damping,
                 struct err *e)
{
    size_t n = old->dim;
    double average;

    if (undo(old, c, inverse, spare, name, e))
        return (int)e->code;
    average = mean_of_diagonal(c, n);
    if (!(average > 0.0 && isfinite(average)))
        return err_set(e, ERR_INVALID, "block %s: its gradients have mean square %g over %llu rows",
                       name, average, (unsigned long long)rows);
    if (fit_mean(b, name, c, n, rows, average, damping * average, e))
        return (int)e->code;
    widen(b->root, n * n, spare); /* the rounded one: what queries go through */
    multiply(inverse, spare, n, c); /* (S_new S_old^-1)^T: both are symmetric */
    for (size_t i = 0; i < n * n; i++)
        move[i] = (float)c[i];
    return 0;
}

int whiten_refit(struct whiten_block *b, float *move, const char *name, struct gram *g,
                 const struct whiten_block *old, double damping, struct err *e)
{
    uint64_t rows = g->rows;
    size_t dim = g->dim;
    double *c, *inverse, *spare;

    *b = (struct whiten_block){0};
    require(old->dim == dim);
    if (!(isfinite(damping) && damping >= 0.0)) {
        err_set(e, ERR_INVALID, "damping %g: it must be finite and not negative", damping);
        return err_at_field(e, "damping");
    }
    if (gram_take(g, &c, e)) {
        err_wrap(e, "block %s: ", name);
        return (int)e->code;
    }
    inverse = mem_big(dim * dim, sizeof *inverse);
    spare = mem_big(dim * dim, sizeof *spare);
    if (!inverse || !spare)
        err_set(e, ERR_BUSY, "block %s: no memory for a %zu x %zu matrix", name, dim, dim);
    else if (!refit(b, move, name, c, inverse, spare, old, rows, damping, e))
        err_clear(e);
    free(inverse);
    free(spare);
    free(c);
    return (int)e->code;
}

/* --- applying --------------------------------------------------------------------------------- */

static size_t groups_of(size_t rows)
{
    return (rows + KERN_TALL - 1) / KERN_TALL;
}

/* In floats: a packed tile, a piece of S, the kernel's result; and the sums, in doubles. */
enum { PANEL = WHITEN_PIECE * KERN_WIDE, CELL = KERN_TALL * KERN_WIDE };

size_t whiten_scratch(size_t dim)
{
    return WHITEN_TILE * dim + PANEL + CELL + 2 * WHITEN_TILE * KERN_WIDE;
}

/* KERN_TALL rows side by side, element by element, as the kernel reads them; those past `count` are
 * zeros. `wide` is room for a row. */
static void pack_rows(const void *rows, enum dtype t, size_t stride, size_t count, size_t dim,
                      float *wide, float *to)
{
    for (size_t r = 0; r < KERN_TALL; r++) {
        if (r < count)
            vec_widen((const char *)rows + r * stride, t, dim, wide);
        for (size_t k = 0; k < dim; k++)
            to[k * KERN_TALL + r] = r < count ? wide[k] : 0.0f;
    }
}

/* Columns from .. of rows first .. first+depth-1 of S; those past the last are zeros. */
static void pack_root(const struct whiten_block *b, size_t first, size_t depth, size_t from,
                      float *to)
{
    const float *row = b->root + first * b->dim + from;
    size_t left = b->dim - from;

    for (size_t k = 0; k < depth; k++, row += b->dim, to += KERN_WIDE) {
        if (left >= KERN_WIDE) {
            memcpy(to, row, KERN_WIDE * sizeof *to);
        } else {
            memcpy(to, row, left * sizeof *to);
            memset(to + left, 0, (KERN_WIDE - left) * sizeof *to);
        }
    }
}

/* One tile: each piece of S is packed once for all its rows. */
static void apply_tile(const struct whiten_block *b, const float *in, size_t count, float *out,
                       size_t out_stride, float *panel, double *sums)
{
    const size_t dim = b->dim, groups = groups_of(count);
    float *cell = panel + PANEL;

    for (size_t from = 0; from < dim; from += KERN_WIDE) {
        size_t columns = dim - from < KERN_WIDE ? dim - from : KERN_WIDE;

        memset(sums, 0, groups * CELL * sizeof *sums);
        for (size_t first = 0; first < dim; first += WHITEN_PIECE) {
            size_t depth = dim - first < WHITEN_PIECE ? dim - first : WHITEN_PIECE;

            pack_root(b, first, depth, from, panel);
            for (size_t g = 0; g < groups; g++) {
                kern->multiply(in + (g * dim + first) * KERN_TALL, panel, depth, cell);
                for (size_t i = 0; i < CELL; i++)
                    sums[g * CELL + i] += (double)cell[i];
            }
        }
        for (size_t r = 0; r < count; r++)
            for (size_t j = 0; j < columns; j++)
                out[r * out_stride + from + j] = (float)sums[r * KERN_WIDE + j];
    }
}

void whiten_apply(const struct whiten_block *b, const void *rows, enum dtype t, size_t stride,
                  size_t n, float *out, size_t out_stride, float *scratch)
{
    const size_t dim = b->dim;
    double *sums = (double *)(void *)scratch;
    float *panel = scratch + 2 * WHITEN_TILE * KERN_WIDE, *in = panel + PANEL + CELL;

    for (size_t at = 0; at < n; at += WHITEN_TILE) {
        size_t count = n - at < WHITEN_TILE ? n - at : WHITEN_TILE;

        for (size_t g = 0; g < groups_of(count); g++) {
            size_t first = g * KERN_TALL, left = count - first;

            /* the results' own first row is room enough, and not yet written */
            pack_rows((const char *)rows + (at + first) * stride, t, stride,
                      left < KERN_TALL ? left : KERN_TALL, dim, out + at * out_stride,
                      in + first * dim);
        }
        apply_tile(b, in, count, out + at * out_stride, out_stride, panel, sums);
    }
}

/* Adds one piece of the sums of one row: rows first .. of S, elements from .. to-1. */
static void strip_piece(const struct whiten_block *b, const float *row, size_t first, size_t from,
                        size_t to, double *sums)
{
    size_t depth = b->dim - first < WHITEN_PIECE ? b->dim - first : WHITEN_PIECE;
    float piece[WHITEN_STRIP] = {0};

    kern->multiply_row(row + first, b->root + first * b->dim + from, b->dim * sizeof(float), depth,
                       to - from, piece);
    for (size_t j = 0; j < to - from; j++)
        sums[j] += (double)piece[j];
}

void whiten_strip(const struct whiten_block *b, const float *rows, size_t stride, size_t n,
                  size_t from, size_t to, float *out)
{
    double sums[WHITEN_FEW][WHITEN_STRIP];

    require(n <= WHITEN_FEW && to - from <= WHITEN_STRIP);
    memset(sums, 0, n * sizeof sums[0]);
    for (size_t first = 0; first < b->dim; first += WHITEN_PIECE)
        for (size_t r = 0; r < n; r++)
            strip_piece(b, rows + r * stride, first, from, to, sums[r]);
    for (size_t r = 0; r < n; r++)
        for (size_t j = from; j < to; j++)
            out[r * stride + j] = (float)sums[r][j - from];
}

void whiten_apply_plain(const struct whiten_block *b, const float *row, float *out)
{
    for (size_t j = 0; j < b->dim; j++) {
        double sum = 0.0;
        float piece = 0.0f;

        for (size_t k = 0; k < b->dim; k++) {
            piece = fmaf(row[k], b->root[k * b->dim + j], piece);
            if ((k + 1) % WHITEN_PIECE == 0 || k + 1 == b->dim) {
                sum += (double)piece;
                piece = 0.0f;
            }
        }
        out[j] = (float)sum;
    }
}
