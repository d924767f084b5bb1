/* moment.c - dividing a gradient by the root of its second moment. See moment.h.
 *
 * The divisors are turned into float32 factors once, in float64, so that applying is one or two
 * products an element. Sources of the two forms: docs/encoding.md.
 */
#include "index/moment.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"

const char *moment_name(enum moment_kind k)
{
    static const char *const names[] = {"none", "adam", "adafactor"};

    return names[k];
}

void moment_fini(struct moment *m)
{
    free(m->full);
    free(m->left);
    free(m->right);
    *m = (struct moment){0};
}

static int bad_element(const char *field, const char *part, size_t i, double v, const char *why,
                       enum err_code code, struct err *e)
{
    err_set(e, code, "%s: element %zu of the %s is %g: %s", field, i, part, v, why);
    err_at_field(e, field);
    return err_at_index(e, (int64_t)i);
}

static int check_moments(const float *v, size_t count, const char *field, const char *part,
                         struct err *e)
{
    for (size_t i = 0; i < count; i++) {
        double x = (double)v[i];

        if (!isfinite(x))
            return bad_element(field, part, i, x, "not a finite number", ERR_NOT_FINITE, e);
        if (x < 0.0)
            return bad_element(field, part, i, x, "a mean of squares is not negative",
                               ERR_INVALID, e);
    }
    return 0;
}

/* A zero (or next to it) can be divided by only with eps: its factor is past float32 otherwise. */
static int check_factors(const float *factor, const float *v, size_t count, const char *field,
                         const char *part, struct err *e)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(factor[i]))
            return bad_element(field, part, i, (double)v[i], "too small to divide by with this eps",
                               ERR_INVALID, e);
    return 0;
}

static int check_sizes(uint32_t rows, uint32_t cols, double eps, const char *field, struct err *e)
{
    if (!rows || !cols)
        return err_set(e, ERR_INVALID, "%s: second moment of a %u x %u gradient: a size is zero",
                       field, rows, cols);
    if (!(isfinite(eps) && eps >= 0.0))
        return err_set(e, ERR_INVALID, "%s: eps of the second moment is %g; it must be finite "
                       "and not negative", field, eps);
    return 0;
}

static int no_memory(struct moment *m, const char *field, size_t count, struct err *e)
{
    moment_fini(m);
    return err_set(e, ERR_BUSY, "%s: no memory for a second moment of %zu floats", field, count);
}

int moment_none(struct moment *m, uint32_t rows, uint32_t cols, struct err *e)
{
    *m = (struct moment){0};
    err_clear(e);
    if (check_sizes(rows, cols, 0.0, "second moment", e))
        return (int)e->code;
    m->rows = rows;
    m->cols = cols;
    return 0;
}

int moment_adam(struct moment *m, uint32_t rows, uint32_t cols, const float *v, double eps,
                const char *field, struct err *e)
{
    size_t count = (size_t)rows * cols;

    *m = (struct moment){0};
    err_clear(e);
    if (check_sizes(rows, cols, eps, field, e) ||
        check_moments(v, count, field, "second moment", e))
        return (int)e->code;
    m->full = mem_big(count, sizeof *m->full);
    if (!m->full)
        return no_memory(m, field, count, e);
    m->kind = MOMENT_ADAM;
    m->rows = rows;
    m->cols = cols;
    for (size_t i = 0; i < count; i++)
        m->full[i] = (float)(1.0 / (sqrt((double)v[i]) + eps));
    if (check_factors(m->full, v, count, field, "second moment", e))
        moment_fini(m);
    return (int)e->code;
}

static double mean_with_eps(const float *v, size_t count, double eps)
{
    double sum = 0.0;

    for (size_t i = 0; i < count; i++)
        sum += (double)v[i] + eps;
    return sum / (double)count;
}

/* 1/sqrt(row col / mean) = (sqrt(mean) / sqrt(row)) (1 / sqrt(col)) */
int moment_adafactor(struct moment *m, uint32_t rows, uint32_t cols, const float *row,
                     const float *col, double eps, const char *field, struct err *e)
{
    double root;

    *m = (struct moment){0};
    err_clear(e);
    if (check_sizes(rows, cols, eps, field, e) ||
        check_moments(row, rows, field, "row factor", e) ||
        check_moments(col, cols, field, "column factor", e))
        return (int)e->code;
    m->left = mem_big(rows, sizeof *m->left);
    m->right = mem_big(cols, sizeof *m->right);
    if (!m->left || !m->right)
        return no_memory(m, field, (size_t)rows + cols, e);
    m->kind = MOMENT_ADAFACTOR;
    m->rows = rows;
    m->cols = cols;
    root = sqrt(mean_with_eps(row, rows, eps));
    for (size_t i = 0; i < rows; i++)
        m->left[i] = (float)(root / sqrt((double)row[i] + eps));
    for (size_t i = 0; i < cols; i++)
        m->right[i] = (float)(1.0 / sqrt((double)col[i] + eps));
    if (check_factors(m->left, row, rows, field, "row factor", e) ||
        check_factors(m->right, col, cols, field, "column factor", e))
        moment_fini(m);
    return (int)e->code;
}

static void apply_factors(const struct moment *m, const float *w, float *out)
{
    for (size_t r = 0; r < m->rows; r++) {
        const float *in = w + r * m->cols;
        float *to = out + r * m->cols, left = m->left[r];

        for (size_t c = 0; c < m->cols; c++)
            to[c] = in[c] * left * m->right[c];
    }
}

void moment_apply(const struct moment *m, const float *w, float *out)
{
    size_t count = (size_t)m->rows * m->cols;

    require(count > 0);
    if (m->kind == MOMENT_ADAFACTOR)
        apply_factors(m, w, out);
    else if (m->kind == MOMENT_ADAM)
        for (size_t i = 0; i < count; i++)
            out[i] = w[i] * m->full[i];
    else if (out != w)
        memcpy(out, w, count * sizeof *out);
}

void moment_plain_adam(uint32_t rows, uint32_t cols, const float *v, double eps, const float *w,
                       float *out)
{
    for (size_t i = 0; i < (size_t)rows * cols; i++)
        out[i] = (float)((double)w[i] / (sqrt((double)v[i]) + eps));
}

void moment_plain_adafactor(uint32_t rows, uint32_t cols, const float *row, const float *col,
                            double eps, const float *w, float *out)
{
    double mean = mean_with_eps(row, rows, eps);

    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) {
            double v = ((double)row[r] + eps) * ((double)col[c] + eps) / mean;

            out[r * cols + c] = (float)((double)w[r * cols + c] / sqrt(v));
        }
}
