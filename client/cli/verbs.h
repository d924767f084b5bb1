/* verbs.h - verbs that have verbs of their own, `ascribe task put CORPUS TASK FILE`: a table says
 * what there is and what each takes, and one function finds, checks, connects and runs it. */
#ifndef CLIENT_CLI_VERBS_H
#define CLIENT_CLI_VERBS_H

#include "client/cli/cli.h"

struct verb {
    const char *name;
    const char *takes; /* "CORPUS TASK FILE", "" for nothing; "ID..." at the end: one or more */
    int least;         /* so few will do; 0: all of them are needed */
    /* `at`: the arguments behind the name, then NULL. Gives the exit code. */
    int (*run)(struct cli *cli, struct asc_client *c, char *const *at, void *options);
};

/* Runs argv[1] of `list` (which ends with a NULL name) with a client; argv and count as args_parse
 * left them. `of` is the verb they belong to. Prints what is wrong; gives the exit code. */
int verbs_run(struct cli *cli, const char *of, const struct verb *list, int count, char **argv,
              void *options);

#endif
