/* watch.h - a directory into which a training job drops what is to be stored: takes each file when
 * it is there, until it is told to end. One thread.
 */
#ifndef CLIENT_CLI_WATCH_H
#define CLIENT_CLI_WATCH_H

#include "client/cli/cli.h"

struct watch {
    const char *corpus;
    const char *folder;
    const char *done;  /* a directory that stored files are moved to, or NULL: they stay */
    const char *until; /* ends when a file of this name is in the folder; NULL: when interrupted */
    uint64_t dim;      /* the corpus's */
    uint64_t rows_per_batch;
};

/* Takes *.safetensors batch files, and pairs NAME.npy with NAME.jsonl, in the order of their names;
 * files should appear by rename, for what is half written is only known by its wrong size. A file
 * that is refused is said once and left; the server away is waited for. Gives the exit code: 0, or
 * that of the last file that could not be stored. */
int watch_run(struct cli *cli, const struct watch *w);

#endif
