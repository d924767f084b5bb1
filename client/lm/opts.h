/* opts.h - command-line options from a table: one row is the parser, the range, the default and the
 * help. No I/O but opts_help. */
#ifndef CLIENT_LM_OPTS_H
#define CLIENT_LM_OPTS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "storage/base/err.h"

enum opts_kind { OPTS_TEXT, OPTS_COUNT, OPTS_NUMBER }; /* const char *, uint64_t, double */

struct opts_row {
    const char *name;  /* without "--" */
    enum opts_kind kind;
    void *out;         /* holds the default; left alone when the option is absent */
    double low, high;  /* of COUNT and NUMBER */
    const char *help;  /* "(required)" in it: a TEXT that must be given */
};

/* argv from the first option on; "--name value" or "--name=value". INVALID names the option. */
int opts_parse(const struct opts_row *rows, size_t count, int argc, char *const argv[],
               struct err *e);

void opts_help(FILE *out, const struct opts_row *rows, size_t count);

#endif
