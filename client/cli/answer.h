/* answer.h - the answer to a query or search as a table on standard output. */
#ifndef CLIENT_CLI_ANSWER_H
#define CLIENT_CLI_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "client/ascribe.h"

/* text: a line of each text; whole: all of it. Cut to the terminal, if it is one. */
void answer_print_result(const struct asc_result *r, bool text, bool whole);
/* Every result with a line about it; they are queries first .. of `total`. */
void answer_print(const struct asc_answer *a, uint64_t first, uint64_t total, bool text,
                  bool whole);

#endif
