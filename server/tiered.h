/* tiered.h - engine `tiered` (index/tier.h) over a view's chunks: brings it planes of codes, single
 * rows, and what makes a score of a product. Reader threads. */
#ifndef SERVER_TIERED_H
#define SERVER_TIERED_H

#include "index/engine.h"
#include "index/topk.h"
#include "server/scan.h"
#include "server/stop.h"
#include "storage/base/err.h"

struct tiered; /* one search */

/* What the scan's view, lens, lengths, precision and delta ask for, of `q`, by up to `threads`
 * threads; all of it, and `stop`, must stay until tiered_free. BUSY. */
int tiered_new(const struct scan *s, const struct engine_query *q, unsigned threads,
               const struct stop *stop, struct tiered **out, struct err *e);
void tiered_free(struct tiered *t); /* NULL is fine */

/* What the answer rests on: where all rows are scored anyway, on proof. */
enum tier_precision tiered_precision(const struct tiered *t);

/* One thread's share, as tier_share. */
int tiered_share(struct tiered *t, struct topk *pro, struct topk *opp, struct engine_work *work,
                 struct err *e);

#endif
