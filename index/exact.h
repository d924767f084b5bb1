/* exact.h - the exact kernel over one block, and the bound that lets a float32 engine propose.
 *
 * What every engine ends in, and what the plain search is made of. Calls nothing that allocates;
 * any thread.
 */
#ifndef INDEX_EXACT_H
#define INDEX_EXACT_H

#include <stdbool.h>

#include "index/engine.h"

enum { EXACT_PRO = 1, EXACT_OPP = 2 };

static inline bool exact_dead(const struct engine_block *b, uint32_t row)
{
    return b->dead && (b->dead[row / 64] >> (row % 64) & 1);
}

/* Offers one row with its exact score. `block` is the block's number in the source. */
void exact_offer(const struct engine_source *src, const struct engine_block *b, size_t block,
                 uint32_t row, double score, struct topk *to);

/* score of one row */
double exact_score(const struct engine_source *src, const struct engine_block *b, uint32_t row,
                   const float *query);

/* The score of gradients as long as they are, from the product of their unit vectors: two products,
 * each rounded once, that of the lengths first, so that row and query may change places. Nothing
 * over- or underflows: a dot that is not 0 is at least 2^-298, and lengths, whitened or not, lie
 * well within 2^-300 and 2^300. */
static inline double exact_scale(double dot, double row_length, double query_length)
{
    return dot * (row_length * query_length);
}

/* Scores all live rows for the queries whose wanted[q] is not 0 and offers them to pro[q], opp[q],
 * or both. wanted = NULL: all queries, all ends that `q` asks. Returns the scores computed. */
uint64_t exact_block(const struct engine_source *src, const struct engine_block *b, size_t block,
                     const struct engine_query *q, const unsigned char *wanted, struct topk *pro,
                     struct topk *opp);

/* An upper bound on the length of `count` rows of d elements. */
double exact_longest(enum dtype t, const void *rows, size_t count, size_t d);

/* How far a float32 dot product of d elements may be from the exact kernel's, in whatever order it
 * was summed and whether or not multiplications and additions were fused; |q| and |x| are upper
 * bounds on lengths. Infinite when no bound holds. docs/exactness.md has the proof. */
double exact_float32_error(size_t d, double q_length, double x_length);

#endif
