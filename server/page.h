/* page.h - the page: files of client/page, embedded when the program is built
 * (server/page_files.sh), served open and from memory. They hold no data and no secret: what the
 * page shows it asks for with the key of whoever looks. Loop thread.
 */
#ifndef SERVER_PAGE_H
#define SERVER_PAGE_H

#include <stddef.h>

#include "server/job.h"

struct page_file {
    const char *name; /* below client/page: "index.html", "views/answer.js" */
    const char *type; /* Content-Type */
    const char *etag; /* of its content, with the quotes */
    const unsigned char *data, *end;
};

/* Made by server/page_files.sh. */
extern const struct page_file page_files[];
extern const size_t page_file_count;

/* Takes any query parameter: an address of the page may carry one, and the script reads it. */
int page_parse(struct job *j);
/* 200, or 304 when the client has it; UNKNOWN_ROUTE. */
int page_reply(struct job *j);

/* For whoever started the server by hand: a line with a link that opens the page, the key of
 * STORE/admin.key in it. Only when standard error is a terminal: a key in a journal is a leak.
 * `address` is HOST:PORT; nothing is said for a unix socket. At start, before the loop. */
void page_tell_link(const char *address, const char *store);

/* Their rows of route_table; without a summary, so /openapi.json does not list them. */
#define PAGE_ROUTES                                                                                \
    {"GET", "/", SCOPE_OPEN, BODY_NONE, false, NULL, NULL, page_parse, NULL, NULL, page_reply,     \
     NULL},                                                                                        \
    {"GET", "/page/{file}", SCOPE_OPEN, BODY_NONE, false, NULL, NULL, page_parse, NULL, NULL,      \
     page_reply, NULL},                                                                            \
    {"GET", "/page/{folder}/{file}", SCOPE_OPEN, BODY_NONE, false, NULL, NULL, page_parse, NULL,   \
     NULL, page_reply, NULL}

#endif
