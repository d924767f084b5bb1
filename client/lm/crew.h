/* crew.h - a fixed set of threads that do one thing together, then wait for the next.
 *
 * crew_run is called by the owner only; the function runs once on every member, and all have
 * returned (and what they wrote is seen) when crew_run does. */
#ifndef CLIENT_LM_CREW_H
#define CLIENT_LM_CREW_H

#include "storage/base/err.h"

enum { CREW_MAX = 256 };

struct crew;

/* 1 to CREW_MAX members; the caller's thread is member 0. INVALID or IO on failure. */
int crew_start(struct crew **out, unsigned members, struct err *e);
void crew_run(struct crew *c, void (*work)(void *ctx, unsigned member, unsigned members),
              void *ctx);
void crew_stop(struct crew *c); /* c may be NULL */

/* Processors this process may use: the default for --threads. */
unsigned crew_processors(void);

#endif
