/* strange.c - see strange.h. */
#include "server/strange.h"

#include <inttypes.h>

int strange_row(const struct view *v, size_t chunk, uint32_t row, struct err *e)
{
    const struct view_chunk *c = &v->chunks[chunk];
    int code = block_distrust(c, e);

    if (code)
        return code;
    return err_set(e, ERR_CORRUPT,
                   "corpus %s: chunk %" PRIu64 ": a score at row %u is no number, and was read "
                   "from bytes that are right again", corpus_def(v->corpus)->name, c->id, row);
}

/* An infinite one stands at one end of the list, wherever its rows were read. */
static const struct topk_hit *strange_of(const struct topk *t)
{
    if (t->has_nan)
        return &t->nan;
    for (size_t i = 0; i < t->count; i++)
        if (!isfinite(t->hits[i].score))
            return &t->hits[i];
    return NULL;
}

int strange_hits(const struct view *v, const struct topk *lists, size_t count, struct err *e)
{
    for (size_t i = 0; i < count; i++) {
        const struct topk_hit *hit = strange_of(&lists[i]);

        if (hit)
            return strange_row(v, hit->chunk, hit->row, e);
    }
    return 0;
}
