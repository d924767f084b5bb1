/* cmd_ingest.c - `ascribe ingest`: N workers, each with a client of its own, take batches from one
 * source; the main thread shows how far it is. The window is the number of workers: nothing is read
 * ahead of them. The first failure stops the run; what was acknowledged stays.
 */
#include "client/cli/args.h"
#include "client/cli/progress.h"
#include "client/cli/source.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WORKERS_MAX = 16 };

struct ingest;

struct worker {
    struct ingest *run;
    struct asc_client *client; /* owned */
    pthread_t thread;
    uint64_t sent; /* of the batch in flight; under the lock */
};

struct ingest {
    struct cli *cli;
    const char *corpus;
    struct source *source;
    pthread_mutex_t lock;
    struct worker workers[WORKERS_MAX];
    unsigned worker_count, running;
    /* under the lock */
    uint64_t rows_done, bytes_done;
    uint64_t batches, resent, examples, duplicates, sequence;
    bool failed;
    struct asc_error error; /* the first */
};

static int on_tick(void *user, const struct asc_transfer *t)
{
    struct worker *w = user;
    int stop;

    pthread_mutex_lock(&w->run->lock);
    w->sent = t->sent;
    stop = w->run->failed || session_stopped();
    pthread_mutex_unlock(&w->run->lock);
    return stop;
}

/* Takes the next batch; false when there is nothing left to do. */
static bool take(struct ingest *run, struct unit *u)
{
    char why[400];
    int got;

    pthread_mutex_lock(&run->lock);
    got = run->failed || session_stopped() ? 0 : source_next(run->source, u, why, sizeof why);
    if (got < 0) {
        run->failed = true;
        run->error = (struct asc_error){.status = ASC_INPUT, .code = "input", .index = -1,
                                        .limit = -1};
        snprintf(run->error.detail, sizeof run->error.detail, "%s", why);
    }
    pthread_mutex_unlock(&run->lock);
    return got > 0;
}

static void record(struct worker *w, const struct unit *u, int rc, const struct asc_ingested *got,
                   const struct asc_error *e)
{
    struct ingest *run = w->run;

    pthread_mutex_lock(&run->lock);
    w->sent = 0;
    if (rc == 0) {
        run->rows_done += u->rows;
        run->bytes_done += u->bytes;
        run->batches++;
        run->resent += got->resent;
        run->examples += got->examples;
        run->duplicates += got->duplicates;
        if (got->sequence > run->sequence)
            run->sequence = got->sequence;
    } else if (!run->failed && rc != ASC_ABORTED) {
        run->failed = true;
        run->error = *e;
    }
    pthread_mutex_unlock(&run->lock);
}

static void *work(void *user)
{
    struct worker *w = user;
    struct unit u;

    while (take(w->run, &u)) {
        struct asc_ingested got;
        struct asc_error e;
        int rc = source_send(w->run->source, &u, w->client, w->run->corpus, &got, &e);

        record(w, &u, rc, &got, &e);
        source_unit_free(&u);
        if (rc != 0)
            break;
    }
    pthread_mutex_lock(&w->run->lock);
    w->run->running--;
    pthread_mutex_unlock(&w->run->lock);
    return NULL;
}

/* What is done and on its way, at this moment. False when all workers have ended. */
static bool look(struct ingest *run, struct progress_state *s)
{
    bool running;

    *s = PROGRESS_STATE_NONE;
    pthread_mutex_lock(&run->lock);
    s->bytes = run->bytes_done;
    for (unsigned i = 0; i < run->worker_count; i++)
        s->bytes += run->workers[i].sent;
    s->bytes_total = run->source->bytes_total;
    if (s->bytes > s->bytes_total)
        s->bytes = s->bytes_total; /* headers are not in the total */
    s->rows = run->rows_done;
    s->rows_total = run->source->rows_total;
    running = run->running > 0;
    pthread_mutex_unlock(&run->lock);
    return running;
}

static void watch(struct ingest *run, struct progress *p)
{
    const struct timespec step = {.tv_nsec = 20 * 1000000};
    struct progress_state s;

    while (look(run, &s)) {
        progress_show(p, &s, false);
        nanosleep(&step, NULL);
    }
    progress_show(p, &s, true);
    progress_end(p);
}

/* Starts the workers; an exit code when none could be. */
static int start(struct ingest *run, unsigned want)
{
    for (unsigned i = 0; i < want; i++) {
        struct worker *w = &run->workers[i];
        int rc;

        w->run = run;
        rc = session_open(run->cli, on_tick, w, &w->client);
        if (rc != 0)
            return rc;
        pthread_mutex_lock(&run->lock);
        run->running++;
        pthread_mutex_unlock(&run->lock);
        if (pthread_create(&w->thread, NULL, work, w) != 0) {
            pthread_mutex_lock(&run->lock);
            run->running--;
            pthread_mutex_unlock(&run->lock);
            asc_close(w->client);
            return i > 0 ? 0 : out_input(run->cli, "no thread could be started");
        }
        run->worker_count++;
    }
    return 0;
}

static void print_result(const struct ingest *run, double seconds)
{
    char a[32], b[32], c[32], d[32], e[32];

    if (run->cli->json) {
        out_json(json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "corpus", run->corpus,
                           "batches", (json_int_t)run->batches, "batches_resent",
                           (json_int_t)run->resent, "examples", (json_int_t)run->examples,
                           "duplicates", (json_int_t)run->duplicates, "sequence",
                           (json_int_t)run->sequence, "bytes", (json_int_t)run->bytes_done,
                           "seconds", seconds));
        return;
    }
    printf("%s: %s examples in %s batches", run->corpus, out_count(run->examples, a),
           out_count(run->batches, b));
    if (run->resent)
        printf(" (%s stood already)", out_count(run->resent, c));
    if (run->duplicates)
        printf(", %s duplicates left out", out_count(run->duplicates, c));
    snprintf(d, sizeof d, "%.1f s", seconds);
    printf(", %s in %s", out_bytes((double)run->bytes_done, c),
           seconds < 60 ? d : out_duration(seconds, d));
    if (seconds > 0)
        printf(" (%s/s)", out_bytes((double)run->bytes_done / seconds, e));
    putchar('\n');
}

static int conclude(struct ingest *run, double seconds)
{
    uint64_t left = run->source->units_total - run->batches;
    char a[32], b[32];
    int rc = EXIT_OK;

    if (run->failed)
        rc = out_error(run->cli, &run->error);
    else if (left > 0)
        rc = EXIT_STOPPED;
    if (rc == EXIT_OK) {
        print_result(run, seconds);
        return EXIT_OK;
    }
    if (!run->cli->json)
        fprintf(stderr, "ascribe: %s: %s of %s batches are stored; run the same command again to "
                "go on, what is stored is recognised\n",
                rc == EXIT_STOPPED ? "interrupted" : "stopped", out_count(run->batches, a),
                out_count(run->source->units_total, b));
    return rc;
}

static int run_all(struct ingest *run, unsigned workers)
{
    struct progress p;
    char what[96];
    int rc;

    snprintf(what, sizeof what, "ingest %s", run->corpus);
    pthread_mutex_init(&run->lock, NULL);
    progress_start(&p, what, run->cli->quiet);
    rc = start(run, workers);
    if (rc != 0) {
        pthread_mutex_lock(&run->lock);
        run->failed = true;
        pthread_mutex_unlock(&run->lock);
    }
    if (run->worker_count > 0 && rc == 0)
        watch(run, &p);
    for (unsigned i = 0; i < run->worker_count; i++) {
        pthread_join(run->workers[i].thread, NULL);
        asc_close(run->workers[i].client);
    }
    if (rc == 0)
        rc = conclude(run, progress_seconds(&p));
    pthread_mutex_destroy(&run->lock);
    return rc;
}

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
        {"--jobs", 'j', ARG_COUNT, &jobs, 1, WORKERS_MAX, "N",
         "batches in flight (2; 1 keeps the rows in order)"},
        {"--create", 0, ARG_TEXT, &create, 0, 0, "FILE", "create the corpus first, as it says"},
        {0}};
    const struct args args = {"ingest CORPUS FILES... | ingest CORPUS --gradients X --examples E",
                              about,                                list, 1, -1};
    struct ingest run = {.cli = cli};
    struct source source;
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
    run.corpus = argv[1];
    run.source = &source;
    rc = prepare(cli, run.corpus, create, source.dim);
    if (rc == 0)
        rc = run_all(&run, (unsigned)(jobs < source.units_total ? jobs : source.units_total));
    source_close(&source);
    return rc;
}
