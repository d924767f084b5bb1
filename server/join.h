/* join.h - one scan for all requests that can be answered by it.
 *
 * A request that would scan a corpus takes a seat and is parked (server/pool.h). Seats of the
 * same view, filter, task, kind of score, engine and precision share a room. A room with somebody
 * in it stands in line with the jobs; when its turn comes, one scan answers all who sit there.
 * Whoever comes while it runs waits for the next. So there is no timer: an idle server scans at
 * once, a busy one takes along whoever came meanwhile.
 *
 * Each keeps what is its own: k and opponents, deadline, client. Whose time is up or whose client
 * left is let go between chunks, and the others never notice; the scan ends early when nobody is
 * left. Answers are those of a scan alone, bit for bit. Reader threads. */
#ifndef SERVER_JOIN_H
#define SERVER_JOIN_H

#include <stddef.h>
#include <stdint.h>

#include "server/scan.h"
#include "server/stop.h"

struct job;
struct join; /* all rooms; one a server */
struct metrics;
struct pool;

struct join *join_new(struct pool *p, struct metrics *m);
void join_free(struct join *n); /* after pool_free: nobody sits anywhere */

/* One request's place: in its job's arena, untouched by it while parked. */
struct join_seat {
    /* Set before. What they point to is the job's and lives until work runs again. */
    struct job *job;
    struct scan scan; /* without pool and stop */
    struct stop stop; /* of this request */
    const struct view *whole; /* held by the request; scan.view is it, or its part that */
    const char *filter;       /* lets through (NULL: all) */
    struct engine_query want;
    /* Left for when work runs again: err set, or an answer, its lists in the job's arena. Neither
     * when the request was let go: then job_stopped says why. */
    struct err err;
    struct scan_answer answer;
    size_t requests, queries; /* that this scan answered, this one's among them */
    uint64_t waited_ns;       /* from being seated to the scan's begin */
    /* join's own */
    struct join *join;
    struct join_seat *next;
    uint64_t since_ns;
};

/* From work, as its last act: the job will be parked in its seat once work has returned 0. */
void join_sit(struct join *n, struct join_seat *seat);

#endif
