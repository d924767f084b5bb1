/* pack.h - several passages side by side, without padding: what one pass of the network takes.
 *
 * Rows are positions of the network: `token` goes in, `target` is to be predicted, `weight` is the
 * share of its loss. A passage of more rows than the context becomes several windows; attention
 * stays inside a window. Groups remember which rows belong to which passage. One owner; reused.
 *
 * Or a tree of rows, to read many continuations of one prompt at once: each row attends to itself
 * and to those on its way to the root (SpecInfer's tree attention: Miao et al., 2023, arXiv
 * 2305.09781). Forward only: targets, weights, windows and groups mean nothing then. */
#ifndef CLIENT_LM_PACK_H
#define CLIENT_LM_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/err.h"

struct pack {
    uint32_t context;  /* longest window */
    uint32_t rows;     /* N */
    uint32_t windows;  /* S */
    uint32_t groups;   /* passages */
    uint32_t *token, *target, *position; /* N each; owned, like all below */
    uint32_t *parent;  /* N, of a tree: the row before; the root's is itself */
    bool tree;
    float *weight;     /* N */
    uint32_t *window;  /* S + 1 row numbers; the last is N */
    uint32_t *group;   /* groups + 1 row numbers; the last is N */
    size_t row_cap, group_cap;
    bool failed;       /* out of memory: sticky; pack_check tells */
};

void pack_init(struct pack *p, uint32_t context);
void pack_fini(struct pack *p);
void pack_clear(struct pack *p);

/* Adds a passage of `count` >= 1 tokens after TOK_END. The first `given` tokens are only read
 * (weight 0), the rest have weight 1; `ending` adds the TOK_END after the last as a target. */
void pack_add(struct pack *p, const uint32_t *tokens, size_t count, size_t given, bool ending);

/* Adds a row that reads `token` after row `parent` of the tree; the first row is the root, reads
 * TOK_END and has no parent (any number will do). Returns its number. A way from the root has at
 * most `context` rows: require. Clear the pack before going over from passages or to them. */
uint32_t pack_branch(struct pack *p, uint32_t parent, uint32_t token);

/* BUSY when an earlier pack_add or pack_branch had no memory. */
int pack_check(const struct pack *p, struct err *e);

/* The sum of the weights: how many tokens the loss is over. */
double pack_weight(const struct pack *p);

#endif
