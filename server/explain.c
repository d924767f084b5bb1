/* explain.c - see explain.h. */
#include "server/explain.h"

#include <string.h>

#include "index/exact.h"
#include "index/kern.h"
#include "index/lens.h"
#include "server/json.h"
#include "server/lenses.h"
#include "server/strange.h"

/* What a product becomes a score by: the row's length, or its denominator, or neither (0). */
static int row_measure(const struct explain *x, bool dot, const struct topk_hit *hit, double *out,
                       struct err *e)
{
    const struct view_chunk *chunk = &x->view->chunks[hit->chunk];
    const double *n = NULL;
    struct block rows;
    int code = 0;

    *out = 0.0;
    if (dot) {
        code = block_open(chunk, BLOCK_ROWS, &rows, e);
        if (code)
            return code;
        *out = block_row_norm(&rows, hit->row);
        block_close(&rows);
    } else if (x->lens) {
        code = lenses_norms(x->lens, chunk, &n, e);
        if (!code)
            *out = n[hit->row];
    }
    return code;
}

static double score_of(const struct explain *x, double dot, double measure, const double *length)
{
    if (length)
        return exact_scale(dot, measure, *length);
    return x->lens ? lens_score(dot, measure) : dot;
}

int explain_score(const struct explain *x, const float *query, const double *length,
                  const struct topk_hit *hit, double *out, struct err *e)
{
    const struct corpus_def *def = corpus_def(x->view->corpus);
    struct block row;
    double measure;
    int code = row_measure(x, length != NULL, hit, &measure, e);

    if (!code)
        code = block_open_row(&x->view->chunks[hit->chunk], hit->row, &row, e);
    if (code)
        return code;
    *out = score_of(x, kern_dot((enum dtype)def->dtype, query, row.bytes, def->dim), measure,
                    length);
    block_close(&row);
    return isfinite(*out) ? 0 : strange_row(x->view, hit->chunk, hit->row, e);
}

int explain_hit(const struct explain *x, const float *query, const double *length,
                const struct topk_hit *hit, double *shares, struct err *e)
{
    const struct view_chunk *chunk = &x->view->chunks[hit->chunk];
    const struct corpus_def *def = corpus_def(x->view->corpus);
    size_t at = 0;
    enum dtype type = (enum dtype)def->dtype;
    struct block rows;
    bool strange = false;
    double measure;
    int code = row_measure(x, length != NULL, hit, &measure, e);

    if (!code)
        code = block_open_row(chunk, hit->row, &rows, e);
    if (code)
        return code;
    for (size_t b = 0; b < x->shape->count; b++) {
        const unsigned char *part = rows.bytes + at * dtype_size(type);

        shares[b] = score_of(x, kern_dot(type, query + at, part, x->shape->dims[b]), measure,
                             length);
        strange |= !isfinite(shares[b]);
        at += x->shape->dims[b];
    }
    block_close(&rows);
    return strange ? strange_row(x->view, hit->chunk, hit->row, e) : 0;
}

void explain_put(struct buf *b, const struct manifest_shape *shape, const double *shares)
{
    buf_add_text(b, ",\"blocks\":[");
    for (size_t i = 0; i < shape->count; i++) {
        buf_add_text(b, i ? ",{\"name\":" : "{\"name\":");
        json_put_text(b, shape->names[i], strlen(shape->names[i]));
        buf_add_text(b, ",\"share\":");
        json_put_real(b, shares[i]);
        buf_add(b, "}", 1);
    }
    buf_add(b, "]", 1);
}
