/* definition.h - a corpus.json read back: so that queries are made exactly as the encodings were,
 * without anybody repeating options. */
#ifndef CLIENT_LM_DEFINITION_H
#define CLIENT_LM_DEFINITION_H

#include <stdint.h>

#include "client/lm/encoder.h"
#include "storage/base/bytes.h"

struct definition {
    uint32_t dim;
    uint64_t seed;
    enum encoder_second second;
    char dtype[8];
    struct buf text; /* the file as it is; freed by definition_free */
};

/* BAD_JSON when the file is not a definition that encoder_plan_describe wrote, IO when it cannot be
 * read, TOO_LARGE. */
int definition_read(struct definition *d, const char *path, struct err *e);

/* CONFLICT unless the plan, described, is the file byte for byte: another model, then. */
int definition_check(const struct definition *d, const struct encoder_plan *plan, struct err *e);
void definition_free(struct definition *d);

#endif
