/* tier_bar.c - the score to beat, shared by the threads of a search. See tier_part.h.
 *
 * A thread that reads an old value reads a lower one: it may score a row too many, never one too
 * few.
 */
#include "index/tier_part.h"

#include <math.h>

#include "storage/base/check.h"

int tier_bar_init(struct bar *b, double *kept, size_t k)
{
    *b = (struct bar){.kept = kept, .k = k};
    atomic_init(&b->at, k ? -INFINITY : INFINITY); /* an end that is not asked takes nothing */
    return pthread_mutex_init(&b->lock, NULL);
}

void tier_bar_fini(struct bar *b)
{
    pthread_mutex_destroy(&b->lock);
}

static void sift_up(double *heap, size_t i)
{
    while (i && heap[i] < heap[(i - 1) / 2]) {
        double keep = heap[i];

        heap[i] = heap[(i - 1) / 2];
        heap[(i - 1) / 2] = keep;
        i = (i - 1) / 2;
    }
}

static void sift_down(double *heap, size_t count)
{
    size_t i = 0, child;

    while ((child = 2 * i + 1) < count) {
        double keep = heap[i];

        if (child + 1 < count && heap[child + 1] < heap[child])
            child++;
        if (heap[i] <= heap[child])
            return;
        heap[i] = heap[child];
        heap[child] = keep;
        i = child;
    }
}

void tier_bar_offer(struct bar *b, double score)
{
    if (score < tier_bar_at(b) || !b->k)
        return;
    require(pthread_mutex_lock(&b->lock) == 0);
    if (b->count < b->k) {
        b->kept[b->count] = score;
        sift_up(b->kept, b->count++);
    } else if (score > b->kept[0]) {
        b->kept[0] = score;
        sift_down(b->kept, b->count);
    }
    if (b->count == b->k)
        atomic_store_explicit(&b->at, b->kept[0], memory_order_relaxed);
    require(pthread_mutex_unlock(&b->lock) == 0);
}
