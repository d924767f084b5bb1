/* passages.h - a corpus file in memory: JSON Lines, one object a line with `id`, `text` and perhaps
 * `meta`. Read once, whole; everything is checked here so that nothing later meets a bad line.
 * Immutable after reading; any thread may look. */
#ifndef CLIENT_LM_PASSAGES_H
#define CLIENT_LM_PASSAGES_H

#include <stddef.h>

#include "storage/base/err.h"

enum {
    PASSAGES_ID_MAX = 256,        /* bytes; the server's own limits, met before hours of work */
    PASSAGES_META_MAX = 64 << 10, /* bytes of compact JSON */
    PASSAGES_LINE_MAX = 1 << 20,  /* bytes; one line is held and parsed whole */
    PASSAGES_MAX = 1 << 24        /* lines */
};

struct passage {
    char *id;   /* UTF-8, NUL-terminated */
    char *text; /* UTF-8, text_len bytes, no NUL inside */
    size_t text_len;
    char *line; /* {"id","text","meta"} as one line of compact JSON: what a batch carries */
    size_t line_len;
};

struct passages {
    struct passage *list; /* owned, and so are the strings in it */
    size_t count;
};

/* Reads `path`. BAD_JSON, BAD_ID, DUPLICATE_ID, BAD_UTF8, TOO_LARGE name the line (err.index, from
 * 1); IO when the file cannot be read, INVALID when it has no lines. On failure nothing is held. */
int passages_read(struct passages *ps, const char *path, struct err *e);
void passages_free(struct passages *ps);

#endif
