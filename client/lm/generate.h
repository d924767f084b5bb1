/* generate.h - continues a prompt, token by token. */
#ifndef CLIENT_LM_GENERATE_H
#define CLIENT_LM_GENERATE_H

#include <stdbool.h>
#include <stdint.h>

#include "client/lm/model.h"
#include "storage/base/bytes.h"

struct generate_options {
    uint32_t tokens;    /* at most this many new ones */
    double temperature; /* 0 = always the most likely (the lower number on a tie) */
    uint64_t seed;      /* of the draws at a temperature above 0 */
    bool clause;        /* stop before a token with one of . ; ( unless it is the first */
};

/* Appends the continuation to `out` (bytes; cut UTF-8 is dropped at its end). Stops at the model's
 * own end. The prompt's last tokens that leave room in the context are what the model sees. */
int generate_text(const struct model *m, const char *prompt, size_t len,
                  const struct generate_options *o, struct buf *out, struct err *e);

#endif
