/* queries.h - query gradients as they travel: a safetensors file with `queries`, or JSON. Reader
 * threads. */
#ifndef SERVER_QUERIES_H
#define SERVER_QUERIES_H

#include <stddef.h>

#include "server/job.h"
#include "server/json.h"
#include "storage/corpus.h"

struct queries {
    float *vectors; /* count x dim, unit, in the job's arena */
    size_t count;
    json_t *options; /* the JSON body with its other members, or NULL; queries_free */
};

/* Reads the job's body, checks it against the corpus (dimension, type, finite, not zero,
 * fingerprint) and normalises every row to unit float32. `members` are what a JSON body may
 * hold, "queries" among them, NULL-terminated. The error names tensor or member and row. */
int queries_read(struct job *j, const struct corpus *c, const char *const members[],
                 struct queries *out);
void queries_free(struct queries *q);

#endif
