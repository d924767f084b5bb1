/* send.c - N workers, each with a client of its own, take batches from one source; the main thread
 * shows how far it is. The window is the number of workers: nothing is read ahead of them. The
 * first failure stops the run; what was acknowledged stays.
 */
#include "client/cli/send.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/cli/progress.h"

struct run;

struct worker {
    struct run *run;
    struct asc_client *client; /* owned */
    pthread_t thread;
    uint64_t sent; /* of the batch in flight; under the lock */
};

struct run {
    struct cli *cli;
    const char *corpus;
    struct source *source;
    pthread_mutex_t lock;
    struct worker workers[SEND_WORKERS_MAX];
    unsigned worker_count, running;
    /* under the lock */
    uint64_t rows_done;
    struct sent sent;
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
static bool take(struct run *run, struct unit *u)
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
    struct run *run = w->run;

    pthread_mutex_lock(&run->lock);
    w->sent = 0;
    if (rc == 0) {
        run->rows_done += u->rows;
        run->sent.bytes += u->bytes;
        run->sent.batches++;
        run->sent.resent += got->resent;
        run->sent.examples += got->examples;
        run->sent.duplicates += got->duplicates;
        if (got->sequence > run->sent.sequence)
            run->sent.sequence = got->sequence;
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
static bool look(struct run *run, struct progress_state *s)
{
    bool running;

    *s = PROGRESS_STATE_NONE;
    pthread_mutex_lock(&run->lock);
    s->bytes = run->sent.bytes;
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

static void watch(struct run *run, struct progress *p)
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
static int start(struct run *run, unsigned want)
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

void send_print(const char *corpus, const struct sent *x)
{
    char a[32], b[32], c[32], d[32], e[32];

    printf("%s: %s examples in %s batches", corpus, out_count(x->examples, a),
           out_count(x->batches, b));
    if (x->resent)
        printf(" (%s stood already)", out_count(x->resent, c));
    if (x->duplicates)
        printf(", %s duplicates left out", out_count(x->duplicates, c));
    snprintf(d, sizeof d, "%.1f s", x->seconds);
    printf(", %s in %s", out_bytes((double)x->bytes, c),
           x->seconds < 60 ? d : out_duration(x->seconds, d));
    if (x->seconds > 0)
        printf(" (%s/s)", out_bytes((double)x->bytes / x->seconds, e));
    putchar('\n');
}

json_t *send_json(const char *corpus, const struct sent *x)
{
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "corpus", corpus, "batches",
                     (json_int_t)x->batches, "batches_resent", (json_int_t)x->resent, "examples",
                     (json_int_t)x->examples, "duplicates", (json_int_t)x->duplicates, "sequence",
                     (json_int_t)x->sequence, "bytes", (json_int_t)x->bytes, "seconds", x->seconds);
}

static int conclude(struct run *run)
{
    uint64_t total = run->source->units_total - run->source->units_empty;
    char a[32], b[32];
    int rc = EXIT_OK;

    if (run->failed)
        rc = out_error(run->cli, &run->error);
    else if (run->sent.batches < total)
        rc = EXIT_STOPPED;
    if (rc != EXIT_OK && !run->cli->json)
        fprintf(stderr, "ascribe: %s: %s of %s batches are stored; run the same command again to "
                "go on, what is stored is recognised\n",
                rc == EXIT_STOPPED ? "interrupted" : "stopped", out_count(run->sent.batches, a),
                out_count(total, b));
    return rc;
}

int send_all(struct cli *cli, const char *what, const char *corpus, struct source *source,
             uint64_t workers, struct sent *out)
{
    struct run run = {.cli = cli, .corpus = corpus, .source = source};
    uint64_t most = source->units_total < SEND_WORKERS_MAX ? source->units_total : SEND_WORKERS_MAX;
    struct progress p;
    char title[96];
    int rc;

    snprintf(title, sizeof title, "%s %s", what, corpus);
    pthread_mutex_init(&run.lock, NULL);
    progress_start(&p, title, cli->quiet);
    rc = start(&run, (unsigned)(workers < most ? workers : most));
    if (rc != 0) {
        pthread_mutex_lock(&run.lock);
        run.failed = true;
        pthread_mutex_unlock(&run.lock);
    }
    if (run.worker_count > 0 && rc == 0)
        watch(&run, &p);
    for (unsigned i = 0; i < run.worker_count; i++) {
        pthread_join(run.workers[i].thread, NULL);
        asc_close(run.workers[i].client);
    }
    if (rc == 0)
        rc = conclude(&run);
    run.sent.seconds = progress_seconds(&p);
    *out = run.sent;
    pthread_mutex_destroy(&run.lock);
    return rc;
}
