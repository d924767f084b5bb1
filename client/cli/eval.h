/* eval.h - asks a server the queries of a gold file, in batches, and scores each list it gives: by
 * gradients or by words. One thread; on_tick of the client draws the progress.
 */
#ifndef CLIENT_CLI_EVAL_H
#define CLIENT_CLI_EVAL_H

#include "client/cli/cli.h"
#include "client/cli/gold.h"
#include "client/cli/meter.h"
#include "client/cli/pair.h"
#include "client/cli/progress.h"
#include "client/cli/rank.h"

struct eval {
    /* what to ask: set before eval_run; all the caller's */
    const struct cli *cli;
    const char *corpus;
    const struct gold *gold;
    const struct asc_matrix *matrix; /* one row a query, or NULL: by the words of "text" */
    const char *queries_path;        /* of the matrix, for what has to be said */
    const char *task, *engine;       /* or NULL */
    const char *score, *filter;      /* or NULL */
    uint32_t k;
    struct pair_file *lists;         /* or NULL */

    /* what came of it */
    struct rank_score *scores; /* one a query, owned; eval_clear */
    char engine_used[16], exact[16];
    uint64_t examples, generation;
    bool changed;     /* the corpus did while it was asked */
    uint64_t missing; /* examples the word index had not yet seen, at worst */

    /* while it runs */
    struct asc_client *client;
    struct progress progress;
    struct meter pace;
    uint64_t done;
    struct pair_hit *near, *far; /* k each */
    bool *correct;               /* k */
};

/* Asks everything. Prints what is wrong; gives the exit code. eval_clear in either case. */
int eval_run(struct eval *ev);
void eval_clear(struct eval *ev);

#endif
