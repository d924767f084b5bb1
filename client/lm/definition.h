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
    const char *path; /* not owned; NULL: there is no file, and the rest is empty */
    struct buf text;  /* the file as it is; freed by definition_free */
};

/* BAD_JSON when the file is not a definition that encoder_plan_describe wrote, IO when it cannot be
 * read, TOO_LARGE. */
int definition_read(struct definition *d, const char *path, struct err *e);

/* What a verb's --like stands for: reads `path` into d and takes the three options from it. With a
 * NULL path nothing is read and the options stay as the command line has them. Fails as
 * definition_read does. */
int definition_take(struct definition *d, const char *path, uint64_t *dim, uint64_t *seed,
                    enum encoder_second *second, struct err *e);

/* The plan of those options, to be ended by encoder_plan_fini; after definition_take from a path,
 * one that is checked against the file. Untouched on failure. */
int definition_plan(const struct definition *d, struct encoder_plan *plan, const struct model *m,
                    uint64_t dim, uint64_t seed, enum encoder_second second, struct err *e);

/* CONFLICT unless the plan, described, is the file byte for byte: another model, then. */
int definition_check(const struct definition *d, const struct encoder_plan *plan, struct err *e);
void definition_free(struct definition *d);

#endif
