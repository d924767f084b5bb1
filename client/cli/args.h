/* args.h - a verb's options as a table; the same rows parse the command line and print --help. */
#ifndef CLIENT_CLI_ARGS_H
#define CLIENT_CLI_ARGS_H

#include <stdbool.h>
#include <stdint.h>

#include "client/cli/cli.h"

struct verb;

enum arg_kind { ARG_FLAG, ARG_TEXT, ARG_COUNT };

struct arg {
    const char *name; /* "--opponents" */
    char letter;      /* 'k' for -k, or 0 */
    enum arg_kind kind;
    void *to;         /* bool *, const char ** or uint64_t *: untouched when not given */
    uint64_t min, max; /* of a count */
    const char *value; /* what help calls it: "N", "FILE" */
    const char *help;
};

struct args {
    const char *usage;   /* "query CORPUS FILE [options]" */
    const char *about;   /* a few lines for --help */
    const struct arg *list; /* ends with a NULL name */
    int least, most;     /* positional arguments; most -1: any number */
};

/* Set in cli.survey, a verb tells its tables and does nothing else: `ascribe completion`. */
struct survey {
    /* `verbs` ends with a NULL name, or is NULL. `args` and its list last until it
     * returns. */
    void (*tell)(struct survey *s, const struct args *args, const struct verb *verbs);
    const struct args *args; /* between args_parse and verbs_run */
};

/* Parses argv[1..]; global options are understood everywhere. Positional arguments move to the
 * front of argv (from 1 on), *out_count of them. Gives -1 to go on, else the exit code (--help was
 * printed, or what is wrong was). */
int args_parse(struct cli *cli, const struct args *args, int argc, char **argv, int *out_count);

/* Takes the global options in front of the verb. Gives the index of the verb in argv (argc when
 * there is none), or -1 after printing what is wrong. */
int args_globals(struct cli *cli, int argc, char **argv);
/* The options of every verb, which write to *cli. */
enum { ARGS_GLOBALS = 7 };
void args_global_list(struct cli *cli, struct arg out[ARGS_GLOBALS]);
void args_print_globals(void);

#endif
