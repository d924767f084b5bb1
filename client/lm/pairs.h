/* pairs.h - questions with their answers, one a line: a prompt, a target, and texts to hold against
 * them: the passages of tail-patch or the candidates of score. Read once, whole, and checked
 * strictly, so that nothing later meets a bad line but a text too long for the model. Immutable
 * after reading; any thread may look. */
#ifndef CLIENT_LM_PAIRS_H
#define CLIENT_LM_PAIRS_H

#include <stddef.h>

#include "storage/base/err.h"

enum {
    PAIRS_MAX = 1 << 20,       /* lines */
    PAIRS_ITEMS_MAX = 1 << 16, /* of one line */
    PAIRS_LINE_MAX = 64 << 20, /* bytes */
    PAIRS_ID_MAX = 256         /* bytes */
};

enum pairs_kind {
    PAIRS_PASSAGES,  /* "passages": [{"id","text"}, ...], at least one */
    PAIRS_CANDIDATES /* "candidates": ["text", ...], perhaps none */
};

struct pairs_text {
    char *bytes; /* UTF-8, len bytes, no NUL inside; owned by the pairs */
    size_t len;
};

struct pairs_item {
    char *id;    /* of a passage; NULL for a candidate */
    struct pairs_text text; /* not empty */
};

struct pair {
    size_t line;            /* in the file, from 1 */
    char *id;
    struct pairs_text prompt, target; /* the target is not empty */
    struct pairs_item *items;
    size_t count;
};

struct pairs {
    struct pair *list; /* owned, and so is everything in it */
    size_t count, items; /* lines; items of all of them */
};

/* BAD_JSON (also on an unknown member or an empty text), BAD_ID, BAD_UTF8, TOO_LARGE name the line;
 * IO when the file cannot be read, INVALID when it has no lines. On failure nothing is held. */
int pairs_read(struct pairs *ps, const char *path, enum pairs_kind kind, struct err *e);
void pairs_free(struct pairs *ps);

/* Says of an error that it was met at this line of the file; gives its code. */
int pairs_at_line(const struct pair *p, struct err *e);

#endif
