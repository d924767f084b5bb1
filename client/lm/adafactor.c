/* adafactor.c - see adafactor.h. Sums run in float64, in lanes of a stated order, so that every
 * SIMD level gives the same bits; the state is float32, as in the checkpoint. */
#include "client/lm/adafactor.h"

#include <math.h>
#include <string.h>

#include "client/lm/hot.h"
#include "storage/base/check.h"

static const double eps = 1e-30;        /* added to each squared gradient: the paper's eps1 */
static const double decay_power = 0.8;  /* the decay of step t is 1 - t^-0.8 */
static const double update_limit = 1.0; /* of an update's root mean square, before the rate */

static size_t state_of(const struct shape_tensor *t)
{
    return t->rows > 1 ? (size_t)t->rows + t->cols : t->cols;
}

size_t adafactor_places(const struct shape_tensor *tensors, size_t count, size_t *place)
{
    size_t at = 0;

    for (size_t i = 0; i < count; i++) {
        if (place)
            place[i] = at;
        at += state_of(&tensors[i]);
    }
    return at;
}

static double sum_lanes(const double lane[SHAPE_LANE])
{
    double sum = 0;

    for (size_t i = 0; i < SHAPE_LANE; i++)
        sum += lane[i];
    return sum;
}

/* One row: squares (n) += its squares with eps; returns their sum. */
HOT static double square_row(size_t n, const float *restrict g, double scale,
                             double *restrict squares)
{
    double lane[SHAPE_LANE] = {0};

    for (size_t base = 0; base < n; base += SHAPE_LANE)
        for (size_t i = 0; i < SHAPE_LANE; i++) {
            const double x = (double)g[base + i] * scale, square = x * x + eps;
            squares[base + i] += square;
            lane[i] += square;
        }
    return sum_lanes(lane);
}

/* One row: g (n) *= left * right (n); returns the sum of its squares then. */
HOT static double divide_row(size_t n, float *restrict g, double left, const double *restrict right)
{
    double lane[SHAPE_LANE] = {0};

    for (size_t base = 0; base < n; base += SHAPE_LANE)
        for (size_t i = 0; i < SHAPE_LANE; i++) {
            const double u = (double)g[base + i] * (left * right[base + i]);
            g[base + i] = (float)u;
            lane[i] += u * u;
        }
    return sum_lanes(lane);
}

HOT static void descend(size_t n, float *restrict params, const float *restrict update, float rate)
{
    for (size_t base = 0; base < n; base += SHAPE_LANE)
        for (size_t i = base; i < base + SHAPE_LANE; i++)
            params[i] -= rate * update[i];
}

/* state (n) moves towards mean (n) * factor. */
static void remember(float *state, size_t n, double decay, const double *mean, double factor)
{
    for (size_t i = 0; i < n; i++)
        state[i] = (float)(decay * (double)state[i] + (1 - decay) * (mean[i] * factor));
}

/* grads := grads / sqrt(V), V = row col / mean(row); returns the sum of their squares. */
static double divide_matrix(const struct adafactor_step *s, const struct shape_tensor *t,
                            double decay, float *grads, float *state, double *scratch)
{
    const size_t rows = t->rows, cols = t->cols;
    float *row = state, *col = state + rows;
    double *squares = scratch, *right = scratch + cols, mean = 0, sum = 0, root;

    memset(squares, 0, cols * sizeof *squares);
    for (size_t r = 0; r < rows; r++) {
        const double all = square_row(cols, grads + r * cols, (double)s->scale, squares);
        remember(&row[r], 1, decay, &all, 1 / (double)cols);
        mean += (double)row[r];
    }
    remember(col, cols, decay, squares, 1 / (double)rows);
    root = sqrt(mean / (double)rows);
    for (size_t c = 0; c < cols; c++)
        right[c] = 1 / sqrt((double)col[c]);
    for (size_t r = 0; r < rows; r++)
        sum += divide_row(cols, grads + r * cols, (double)s->scale * root / sqrt((double)row[r]),
                          right);
    return sum;
}

static double divide_vector(const struct adafactor_step *s, const struct shape_tensor *t,
                            double decay, float *grads, float *state, double *scratch)
{
    double *squares = scratch, *right = scratch + t->cols;

    memset(squares, 0, t->cols * sizeof *squares);
    square_row(t->cols, grads, (double)s->scale, squares);
    remember(state, t->cols, decay, squares, 1);
    for (size_t c = 0; c < t->cols; c++)
        right[c] = 1 / sqrt((double)state[c]);
    return divide_row(t->cols, grads, (double)s->scale, right);
}

void adafactor_update(const struct adafactor_step *s, const struct shape_tensor *t, float *grads,
                      float *params, float *state, double *scratch)
{
    const size_t n = (size_t)t->rows * t->cols;
    const double decay = 1 - pow((double)s->step, -decay_power);
    double sum, size;

    require(s->step > 0 && t->cols % SHAPE_LANE == 0);
    sum = t->rows > 1 ? divide_matrix(s, t, decay, grads, state, scratch)
                      : divide_vector(s, t, decay, grads, state, scratch);
    size = sqrt(sum / (double)n) / update_limit;
    descend(n, params, grads, (float)((double)s->rate / (size > 1 ? size : 1)));
}
