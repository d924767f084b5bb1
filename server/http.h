/* http.h - small pieces of HTTP that need no socket: decoding, names, the head of a reply.
 * Pure functions; any thread. */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"
#include "storage/base/mem.h"

/* Percent-decodes `len` bytes into the arena, NUL-terminated. plus: '+' is a space (queries).
 * NULL when an escape is broken or stands for NUL. */
char *http_decode(struct arena *a, const char *text, size_t len, bool plus);

/* Does a comma-separated list (Connection, Transfer-Encoding) hold the token? Case-blind. */
bool http_list_has(const char *value, size_t len, const char *token);
bool http_equal(const char *text, size_t len, const char *token); /* case-blind, whole */

/* What names of headers are made of (RFC 9110, section 5.6.2). */
#define HTTP_TOKEN                   \
    "!#$%&'*+-.^_`|~0123456789"      \
    "abcdefghijklmnopqrstuvwxyz"     \
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* The media type in lower case without parameters, in the arena; "" for none. */
const char *http_media_type(struct arena *a, const char *value, size_t len);

/* The standard phrase of a status, "Unknown" when there is none. */
const char *http_phrase(int status);

/* An absolute-form or origin-form request target: where its path and query lie. INVALID or
 * BAD_HTTP for anything else. query may be empty. */
struct http_target {
    const char *path, *query;
    size_t path_len, query_len;
};
int http_target(const char *target, size_t len, struct http_target *out, struct err *e);

struct http_reply {
    int status;
    const char *type;     /* Content-Type; NULL: none (204) */
    uint64_t length;      /* Content-Length */
    const char *location; /* or NULL */
    const char *extra;    /* whole lines with CRLF, or NULL */
    const char *request_id;
    const char *date;     /* IMF-fixdate */
    bool keep_alive;
    bool http10;          /* says keep-alive aloud */
};
/* Appends status line and headers with the empty line. */
void http_reply_head(struct buf *out, const struct http_reply *r);

/* Appends an RFC 9457 document for `e`. */
void http_problem(struct buf *out, const struct err *e, const char *request_id);

/* Appends a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD. */
void http_json_string(struct buf *out, const char *text);

/* Fri, 01 Jan 2027 00:00:00 GMT; out holds 30. */
void http_date(int64_t unix_seconds, char out[32]);

/* Chunked bodies (RFC 9112, section 7.1), strictly: CRLF only, no spaces, sizes of at most 15
 * hex digits; extensions and trailers must have their form and are passed over, at most
 * CHUNKED_OVERHEAD bytes of an extension, or of all trailers. */
enum { CHUNKED_OVERHEAD = 4096 };
struct chunked {
    int state;
    uint64_t left;     /* data bytes of this chunk still to come */
    unsigned digits;
    unsigned overhead; /* bytes of extensions or trailers so far */
    bool line_empty;   /* in trailers: nothing on this line yet */
    bool in_value;     /* in trailers: past the colon of this line */
    bool done;
};
/* Eats as much of in[0..len) as it can: data goes by `data(arg, bytes, n)` (non-zero stops with
 * that code). *out_used is what was eaten; after `done` the rest belongs to the next request. */
int chunked_feed(struct chunked *c, const char *in, size_t len, size_t *out_used,
                 int (*data)(void *arg, const char *bytes, size_t n), void *arg, struct err *e);

#endif
