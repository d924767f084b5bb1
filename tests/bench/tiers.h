/* tiers.h - the tiered engine over the benchmark's rows: codes in memory, made at the start, and
 * one search shared by threads. */
#ifndef TESTS_BENCH_TIERS_H
#define TESTS_BENCH_TIERS_H

#include "tests/bench/rows.h"

struct tiers;        /* codes of all rows */
struct tiers_search; /* one batch of queries under way */

const char *tiers_kernels(void); /* name of the table that kern_init picked */

/* Encodes all rows with `threads` threads. `rows` outlives it. delta 0: 1e-9. */
struct tiers *tiers_new(const struct rows *rows, size_t threads, double delta);
void tiers_free(struct tiers *t); /* NULL is nothing */

struct tiers_search *tiers_begin(struct tiers *t, const struct engine_query *q, bool probabilistic);
/* One thread's share, into lists of its own. */
int tiers_share(struct tiers_search *s, struct topk *pro, struct topk *opp,
                struct engine_work *work, struct err *e);
void tiers_end(struct tiers_search *s); /* NULL is nothing */

/* The tiers' part of the work: summed, and printed as further members of a JSON object. */
void tiers_work_add(struct engine_work *to, const struct engine_work *from);
void tiers_work_print(const struct engine_work *w);

#endif
