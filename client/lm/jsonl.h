/* jsonl.h - reads JSON Lines files: one object a line, each handed over once, every complaint
 * with the file and the line in front; and makes lines of answers. Blocking; any thread. */
#ifndef CLIENT_LM_JSONL_H
#define CLIENT_LM_JSONL_H

#include <jansson.h>
#include <stddef.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"

/* Calls `each` with every line that is not empty, in order; the object is the reader's and ends
 * with the call. Stops at the first failure. BAD_JSON, BAD_UTF8, TOO_LARGE (more than line_max
 * bytes in one line) and what `each` says carry the line's number, from 1, in err.index; IO when
 * the file cannot be read. Escaped NULs are refused, so strings end where C thinks. */
int jsonl_read(const char *path, size_t line_max,
               int (*each)(void *ctx, size_t number, json_t *object, struct err *e), void *ctx,
               struct err *e);

/* BAD_JSON, and the field, when the object has a member that is not in `known` (NULL ends it). */
int jsonl_check_members(json_t *object, const char *const known[], struct err *e);

/* *out = a member that must be a string of `least` bytes or more; BAD_JSON and the field if not. */
int jsonl_string(json_t *object, const char *name, size_t least, const char **out, struct err *e);

/* Appends the object as one compact line, numbers with nine digits; takes the reference. NULL: it
 * could not be made. BUSY when there is no memory for it. */
int jsonl_add(struct buf *out, json_t *object, struct err *e);

#endif
