/* topk.c - the k best as a heap with the worst kept one at the root. See topk.h for the order.
 *
 * Works in the caller's slots; never allocates. One owner.
 */
#include "index/topk.h"

#include <math.h>

#include "storage/base/check.h"
#include "storage/base/plant.h"

bool topk_before(enum topk_end end, const struct topk_hit *a, const struct topk_hit *b)
{
    if (a->score != b->score)
        return end == TOPK_HIGHEST ? a->score > b->score : a->score < b->score;
    return planted(TIES_TURNED) ? a->sequence > b->sequence : a->sequence < b->sequence;
}

void topk_init(struct topk *t, enum topk_end end, size_t k, struct topk_hit *slots)
{
    require(k == 0 || slots != NULL);
    *t = (struct topk){.end = end, .k = k, .hits = slots};
}

static void swap(struct topk_hit *a, struct topk_hit *b)
{
    struct topk_hit c = *a;

    *a = *b;
    *b = c;
}

/* Lets the hit at `at` rise while it is worse than its parent. */
static void rise(struct topk *t, size_t at)
{
    while (at > 0) {
        size_t up = (at - 1) / 2;

        if (!topk_before(t->end, &t->hits[up], &t->hits[at]))
            return;
        swap(&t->hits[up], &t->hits[at]);
        at = up;
    }
}

/* Lets the root sink among the first `count` hits while a child is worse. */
static void sink(struct topk *t, size_t count)
{
    size_t at = 0;

    for (;;) {
        size_t worst = at, child = 2 * at + 1;

        for (size_t i = child; i < count && i < child + 2; i++)
            if (topk_before(t->end, &t->hits[worst], &t->hits[i]))
                worst = i;
        if (worst == at)
            return;
        swap(&t->hits[at], &t->hits[worst]);
        at = worst;
    }
}

void topk_offer(struct topk *t, const struct topk_hit *h)
{
    if (isnan(h->score)) {
        t->has_nan = true;
        t->nan = *h;
    } else if (t->count < t->k) {
        t->hits[t->count] = *h;
        rise(t, t->count++);
    } else if (t->k && topk_before(t->end, h, &t->hits[0])) {
        t->hits[0] = *h;
        sink(t, t->count);
    }
}

/* `from` may be sorted or not; it stays as it is. */
void topk_merge(struct topk *into, const struct topk *from)
{
    require(into->end == from->end);
    for (size_t i = 0; i < from->count; i++)
        topk_offer(into, &from->hits[i]);
    if (from->has_nan)
        topk_offer(into, &from->nan);
}

/* False for k = 0: there is no kept score. */
bool topk_bar(const struct topk *t, double *out)
{
    if (!t->k || t->count < t->k)
        return false;
    *out = t->hits[0].score;
    return true;
}

/* Heapsort: the worst goes to the end, again and again. */
void topk_sort(struct topk *t)
{
    for (size_t left = t->count; left > 1; left--) {
        swap(&t->hits[0], &t->hits[left - 1]);
        sink(t, left - 1);
    }
}
