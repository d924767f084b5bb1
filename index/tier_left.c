/* tier_left.c - the rows that no bound rules out, one list for each query and end: scored from the
 * highest bound down, until the next is below the bar. See tier_part.h.
 */
#include <stdlib.h>

#include "index/tier_part.h"

enum { ASK_EVERY = 32 }; /* rows scored between looks at who still waits */

static int by_upper(const void *a, const void *b)
{
    const struct left *x = a, *y = b;

    if (x->upper < y->upper || x->upper > y->upper)
        return x->upper > y->upper ? -1 : 1;
    return x->w < y->w ? -1 : x->w > y->w;
}

int tier_left_drain(struct share *s, size_t i, int end, struct err *e)
{
    struct lefts *l = &s->lefts[i * TIER_ENDS + (size_t)end];
    const struct bar *bar = &s->t->bars[i * TIER_ENDS + (size_t)end];
    int failed = 0;

    if (l->count > 1)
        qsort(l->at, l->count, sizeof *l->at, by_upper);
    for (size_t n = 0; n < l->count && !failed && !(l->at[n].upper < tier_bar_at(bar)); n++) {
        if (tier_is_settled(&s->w, i, l->at[n].w))
            continue; /* scored from the other end's list */
        if (n % ASK_EVERY == ASK_EVERY - 1)
            failed = tier_cancelled(s, e);
        tier_set_settled(&s->w, i, l->at[n].w);
        if (!failed)
            failed = tier_exact_one(s, i, l->at[n].w, e);
    }
    l->count = 0;
    return failed;
}

int tier_left_push(struct share *s, size_t i, int end, struct left left, struct err *e)
{
    struct lefts *l = &s->lefts[i * TIER_ENDS + (size_t)end];
    int failed = l->count < s->t->left_rows ? 0 : tier_left_drain(s, i, end, e);

    if (failed)
        return failed;
    if (l->count == l->room) {
        size_t room = l->room ? 2 * l->room : 32;
        struct left *grown = reallocarray(l->at, room, sizeof *grown);

        if (!grown)
            return err_set(e, ERR_BUSY, "no memory for %zu rows left of query %zu", room, i);
        l->at = grown;
        l->room = room;
    }
    l->at[l->count++] = left;
    return 0;
}
