/* serve.h - ascribe-lm as the encoder of a server (docs/encoder.md): requests as JSON Lines come
 * in, a JSON line and perhaps a tensor file go out for each. One request at a time, in order; a
 * request that cannot be served is answered with the reason, and the next one is read. */
#ifndef CLIENT_LM_SERVE_H
#define CLIENT_LM_SERVE_H

#include <stdio.h>

#include "client/lm/encoder.h"

enum { SERVE_LINE_MAX = 32 << 20 }; /* an explain: a text of 1 MiB, a vector of 1,048,576 floats */

/* Until `in` ends: 0. IO when an answer cannot be written, TOO_LARGE on a longer line. */
int serve_run(const struct encoder_plan *plan, FILE *in, FILE *out, struct err *e);

#endif
