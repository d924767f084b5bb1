/* vitals.h - what a corpus weighs on disk, plane by plane, and how fast it grows. For people who
 * look: kept in memory, not in the store. Any thread. */
#ifndef SERVER_VITALS_H
#define SERVER_VITALS_H

#include <stdint.h>

#include "storage/base/err.h"
#include "storage/corpus.h"

struct vitals; /* of all corpora; one a server */

struct vitals *vitals_new(void);
void vitals_free(struct vitals *v);

/* Bytes of a view's chunks, deleted rows included, compressed as they lie there. */
struct vitals_planes {
    uint64_t rows;                    /* encodings */
    uint64_t bits, six, low, factors; /* codes that this program reads */
    uint64_t ids;                     /* ids, sequences, norms and sums of rows */
    uint64_t texts;                   /* with meta */
};
/* Looks into chunks it has not met before: a lookup each, no data. As block_open fails. */
int vitals_weigh(struct vitals *v, const struct view *view, struct vitals_planes *out,
                 struct err *e);

/* Rows were stored. `now`: scan_now. Writer lane. */
void vitals_grew(struct vitals *v, const struct corpus *c, uint64_t rows, uint64_t now);

/* Over the last minute, or since its first batch when that is shorter (a second at least). */
struct vitals_pace {
    double rows_per_s, bytes_per_s; /* bytes of encodings */
};
void vitals_pace(struct vitals *v, const struct corpus *c, uint64_t now, struct vitals_pace *out);

/* A corpus that was dropped. */
void vitals_forget(struct vitals *v, const struct corpus *c);

#endif
