/* verb.h - the verbs of ascribe-lm: each parses its options, does its work, speaks on stdout.
 * argv begins with the first option. Returns 0 or an error code with *e set; a verb asked for
 * --help prints it and returns 0. */
#ifndef CLIENT_LM_VERB_H
#define CLIENT_LM_VERB_H

#include "storage/base/err.h"

int verb_train(int argc, char *const argv[], struct err *e);
int verb_generate(int argc, char *const argv[], struct err *e);
int verb_encode(int argc, char *const argv[], struct err *e);
int verb_query(int argc, char *const argv[], struct err *e);
int verb_tail_patch(int argc, char *const argv[], struct err *e);
int verb_score(int argc, char *const argv[], struct err *e);
int verb_serve(int argc, char *const argv[], struct err *e);

#endif
