/* main.c - the program `ascribe`: global options, the table of verbs, help. */
#include "client/cli/args.h"

#include <stdlib.h>
#include <string.h>

static const struct command commands[] = {
    {"corpus", "create, list, show or drop corpora", cmd_corpus},
    {"ingest", "store the gradients and texts of training examples", cmd_ingest},
    {"import", "take over the gradient store of another program", cmd_import},
    {"fit", "whiten a corpus by the Hessian of its gradients", cmd_fit},
    {"task", "make, list, show or delete tasks: evaluation sets", cmd_task},
    {"ask", "the same in words: which training examples made the model say that", cmd_ask},
    {"query", "which training examples speak for a gradient, and which against", cmd_query},
    {"scores", "the score of every example, to a file", cmd_scores},
    {"export", "scores in the formats of other programs", cmd_export},
    {"eval", "MRR and Recall@10 of a corpus against known answers", cmd_eval},
    {"example", "get, list or delete examples; fetch an encoding", cmd_example},
    {"search", "examples by words (BM25)", cmd_search},
    {"saved", "prompts with their gradients, kept in the server", cmd_saved},
    {"page", "a link that opens the server's page in a browser", cmd_page},
    {"info", "version, limits and state of the server", cmd_info},
    {"job", "list, show, cancel or wait for long work", cmd_job},
    {"backup", "have the server write a backup", cmd_job_backup},
    {"verify", "have the server check everything it stores", cmd_job_verify},
    {"compact", "reclaim the room of deleted examples", cmd_job_compact},
    {"key", "create, list, rotate or revoke keys", cmd_key},
    {"completion", "a script that has the shell complete all this", cmd_completion},
    {0},
};

enum { COMMANDS = sizeof commands / sizeof *commands - 1 };

static int help(void)
{
    puts("usage: ascribe [options] VERB ...\n\n"
         "The client of ascribed, a database for training-data attribution: which training\n"
         "examples made the model say that?\n\nverbs");
    for (size_t i = 0; i < COMMANDS; i++)
        printf("  %-10s %s\n", commands[i].name, commands[i].summary);
    puts("  help       this text; `ascribe VERB --help` for one verb\n\noptions of every verb");
    args_print_globals();
    puts("\nexit codes\n"
         "  0 done   1 wrong command line   2 refused by the server   3 server not reached\n"
         "  4 failed in the server   5 bad local input or output   130 interrupted");
    return EXIT_OK;
}

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int run(struct cli *cli, int argc, char **argv)
{
    char help_word[] = "--help", *help_argv[3];
    const struct command *c;
    int at = args_globals(cli, argc, argv);

    if (at < 0)
        return EXIT_USAGE;
    if (at == argc)
        return out_usage(NULL, "a verb is missing");
    if (strcmp(argv[at], "--version") == 0) {
        printf("ascribe %s\n", asc_version());
        return EXIT_OK;
    }
    if (strcmp(argv[at], "help") == 0 && at + 1 < argc && argv[at + 1][0] != '-') {
        c = find(argv[at + 1]);
        if (!c)
            return out_usage(NULL, "there is no verb \"%s\"", argv[at + 1]);
        help_argv[0] = argv[at + 1];
        help_argv[1] = help_word;
        help_argv[2] = NULL;
        return c->run(cli, 2, help_argv);
    }
    if (strcmp(argv[at], "help") == 0 || strcmp(argv[at], "--help") == 0 ||
        strcmp(argv[at], "-h") == 0)
        return help();
    c = find(argv[at]);
    if (!c)
        return out_usage(NULL, "there is no verb \"%s\"", argv[at]);
    return c->run(cli, argc - at, argv + at);
}

int main(int argc, char **argv)
{
    struct cli cli = {.server = getenv("ASCRIBE_SERVER"), .store = getenv("ASCRIBE_STORE"),
                      .retries = UINT64_MAX, .timeout_s = 90, .commands = commands};
    int rc;

    if (!cli.server || !*cli.server)
        cli.server = "http://127.0.0.1:7171";
    term_init();
    session_catch_signals();
    rc = run(&cli, argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fputs("ascribe: standard output could not be written\n", stderr);
        return rc ? rc : EXIT_INPUT;
    }
    return rc;
}
