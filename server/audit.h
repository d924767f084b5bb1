/* audit.h - who did what, to what, when, from where, and what came of it: one logfmt line for each
 * request that changes or administers something, and for each that was turned away for its key.
 *
 *   ts=... audit=change method=PUT route=/v1/corpora/{c}/batches/{b} corpus=facts on=b1 key=ID
 *          label=trainer scope=write peer=127.0.0.1:4711 request=... status=201 code=ok
 *
 * audit is `change` (a route of scope write or admin), `look` (one that only shows, of scope
 * admin), `denied` (401 and 403) or `server` (start, stop). Never in a line: secrets, bodies,
 * texts, query strings. A line is written before its answer goes out, so what was acknowledged is
 * in the file whatever becomes of the process; it is not synced, so a power cut may take the last
 * seconds. Refusals are counted past a few a second, not written: who has no key must not fill the
 * disk.
 *
 * Lines go to the log (as msg=audit) or to a file of their own: opened to append, mode 0600, opened
 * again by audit_reopen, so that it can be rotated. Loop thread, and main before and after it.
 */
#ifndef SERVER_AUDIT_H
#define SERVER_AUDIT_H

#include <stdbool.h>

#include "storage/base/err.h"

struct audit;
struct exchange;
struct metrics;

/* where: "log", "off" or a path. IO, INVALID with the path named. */
struct audit *audit_new(const char *where, struct metrics *metrics, struct err *e);
void audit_free(struct audit *a);

/* The file under its name anew; the one before it when that fails. False: there is no file. */
bool audit_reopen(struct audit *a);

/* The request is answered, or its client is gone (status 499). Looks whether it is of interest. */
void audit_request(struct audit *a, const struct exchange *x, int status);
/* what: one word; detail: a few */
void audit_server(struct audit *a, const char *what, const char *detail);

#endif
