/* hits.h - one hit of an answer, as JSON: what query and search have in common. Reader threads. */
#ifndef SERVER_HITS_H
#define SERVER_HITS_H

#include <stdbool.h>
#include <stddef.h>

#include "index/topk.h"
#include "storage/base/bytes.h"
#include "storage/corpus.h"

struct hits_form {
    size_t rank;            /* from 1 */
    bool text;              /* with text and meta; else straight from the block */
    const struct buf *more; /* further members, each with a comma before it; or NULL */
};

/* Appends {"id","score","rank","sequence",...}. Opens blocks of its own: call it with none open.
 * A hit whose texts are damaged has "text":null, "meta":null and "damaged":"texts".
 * TOO_LARGE once the answer is past LIMIT_ANSWER_BYTES. */
int hits_put(struct buf *b, const struct view *v, const struct topk_hit *hit,
             const struct hits_form *form, struct err *e);

#endif
