/* head.h - the head of one request, parsed as its bytes arrive. head.c is the only file that names
 * llhttp. Loop thread; no socket, no allocation.
 *
 * The bytes stay in the caller's buffer, which may move between calls: everything found is kept as
 * offsets from its start. llhttp runs in its default, non-lenient mode; what that still lets pass
 * and we do not (bare line feeds, folded lines, two Hosts, lengths that disagree) is refused here.
 */
#ifndef SERVER_HEAD_H
#define SERVER_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <llhttp.h>

#include "server/limits.h"
#include "storage/base/err.h"

struct head_span {
    uint32_t at, len;
};

struct head_field {
    struct head_span name, value;
};

struct head {
    llhttp_t parser;
    const char *base; /* of the bytes, during head_feed only */
    size_t fed;       /* bytes given to the parser so far */
    size_t size;      /* of the whole head with its empty line; valid when complete */
    bool complete;
    bool in_value;    /* the last callback was a value's */
    struct head_span target;
    uint32_t field_count;
    struct head_field field[LIMIT_HEADERS];
    struct err err;
};

/* What the framing headers say; filled by head_framing. */
struct head_framing {
    const char *method; /* static */
    bool http10;
    bool keep_alive;
    bool chunked;
    bool has_length;
    uint64_t length;
    bool expects_continue;
};

void head_start(struct head *h);

/* Parses bytes[h->fed..len). 0: look at h->complete; else the code in h->err: BAD_HTTP,
 * URI_TOO_LONG, HEADERS_TOO_LARGE. After a failure only head_start helps. */
int head_feed(struct head *h, const char *bytes, size_t len);

/* Checks the complete head as a whole. BAD_HTTP when its parts disagree. */
int head_framing(const struct head *h, const char *bytes, struct head_framing *out, struct err *e);

/* The only field of that name (case-blind). NULL when there is none; *out_count says how many. */
const struct head_field *head_find(const struct head *h, const char *bytes, const char *name,
                                   unsigned *out_count);

/* The method's name as far as the parser got, for the log. */
const char *head_method(const struct head *h);

#endif
