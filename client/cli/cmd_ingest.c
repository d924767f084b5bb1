/* cmd_ingest.c - `ascribe ingest`: batch files, or a matrix and its examples, into a corpus. What
 * is read is source.c's, how it is sent send.c's.
 */
#include "client/cli/args.h"
#include "client/cli/send.h"
#include "client/cli/watch.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* --- The command line ------------------------------------------------------------------------- */

/* Makes the corpus when asked, and sees that the vectors fit it before gigabytes are sent (dim 0:
 * not known yet). */
static int prepare(struct cli *cli, const char *corpus, const char *create, uint64_t dim,
                   uint64_t *out_dim)
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
                    "`, or with --create FILE.json\n", corpus, dim ? dim : 16384);
    } else if (dim && info.dim && info.dim != dim) {
        rc = out_input(cli, "the gradients have dim %" PRIu64 "; corpus %s has %" PRIu64, dim,
                       corpus, info.dim);
    }
    *out_dim = info.dim;
    asc_corpus_clear(&info);
    asc_close(c);
    free(definition);
    return rc;
}

/* What the options say. */
struct wish {
    struct source_pair pair;
    const char *create, *raw;
    struct watch watch;
    uint64_t jobs;
};

static int run_files(struct cli *cli, const struct wish *x, char **argv, int count)
{
    struct source source;
    struct sent sent;
    char why[600];
    uint64_t dim;
    int rc;
    bool ok = x->pair.gradients
                  ? source_open_pair(&source, &x->pair, why, sizeof why)
                  : source_open_files(&source, argv + 2, count - 1, why, sizeof why);

    if (!ok)
        return out_input(cli, "%s", why);
    rc = prepare(cli, argv[1], x->create, source.dim, &dim);
    if (rc == 0)
        rc = send_all(cli, "ingest", argv[1], &source, x->jobs, &sent);
    if (rc == 0 && cli->json)
        out_json(send_json(argv[1], &sent));
    else if (rc == 0)
        send_print(argv[1], &sent);
    source_close(&source);
    return rc;
}

static int run_watch(struct cli *cli, struct wish *x, const char *corpus)
{
    int rc = prepare(cli, corpus, x->create, 0, &x->watch.dim);

    x->watch.corpus = corpus;
    x->watch.rows_per_batch = x->pair.rows_per_batch;
    return rc ? rc : watch_run(cli, &x->watch);
}

static bool raw_type(const char *name, enum asc_dtype *out)
{
    static const struct {
        const char *name;
        enum asc_dtype dtype;
    } known[] = {{"f32", ASC_F32}, {"f16", ASC_F16}, {"bf16", ASC_BF16}};

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i].name) == 0) {
            *out = known[i].dtype;
            return true;
        }
    return false;
}

/* That the options go together; -1 to go on. */
static int check(struct wish *x, int count)
{
    const struct source_pair *p = &x->pair;
    bool pair = p->gradients || p->examples;

    if ((p->gradients != NULL) != (p->examples != NULL) ||
        (count > 1) + pair + (x->watch.folder != NULL) != 1)
        return out_usage("ingest", "either batch files, or both --gradients and --examples, or "
                         "--watch DIR");
    if ((x->raw != NULL) != (p->raw_dim != 0) || (x->raw && (!pair || p->tensor)))
        return out_usage("ingest", "--raw and --dim go together, with --gradients and without "
                         "--tensor");
    if (x->raw && !raw_type(x->raw, &x->pair.raw))
        return out_usage("ingest", "--raw takes f32, f16 or bf16, not \"%s\"", x->raw);
    if (!x->watch.folder && (x->watch.done || x->watch.until))
        return out_usage("ingest", "--done and --until go with --watch");
    return -1;
}

static const char about[] =
    "Stores the gradients and texts of training examples. FILES are batch files (safetensors\n"
    "with gradients and examples, as `ascribe-lm encode` writes them) or directories of them. Or\n"
    "give one matrix and its examples, which is cut into batches:\n\n"
    "  ascribe ingest CORPUS --gradients X.npy --examples E.jsonl\n"
    "  ascribe ingest CORPUS --gradients X.bin --raw f32 --dim 4096 --examples E.jsonl\n\n"
    "Line i of the examples belongs to row i: {\"id\": ..., \"text\": ..., \"meta\": {}};\n"
    "only id is needed. Batches are named by position and content: a run that broke is simply\n"
    "run again, and what is stored already is recognised. Files are streamed, never held whole.\n\n"
    "With --watch, batch files and pairs NAME.npy, NAME.jsonl are taken as they are renamed into\n"
    "the directory, until Ctrl-C.";

int cmd_ingest(struct cli *cli, int argc, char **argv)
{
    struct wish x = {.jobs = 2};
    const struct arg list[] = {
        {"--gradients", 0, ARG_TEXT, &x.pair.gradients, 0, 0, "FILE",
         "a .npy or .safetensors [n, dim]"},
        {"--examples", 0, ARG_TEXT, &x.pair.examples, 0, 0, "FILE", "JSON Lines, one object a row"},
        {"--tensor", 0, ARG_TEXT, &x.pair.tensor, 0, 0, "NAME", "which tensor (gradients)"},
        {"--raw", 0, ARG_TEXT, &x.raw, 0, 0, "TYPE", "the file is numbers alone: f32, f16, bf16"},
        {"--dim", 0, ARG_COUNT, &x.pair.raw_dim, 1, 1048576, "N", "of --raw: numbers a row"},
        {"--rows-per-batch", 0, ARG_COUNT, &x.pair.rows_per_batch, 1, 65536, "N",
         "rows a batch (for about 32 MiB)"},
        {"--jobs", 'j', ARG_COUNT, &x.jobs, 1, SEND_WORKERS_MAX, "N",
         "batches in flight (2; 1 keeps the rows in order)"},
        {"--create", 0, ARG_TEXT, &x.create, 0, 0, "FILE", "create the corpus first, as it says"},
        {"--watch", 0, ARG_TEXT, &x.watch.folder, 0, 0, "DIR", "take files as they appear there"},
        {"--done", 0, ARG_TEXT, &x.watch.done, 0, 0, "DIR", "of --watch: move stored files here"},
        {"--until", 0, ARG_TEXT, &x.watch.until, 0, 0, "NAME",
         "of --watch: end when this file is there"},
        {0}};
    const struct args args = {
        "ingest CORPUS FILES... | --gradients X --examples E | --watch DIR", about, list, 1, -1};
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    if (rc < 0)
        rc = check(&x, count);
    if (rc >= 0)
        return rc;
    if (cli->retries == UINT64_MAX)
        cli->retries = 8; /* long enough for a server to be started again */
    return x.watch.folder ? run_watch(cli, &x, argv[1]) : run_files(cli, &x, argv, count);
}
