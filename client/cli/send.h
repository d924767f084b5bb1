/* send.h - sends every batch of a source to a corpus, several at a time, and shows how far it is.
 */
#ifndef CLIENT_CLI_SEND_H
#define CLIENT_CLI_SEND_H

#include "client/cli/cli.h"
#include "client/cli/source.h"

enum { SEND_WORKERS_MAX = 16 };

/* What became of a run; bytes are those of acknowledged batches. */
struct sent {
    uint64_t batches, resent, examples, duplicates, sequence, bytes;
    double seconds;
};

/* `what` stands in front of the bar, with the corpus. Prints what went wrong and how to go on, not
 * what went well; gives the exit code, and *out in any case. */
int send_all(struct cli *cli, const char *what, const char *corpus, struct source *source,
             uint64_t workers, struct sent *out);
/* A line for people on standard output, and the same as an object. */
void send_print(const char *corpus, const struct sent *x);
json_t *send_json(const char *corpus, const struct sent *x);

#endif
