/* topk.h - the k best, under one total order: score descending, then sequence ascending
 * (TOPK_HIGHEST: proponents), or score ascending, then sequence ascending (TOPK_LOWEST: opponents).
 * -0 and +0 are equal scores. NaN never enters: it stays beside the list, for who asks. Merging is
 * associative and commutative under this order, so the answer does not depend on how rows are
 * spread. One owner; no locks. */
#ifndef INDEX_TOPK_H
#define INDEX_TOPK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct topk_hit {
    double score;
    uint64_t sequence;
    uint32_t chunk; /* the caller's: where the row lies in its list of blocks */
    uint32_t row;
};

enum topk_end { TOPK_HIGHEST, TOPK_LOWEST };

struct topk {
    enum topk_end end;
    size_t k, count;
    struct topk_hit *hits; /* k slots, the caller's memory; a heap, worst kept one first */
    bool has_nan;          /* what was offered was not always a number: */
    struct topk_hit nan;   /* one that was not */
};

void topk_init(struct topk *t, enum topk_end end, size_t k, struct topk_hit *slots);
void topk_offer(struct topk *t, const struct topk_hit *h);
void topk_merge(struct topk *into, const struct topk *from);
/* True when k are kept; *out is then the worst kept score. Anything strictly worse cannot enter. */
bool topk_bar(const struct topk *t, double *out);
/* Orders hits best first. After it, only reading is allowed. */
void topk_sort(struct topk *t);
/* a before b in the order of `end`? */
bool topk_before(enum topk_end end, const struct topk_hit *a, const struct topk_hit *b);

#endif
