/* import.h - a bergson store as a feed of batches: leaves out rows that are zero, finds those that
 * are not finite, and keeps account of both by number.
 */
#ifndef CLIENT_CLI_IMPORT_H
#define CLIENT_CLI_IMPORT_H

#include "client/cli/bergson.h"
#include "client/cli/ranges.h"
#include "client/cli/source.h"
#include "client/cli/texts.h"

/* What an example is when the store has a row a token. */
enum import_tokens {
    IMPORT_SUM,  /* the sum over its tokens */
    IMPORT_EACH, /* every token is one */
};

struct import {
    const struct bergson *store; /* the caller's */
    struct texts *texts;         /* the caller's */
    enum import_tokens tokens;
    bool leave_out_bad;          /* rows that are not finite; else they end the run */
    uint64_t first;              /* number of the store's first example within the run */
    uint64_t rows_per_batch;
    /* the account, and where it stands */
    struct ranges zero, bad;
    uint64_t item;               /* IMPORT_EACH: the example at hand is item - 1 */
    json_t *example;             /* owned: IMPORT_EACH */
};

/* Makes *source of it; both must stay where they are until source_close. */
void import_open(struct import *im, struct source *source);
void import_close(struct import *im);

#endif
