/* api_meta.h - the server about itself: /healthz /readyz /metrics /openapi.json /v1/info.
 * None has work for a reader: they are answered on the loop, whatever the readers are doing. */
#ifndef SERVER_API_META_H
#define SERVER_API_META_H

#include "server/job.h"

int meta_parse(struct job *j);
int meta_healthz(struct job *j);
int meta_readyz(struct job *j);
int meta_metrics(struct job *j);
int meta_openapi(struct job *j);
int meta_info(struct job *j);

/* Their rows of route_table (server/routes.c). */
#define API_META_ROUTES                                                                            \
    {"GET", "/healthz", SCOPE_OPEN, BODY_NONE, false, "Is the process alive", NULL, meta_parse,    \
     NULL, NULL, meta_healthz, NULL},                                                              \
    {"GET", "/readyz", SCOPE_READ | SCOPE_COMMON, BODY_NONE, false, "Does it take requests", NULL, \
     meta_parse, NULL, NULL, meta_readyz, NULL},                                                   \
    {"GET", "/metrics", SCOPE_READ, BODY_NONE, false, "Numbers for Prometheus", NULL, meta_parse,  \
     NULL, NULL, meta_metrics, NULL},                                                              \
    {"GET", "/openapi.json", SCOPE_READ | SCOPE_COMMON, BODY_NONE, false,                          \
     "This interface, as OpenAPI 3.1", NULL, meta_parse, NULL, NULL, meta_openapi, NULL},          \
    {"GET", "/v1/info", SCOPE_READ | SCOPE_COMMON, BODY_NONE, false,                               \
     "Version, limits, engines, instruction set", NULL, meta_parse, NULL, NULL, meta_info, NULL}

#endif
