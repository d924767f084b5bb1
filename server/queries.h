/* queries.h - query gradients as they travel: a safetensors file with `queries` (and perhaps
 * `options`, the members that JSON would have), or JSON; or by name: a saved query, an example of
 * the corpus. Reader threads. */
#ifndef SERVER_QUERIES_H
#define SERVER_QUERIES_H

#include <stddef.h>

#include "server/job.h"
#include "server/json.h"
#include "storage/corpus.h"

struct queries {
    float *vectors;  /* count x dim, unit, in the job's arena */
    double *lengths; /* count: of what was made unit */
    size_t count;
    json_t *options; /* the JSON body, or the tensor `options`; or NULL; queries_free */
};

/* What stands in the place of vectors in the body: at most one of them. */
struct queries_named {
    const char *saved; /* the name of a saved query, or NULL */
    const char *like;  /* the id of an example, whose own stored vector is asked with; or NULL */
};

/* Reads the job's body, checks it against the view's corpus (dimension, type, finite, not zero,
 * fingerprint) and encodes every row as the view's were, to unit float32. `members` are what a JSON
 * body may hold, "queries" among them, NULL-terminated. The error names tensor or member, and row.
 */
int queries_read(struct job *j, const struct view *v, const char *const members[],
                 struct queries *out);
/* The same for a route that also runs saved queries: `saved` NULL, or the name of one; the JSON
 * member "saved" overrides it. Then the body is empty, or JSON with options alone.
 * UNKNOWN_QUERY. */
int queries_read_saved(struct job *j, const struct view *v, const char *const members[],
                       const char *saved, struct queries *out);
/* The same with the members "saved" and "like", where `members` has them. An example is taken as it
 * is stored, so after a fit nothing is encoded. UNKNOWN_EXAMPLE. */
int queries_read_named(struct job *j, const struct view *v, const char *const members[],
                       const struct queries_named *named, struct queries *out);
void queries_free(struct queries *q);

#endif
