/* route.h - the table of routes. A row is a route; the row is also its line in /openapi.json. */
#ifndef SERVER_ROUTE_H
#define SERVER_ROUTE_H

#include <stddef.h>

#include "server/job.h"

enum route_body {
    BODY_NONE,   /* a body is refused */
    BODY_JSON,   /* up to LIMIT_JSON_BODY; application/json */
    BODY_TENSOR, /* up to the configured body limit; application/octet-stream,
                    application/vnd.safetensors, or application/json where the route takes both */
};

struct route {
    const char *method;
    const char *path; /* "/v1/corpora/{c}/batches/{b}"; {..} captures one segment */
    unsigned scope;   /* one of enum scope */
    enum route_body body;
    bool body_optional;
    const char *summary; /* one line, for /openapi.json and docs; NULL: listed in neither */
    const char *params;  /* documented query parameters, space-separated, or NULL */
    int (*parse)(struct job *j);
    int (*work)(struct job *j);                         /* NULL: none */
    void (*commit)(struct job *const *jobs, size_t count); /* NULL: none; sets each job's err */
    int (*reply)(struct job *j);
    void (*finish)(struct job *j);                      /* NULL: nothing to give back */
};

extern const struct route route_table[];
extern const size_t route_count;

/* Finds the route and fills j->path (decoded, in the arena). UNKNOWN_ROUTE, or METHOD with the
 * allowed methods in `allow` (a static-size buffer of 64 bytes). */
int route_find(struct job *j, const char *method, const char *path, size_t path_len,
               const struct route **out, char allow[64]);

#endif
