/* annex.h - what a corpus has beside its rows: records with large files (artifacts) behind them.
 *
 * The annex without a name is the corpus's *state*: how its rows are encoded. It changes only
 * together with all rows (rewrite_corpus), and every view carries the one its rows belong to;
 * NULL means as ingested. Named annexes are tasks. Each remembers the epoch, the count of state
 * changes, it was made for. Storage knows a record's name, epoch and artifacts; its text is its
 * user's.
 *
 * An annex is immutable and counted; a replaced one lives until its last reference goes, its
 * files with it. Calls marked [W] and [R] as in storage/store.h.
 */
#ifndef STORAGE_ANNEX_H
#define STORAGE_ANNEX_H

#include <stddef.h>
#include <stdint.h>

#include "storage/artifact.h"
#include "storage/corpus.h"

enum { ANNEX_ARTIFACTS = 2 };
#define ANNEX_TEXT_MAX ((size_t)1 << 20)

struct annex_def {
    const char *name; /* a valid store name, or "" for the state */
    uint64_t epoch;
    const char *text; /* opaque, copied; at most ANNEX_TEXT_MAX */
    size_t artifact_count;
    struct artifact *artifacts[ANNEX_ARTIFACTS]; /* references of their own are taken */
};

struct annex; /* storage/annex_record.h */

const struct annex_def *annex_def(const struct annex *a);
void annex_retain(struct annex *a);
void annex_release(struct annex *a); /* NULL is fine */

/* [R] The corpus's epoch as a view has it: 0 before the first fit. */
uint64_t view_epoch(const struct view *v);

/* [R] A reference to the annex of that name, or NULL. */
struct annex *annex_find(struct corpus *c, const char *name);
/* [R] References to all named ones, by name; the array is the caller's (free). */
size_t annex_list(struct corpus *c, struct annex ***out_list);

/* [W] Makes, or replaces, a named annex; durable when it returns. STALE when the corpus's epoch
 * is not the definition's; CONFLICT when `replaces` is not what stands there now (NULL: must not
 * exist). */
int annex_put(struct corpus *c, const struct annex_def *def, const struct annex *replaces,
              struct err *e);
/* [W] UNKNOWN_TASK when there is none. */
int annex_delete(struct corpus *c, const char *name, struct err *e);

/* [R] What the user made of the artifacts, made once and kept as long as the annex: `make` runs
 * at the first call (others wait), `drop` with the last reference. NULL when make failed; it is
 * tried again. */
typedef void *annex_make(struct annex *a, void *arg, struct err *e);
void *annex_derived(struct annex *a, annex_make *make, void (*drop)(void *thing), void *arg,
                    struct err *e);

#endif
