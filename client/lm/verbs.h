/* verbs.h - the verbs of ascribe-lm: each parses its options, does its work, speaks on stdout.
 * argv begins with the first option. Returns 0 or an error code with *e set; a verb asked for
 * --help prints it and returns 0. */
#ifndef CLIENT_LM_VERBS_H
#define CLIENT_LM_VERBS_H

#include "client/lm/encoder.h"
#include "storage/base/err.h"

int verbs_train(int argc, char *const argv[], struct err *e);
int verbs_generate(int argc, char *const argv[], struct err *e);
int verbs_encode(int argc, char *const argv[], struct err *e);
int verbs_query(int argc, char *const argv[], struct err *e);

/* --second-moment's value. */
int verbs_second(const char *name, enum encoder_second *out, struct err *e);

#endif
