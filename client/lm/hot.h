/* hot.h - HOT: compile a function for each SIMD level and pick at start. For loops whose elements
 * do not touch each other, or whose sums run in stated lanes: without contraction every level then
 * gives the same bits. Sanitizers start too late for the picking, so checking builds go without. */
#ifndef CLIENT_LM_HOT_H
#define CLIENT_LM_HOT_H

#ifdef ASCRIBE_DEBUG
#define HOT
#else
#define HOT __attribute__((target_clones("avx512f", "avx2", "default")))
#endif

#endif
