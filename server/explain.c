/* explain.c - see explain.h. */
#include "server/explain.h"

#include <string.h>

#include "index/exact.h"
#include "index/kern.h"
#include "index/lens.h"
#include "server/json.h"
#include "server/lenses.h"

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

int explain_hit(const struct explain *x, const float *query, const double *length,
                const struct topk_hit *hit, double *shares, struct err *e)
{
    const struct view_chunk *chunk = &x->view->chunks[hit->chunk];
    const struct corpus_def *def = corpus_def(x->view->corpus);
    size_t row_bytes = corpus_row_bytes(x->view->corpus), at = 0;
    enum dtype type = (enum dtype)def->dtype;
    struct block rows;
    double measure;
    int code = row_measure(x, length != NULL, hit, &measure, e);

    if (!code)
        code = block_open(chunk, BLOCK_ENCODINGS, &rows, e);
    if (code)
        return code;
    for (size_t b = 0; b < x->shape->count; b++) {
        const unsigned char *part =
            rows.bytes + (size_t)hit->row * row_bytes + at * dtype_size(type);

        shares[b] = kern_dot(type, query + at, part, x->shape->dims[b]);
        if (length)
            shares[b] = exact_scale(shares[b], measure, *length);
        else if (x->lens)
            shares[b] = lens_score(shares[b], measure);
        at += x->shape->dims[b];
    }
    block_close(&rows);
    return 0;
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
