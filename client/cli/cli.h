/* cli.h - what the files of the program `ascribe` share: the options that every verb takes, exit
 * codes, and how results and errors are printed. Results go to standard output, all else to
 * standard error. The program uses the public header only, as any other program would.
 */
#ifndef CLIENT_CLI_CLI_H
#define CLIENT_CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "client/ascribe.h"

/* docs/cli.md promises these. */
enum {
    EXIT_OK = 0,
    EXIT_USAGE = 1,       /* the command line is wrong */
    EXIT_REFUSED = 2,     /* the server answered 4xx */
    EXIT_UNREACHABLE = 3, /* no answer */
    EXIT_SERVER = 4,      /* the server answered 5xx, or a job failed, or damage was found */
    EXIT_INPUT = 5,       /* a local file or the output is at fault */
    EXIT_STOPPED = 130,   /* interrupted */
};

struct cli {
    const char *server;   /* --server, ASCRIBE_SERVER, or the default */
    const char *key_file; /* --key-file */
    const char *store;    /* --store, ASCRIBE_STORE */
    uint64_t retries;     /* further attempts of a request; UINT64_MAX: the verb chooses */
    uint64_t timeout_s;   /* no byte either way for so long ends an attempt */
    bool json;            /* --json: results and errors as JSON */
    bool quiet;           /* no progress */
    const struct command *commands; /* the verbs; ends with a NULL name */
    struct survey *survey;          /* args.h: tables are asked for, not work; else NULL */
};

struct command {
    const char *name;
    const char *summary;
    /* argv[0] is the verb; gives the exit code */
    int (*run)(struct cli *cli, int argc, char **argv);
};

int cmd_ask(struct cli *cli, int argc, char **argv);
int cmd_job_backup(struct cli *cli, int argc, char **argv);
int cmd_job_compact(struct cli *cli, int argc, char **argv);
int cmd_completion(struct cli *cli, int argc, char **argv);
int cmd_corpus(struct cli *cli, int argc, char **argv);
int cmd_eval(struct cli *cli, int argc, char **argv);
int cmd_example(struct cli *cli, int argc, char **argv);
int cmd_export(struct cli *cli, int argc, char **argv);
int cmd_fit(struct cli *cli, int argc, char **argv);
int cmd_import(struct cli *cli, int argc, char **argv);
int cmd_info(struct cli *cli, int argc, char **argv);
int cmd_ingest(struct cli *cli, int argc, char **argv);
int cmd_job(struct cli *cli, int argc, char **argv);
int cmd_key(struct cli *cli, int argc, char **argv);
int cmd_page(struct cli *cli, int argc, char **argv);
int cmd_query(struct cli *cli, int argc, char **argv);
int cmd_saved(struct cli *cli, int argc, char **argv);
int cmd_scores(struct cli *cli, int argc, char **argv);
int cmd_search(struct cli *cli, int argc, char **argv);
int cmd_task(struct cli *cli, int argc, char **argv);
int cmd_job_verify(struct cli *cli, int argc, char **argv);

/* --- cmd_job.c: what verbs that start a job do next --------------------------------------------
 */

/* Waits for the job with a meter and prints it as it ended, or with no_wait as it is. Clears it;
 * gives the exit code. */
int cmd_job_follow(struct cli *cli, struct asc_client *c, struct asc_job *job, const char *kind,
               bool no_wait);

/* --- session.c: the server, the key, and stopping --------------------------------------------- */

/* The key that requests carry: of --key-file, ASCRIBE_KEY, the store's admin.key. NULL when there
 * is none, which is fine (the server will say). Prints what is wrong; gives an exit code. Free with
 * free(). */
int session_key(const struct cli *cli, char **out);
/* Opens a client as the options say. Prints what is wrong; gives an exit code, 0 on success.
 * on_tick may be NULL: the call still ends when the person interrupts. */
int session_open(const struct cli *cli, int (*on_tick)(void *, const struct asc_transfer *),
                 void *user, struct asc_client **out);
/* Interrupts set a flag; a second one ends the process at once. */
void session_catch_signals(void);
bool session_stopped(void);

/* --- out.c: printing -------------------------------------------------------------------------- */

/* One line on standard error; gives the exit code for it. */
int out_error(const struct cli *cli, const struct asc_error *e);
int out_usage(const char *verb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int out_input(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A JSON value and a newline on standard output; takes the reference. */
void out_json(json_t *value);
/* 1234567 as "1,234,567". */
const char *out_count(uint64_t n, char buf[32]);
/* "1.2 GiB" */
const char *out_bytes(double n, char buf[32]);
/* "0:07", "1:02:03"; "--:--" for a negative or absurd number of seconds. */
const char *out_duration(double seconds, char buf[32]);
/* A JSON object as aligned lines "name  value", nested names joined with dots. */
void out_object(const json_t *o);
/* An answer of the library that is JSON, as --json or as aligned lines; takes the text. Gives the
 * exit code. */
int out_answer(const struct cli *cli, char *text);
/* One line on standard error when an answer is partial: what it is without. With `as_json` (what
 * was printed does not say it) as JSON under --json, else nothing then. */
void out_damage(const struct cli *cli, const struct asc_damage *d, bool as_json);
/* "name: deleted", or {"deleted":"name"}. Gives EXIT_OK. */
int out_done(const struct cli *cli, const char *what, const char *name);
/* A file that must be small enough to hold; adds a NUL. Prints what is wrong. Free with free(). */
char *out_read_file(const struct cli *cli, const char *path, size_t most);

/* --- term.c: terminals and UTF-8 -------------------------------------------------------------- */

/* Columns of the terminal on a file descriptor; 0 when it is none. */
unsigned term_columns(int fd);
/* Copies text as one printable line of at most `columns` columns (0: no bound): control characters
 * and line breaks become single spaces, bytes that are not UTF-8 become U+FFFD, a cut ends in
 * U+2026. Never cuts inside a character. Gives the columns used. `cap` bytes of out, always
 * terminated. */
unsigned term_line(const char *text, size_t len, unsigned columns, char *out, size_t cap);
/* Writes a text whole to standard output. To a terminal, what is neither text, line break nor tab
 * is left out. */
void term_text(const char *text, size_t len);
void term_init(void);

#endif
