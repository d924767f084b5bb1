/* generate.c - see generate.h. Runs the whole window again for each token: at these sizes (a
 * millisecond) a cache of keys and values would be more code than it is worth. */
#include "client/lm/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/lm/net.h"
#include "client/lm/pack.h"
#include "client/lm/rng.h"
#include "storage/base/mem.h"

struct writer {
    const struct model *model;
    const struct generate_options *options;
    struct net32_state state;
    struct pack pack;
    struct rng rng;
    uint32_t *tokens; /* prompt and continuation; owned */
    size_t count;
    float *logits;    /* (V), owned */
};

static uint32_t most_likely(const float *logits, uint32_t vocab)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < vocab; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

static uint32_t draw(struct writer *w)
{
    const uint32_t vocab = w->model->shape.vocab;
    const float top = w->logits[most_likely(w->logits, vocab)];
    double sum = 0, mark;

    for (uint32_t i = 0; i < vocab; i++)
        sum += exp(((double)w->logits[i] - (double)top) / w->options->temperature);
    mark = rng_unit(&w->rng) * sum;
    for (uint32_t i = 0; i < vocab; i++) {
        mark -= exp(((double)w->logits[i] - (double)top) / w->options->temperature);
        if (mark < 0)
            return i;
    }
    return TOK_END; /* rounding used up the last share */
}

/* The token after the last context - 1 ones. */
static int next_token(struct writer *w, uint32_t *out, struct err *e)
{
    const size_t see = w->model->shape.context - 1;
    const size_t from = w->count > see ? w->count - see : 0;
    int rc;

    pack_clear(&w->pack);
    /* row i predicts token i; the row after the last token is what we want: its target is not
     * known, so TOK_END stands there */
    if (w->count > from) {
        pack_add(&w->pack, w->tokens + from, w->count - from, 0, true);
    } else {
        const uint32_t none = TOK_END;
        pack_add(&w->pack, &none, 1, 0, false);
    }
    rc = pack_check(&w->pack, e);
    if (!rc)
        rc = net32_fit(&w->state, &w->model->shape, w->pack.rows, e);
    if (rc)
        return rc;
    net32_forward(&w->state, w->model->params, &w->pack);
    net32_predict(&w->state, w->model->params, w->pack.rows - 1, w->logits);
    *out = w->options->temperature > 0 ? draw(w) : most_likely(w->logits, w->model->shape.vocab);
    return 0;
}

static bool ends_clause(const unsigned char *piece, size_t len)
{
    return memchr(piece, '.', len) || memchr(piece, ';', len) || memchr(piece, '(', len);
}

static int write_on(struct writer *w, struct buf *out, struct err *e)
{
    for (uint32_t i = 0; i < w->options->tokens; i++) {
        const unsigned char *piece;
        uint32_t token;
        size_t len;
        int rc = next_token(w, &token, e);
        if (rc)
            return rc;
        if (token == TOK_END)
            return 0;
        piece = tok_piece(&w->model->tok, token, &len);
        if (w->options->clause && i > 0 && ends_clause(piece, len))
            return 0;
        buf_add(out, piece, len);
        w->tokens[w->count++] = token;
    }
    return 0;
}

int generate_text(const struct model *m, const char *prompt, size_t len,
                  const struct generate_options *o, struct buf *out, struct err *e)
{
    struct writer w = {.model = m, .options = o};
    const size_t start = out->len;
    int rc;

    pack_init(&w.pack, m->shape.context);
    rng_init(&w.rng, o->seed, RNG_SAMPLE, 0);
    w.tokens = mem_big(len + o->tokens + 1, sizeof *w.tokens);
    w.logits = mem_big(m->shape.vocab, sizeof *w.logits);
    if (!w.tokens || !w.logits) {
        rc = err_set(e, ERR_BUSY, "no memory for a prompt of %zu bytes", len);
    } else {
        w.count = len ? tok_encode(&m->tok, prompt, len, w.tokens) : 0;
        rc = write_on(&w, out, e);
    }
    if (!rc && out->failed)
        rc = err_set(e, ERR_BUSY, "no memory for the text");
    if (!rc && out->len > start)
        out->len = start + bytes_utf8_error(out->data + start, out->len - start);
    net32_fini(&w.state);
    pack_fini(&w.pack);
    free(w.tokens);
    free(w.logits);
    return rc;
}
