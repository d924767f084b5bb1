/* encode_server.h - batches straight to a server, over libascribe: nothing touches the disk here.
 * The corpus is created when it is not there; one with another definition is refused. A run that
 * broke computes its batches again, and the server recognises by name those it has. */
#ifndef CLIENT_LM_ENCODE_SERVER_H
#define CLIENT_LM_ENCODE_SERVER_H

#include "client/lm/encode.h"

struct encode_server_target { /* the caller's; must outlive the sink */
    const char *url;    /* "http://HOST:PORT" or "unix:PATH" */
    const char *corpus; /* its name on the server */
    const char *key;    /* or NULL */
};

struct encode_sink encode_server(struct encode_server_target *t);

#endif
