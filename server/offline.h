/* offline.h - verbs of `ascribed` on a store that no server has open: verify, backup, restore,
 * ingest, export. They take the store's LOCK like a server does and print JSON on standard output,
 * notes for people on standard error. One thread. */
#ifndef SERVER_OFFLINE_H
#define SERVER_OFFLINE_H

#include <stdbool.h>
#include <stdio.h>

/* Is `word` (argv[1]) one of the verbs? */
bool offline_is_verb(const char *word);

/* Runs argv[1] with the flags that follow. Returns the exit code: 0 done; 1 failed, the reason on
 * standard error; 2 wrong use; 3 verify found damage. */
int offline_main(int argc, char **argv);

/* The verbs' part of --help. */
void offline_help(FILE *out);

#endif
