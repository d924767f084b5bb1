/* openapi.h - the table of routes, written out as an OpenAPI 3.1 document. Pure. */
#ifndef SERVER_OPENAPI_H
#define SERVER_OPENAPI_H

#include <stddef.h>

#include "server/route.h"
#include "storage/base/bytes.h"

/* Appends the document for the table. */
void openapi_write(struct buf *out, const struct route *routes, size_t count);

#endif
