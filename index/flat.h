/* flat.h - engine `flat`: FAISS IndexFlatIP proposes, the exact kernel decides. flat.c is the only
 * file that names faiss_.
 *
 * One FAISS index a chunk: chunks are immutable, so an index is never added to after it is built,
 * new batches never hold up or rebuild anything, and a search needs no lock while it runs
 * (docs/adr/0005). Indexes are built at first use from the block and kept under a memory budget,
 * the least recently used given up first (index/cache.h). A chunk that does not fit is searched
 * through a passing index when the batch is large, and by the exact kernel alone when it is not:
 * copying a chunk costs more than scanning it for a few queries.
 *
 * Certification. FAISS sums in float32 in an order of its own: |faiss - exact| <= e = gamma_d |q|
 * |x| + underflow. All rows FAISS left out score at most (last proposed) + e. While that reaches
 * the k-th exact score, more are proposed, in the end all. So the answer is exact.
 */
#ifndef INDEX_FLAT_H
#define INDEX_FLAT_H

#include "index/engine.h"

struct flat; /* the cache; one per server, shared by all threads */

struct flat *flat_new(uint64_t budget_bytes);
void flat_free(struct flat *f); /* nobody may be searching */
uint64_t flat_bytes(struct flat *f); /* resident now */
void flat_forget(struct flat *f, uint64_t key); /* the chunk is gone; safe beside searches */

/* Must be called once by each thread that searches: FAISS and BLAS at one thread inside it. */
void flat_thread_init(void);

/* One thread's share: takes blocks from *next (atomic counter, shared by the threads of this
 * search) until none is left, and leaves its best in pro[q] / opp[q] (empty lists, initialised by
 * the caller with k and opponents slots; opp may be NULL when none are asked, pro too when k is 0).
 * After all threads are done, merged lists are the exact answer over the source. Memory: proposals
 * and copies of the queries, freed at return. BUSY when there is none, CANCELLED, INTERNAL with
 * FAISS's own words, or what `open` said; then the lists hold nothing of use. */
int flat_search(struct flat *f, const struct engine_source *src, const struct engine_query *q,
                _Atomic size_t *next, struct topk *pro, struct topk *opp, struct engine_work *work,
                struct err *e);

/* The oracle: exact kernel over every live row, no FAISS. Same arguments. */
int flat_search_plain(const struct engine_source *src, const struct engine_query *q,
                      _Atomic size_t *next, struct topk *pro, struct topk *opp,
                      struct engine_work *work, struct err *e);

#endif
