/* saved.h - saved queries in the store: what was asked of the model, what it said, the gradient.
 *
 * Two records each, so that lists need not read gradients: the gradient under a name of its own
 * first, then the entry that names it; what no entry names does not exist. Keys begin with the
 * corpus's id, so a corpus of the same name made later sees nothing of them. Calls marked [W] are
 * made on the writer lane, the others by any thread. */
#ifndef SERVER_SAVED_H
#define SERVER_SAVED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"
#include "storage/store.h"

enum { SAVED_NONCE = 8 };

/* An entry; `text` points into the record it was read from. */
struct saved {
    unsigned char nonce[SAVED_NONCE];
    uint64_t created; /* seconds since 1970 */
    uint32_t dim;
    const char *text; /* a JSON object: prompt, target, output, tags, methods */
    size_t text_len;
};

/* [W] Durable when it returns. Replaces what stands under the name: *out_created false. TOO_LARGE
 * past LIMIT_SAVED entries. */
int saved_put(struct store *s, uint32_t corpus, const char *name, const char *text, size_t text_len,
              const float *gradient, uint32_t dim, bool *out_created, struct err *e);
/* [W] UNKNOWN_QUERY when there is none. */
int saved_delete(struct store *s, uint32_t corpus, const char *name, struct err *e);
/* [W] All of a corpus that was dropped. */
void saved_forget(struct store *s, uint32_t corpus);

/* *out points into `record` (buf_free). UNKNOWN_QUERY. */
int saved_get(struct store *s, uint32_t corpus, const char *name, struct buf *record,
              struct saved *out, struct err *e);
/* dim float32, as they were given, into `gradient` (buf_free). */
int saved_gradient(struct store *s, uint32_t corpus, const char *name, const struct saved *of,
                   struct buf *gradient, struct err *e);
/* In the order of names, until visit returns false. */
typedef bool saved_visit(void *arg, const char *name, const struct saved *entry);
int saved_each(struct store *s, uint32_t corpus, saved_visit *visit, void *arg, struct err *e);

#endif
