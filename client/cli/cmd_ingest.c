/* cmd_ingest.c - `ascribe ingest`: batch files, or a matrix and its examples, into a corpus. What is
 * read is source.c's, how it is sent send.c's.
 */
#include "client/cli/args.h"
#include "client/cli/send.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* --- The command line ------------------------------------------------------------------------- */

/* Makes the corpus when asked, and sees that the vectors fit it before gigabytes are sent. */
static int prepare(struct cli *cli, const char *corpus, const char *create, uint64_t dim)
{
    struct asc_client *c;
    struct asc_corpus info = {0};
    struct asc_error e;
    char *definition = NULL;
    int rc = 0;

    if (create && !(definition = out_read_file(cli, create, 8 << 20)))
        return EXIT_INPUT;
    rc = session_open(cli, NULL, NULL, &c);
    if (rc != 0) {
        free(definition);
        return rc;
    }
    if (definition)
        rc = asc_corpus_create(c, corpus, definition, &info, NULL, &e);
    else
        rc = asc_corpus_get(c, corpus, &info, &e);
    if (rc != 0) {
        rc = out_error(cli, &e);
        if (strcmp(e.code, "unknown_corpus") == 0 && !cli->json)
            fprintf(stderr, "ascribe: hint: make it with `ascribe corpus create %s --dim %" PRIu64
                    "`, or with --create FILE.json\n", corpus, dim);
    } else if (info.dim && info.dim != dim) {
        rc = out_input(cli, "the gradients have dim %" PRIu64 "; corpus %s has %" PRIu64, dim,
                       corpus, info.dim);
    }
    asc_corpus_clear(&info);
    asc_close(c);
    free(definition);
    return rc;
}

static const char about[] =
    "Stores the gradients and texts of training examples. FILES are batch files (safetensors\n"
    "with gradients and examples, as `ascribe-lm encode` writes them) or directories of them. Or\n"
    "give one matrix and its examples, which is cut into batches:\n\n"
    "  ascribe ingest CORPUS --gradients X.npy --examples E.jsonl\n\n"
    "Line i of the examples belongs to row i: {\"id\": ..., \"text\": ..., \"meta\": {}};\n"
    "only id is needed. Batches are named by position and content: a run that broke is simply\n"
    "run again, and what is stored already is recognised. Files are streamed, never held whole.";

int cmd_ingest(struct cli *cli, int argc, char **argv)
{
    const char *gradients = NULL, *examples = NULL, *tensor = NULL, *create = NULL;
    uint64_t rows = 0, jobs = 2;
    const struct arg list[] = {
        {"--gradients", 0, ARG_TEXT, &gradients, 0, 0, "FILE", "a .npy or .safetensors [n, dim]"},
        {"--examples", 0, ARG_TEXT, &examples, 0, 0, "FILE", "JSON Lines, one object a row"},
        {"--tensor", 0, ARG_TEXT, &tensor, 0, 0, "NAME", "which tensor (gradients)"},
        {"--rows-per-batch", 0, ARG_COUNT, &rows, 1, 65536, "N", "rows a batch (for about 32 MiB)"},
        {"--jobs", 'j', ARG_COUNT, &jobs, 1, SEND_WORKERS_MAX, "N",
         "batches in flight (2; 1 keeps the rows in order)"},
        {"--create", 0, ARG_TEXT, &create, 0, 0, "FILE", "create the corpus first, as it says"},
        {0}};
    const struct args args = {"ingest CORPUS FILES... | ingest CORPUS --gradients X --examples E",
                              about,                                list, 1, -1};
    struct source source;
    struct sent sent;
    char why[600];
    int count, rc = args_parse(cli, &args, argc, argv, &count);
    bool ok;

    if (rc >= 0)
        return rc;
    if ((count > 1) == (gradients != NULL) || (gradients != NULL) != (examples != NULL))
        return out_usage("ingest", "either batch files, or both --gradients and --examples");
    if (cli->retries == UINT64_MAX)
        cli->retries = 8; /* long enough for a server to be started again */
    ok = gradients ? source_open_pair(&source, gradients, tensor, examples, rows, why, sizeof why)
                   : source_open_files(&source, argv + 2, count - 1, why, sizeof why);
    if (!ok)
        return out_input(cli, "%s", why);
    rc = prepare(cli, argv[1], create, source.dim);
    if (rc == 0)
        rc = send_all(cli, "ingest", argv[1], &source, jobs, &sent);
    if (rc == 0 && cli->json)
        out_json(send_json(argv[1], &sent));
    else if (rc == 0)
        send_print(argv[1], &sent);
    source_close(&source);
    return rc;
}
