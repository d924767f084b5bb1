/* verb_encode.c - `ascribe-lm encode`: a corpus into batch files, or straight to a server. */
#include "client/lm/verb.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/lm/ckpt.h"
#include "client/lm/crew.h"
#include "client/lm/encode_folder.h"
#include "client/lm/encode_server.h"
#include "client/lm/meter.h"
#include "client/lm/opts.h"

struct watch {
    struct meter meter;
    struct encode_progress last;
};

static void tell(void *ctx, const struct encode_progress *p)
{
    struct watch *w = ctx;
    const double elapsed = meter_clock() - w->meter.start;
    const struct meter_value values[] = {
        {"passages", (double)p->done, 0},
        {"passages/s", (double)(p->done - p->kept) / (elapsed > 0 ? elapsed : 1), 0},
    };

    w->last = *p;
    meter_tell(&w->meter, (double)p->done / (double)p->total, values,
               sizeof values / sizeof values[0]);
}

struct request { /* what the command line asks for */
    const char *model, *data;
    const char *folder, *key_file;      /* where to: a folder, */
    struct encode_server_target server; /* or a server */
    uint64_t dim, seed;
    enum encoder_second second;
    struct encode_options options;
};

static int encode(const struct model *m, const struct passages *ps, const struct request *r,
                  const struct encode_sink *sink, struct err *e)
{
    struct watch watch = {0};
    struct encoder_plan plan;
    int rc = encoder_plan_init(&plan, m, (uint32_t)r->dim, r->second, r->seed, e);

    if (rc)
        return rc;
    meter_init(&watch.meter, "encode");
    rc = encode_run(&plan, ps, &r->options, sink, tell, &watch, e);
    if (!rc)
        printf("{\"passages\":%zu,\"kept\":%zu,\"dim\":%u,\"elapsed_s\":%.1f}\n", watch.last.done,
               watch.last.kept, plan.dim, meter_clock() - watch.meter.start);
    encoder_plan_fini(&plan);
    return rc;
}

/* The key's first line, from the file or ASCRIBE_KEY; *key is NULL when there is neither. */
static int find_key(const char *path, char **key, struct err *e)
{
    const char *given = getenv("ASCRIBE_KEY");
    size_t room = 0;
    FILE *file;

    *key = NULL;
    if (!path) {
        *key = given ? strdup(given) : NULL;
        return 0;
    }
    file = fopen(path, "re");
    if (!file)
        return err_errno(e, errno, path);
    if (getline(key, &room, file) < 0) {
        free(*key);
        *key = NULL;
    } else {
        (*key)[strcspn(*key, "\r\n")] = '\0';
    }
    fclose(file);
    return 0;
}

static int run(struct request *r, struct err *e)
{
    char *key = NULL, *folder = r->folder ? strdup(r->folder) : NULL;
    struct encode_sink sink = folder ? encode_folder(folder) : encode_server(&r->server);
    struct passages ps = {0};
    struct model m = {0};
    int rc = find_key(r->key_file, &key, e);

    r->server.key = key;
    if (!rc)
        rc = ckpt_load(&m, r->model, e);
    if (!rc)
        rc = passages_read(&ps, r->data, e);
    if (!rc)
        rc = encode(&m, &ps, r, &sink, e);
    passages_free(&ps);
    model_free(&m);
    free(folder);
    free(key);
    return rc;
}

int verb_encode(int argc, char *const argv[], struct err *e)
{
    const char *second = "auto", *dtype = "f32";
    struct request r = {.dim = 16384,
                        .seed = 1,
                        .options = {.batch_rows = 256, .threads = crew_processors()}};
    const struct opts_row rows[] = {
        {"model", OPTS_TEXT, &r.model, 0, 0, "checkpoint (required)"},
        {"data", OPTS_TEXT, &r.data, 0, 0, "corpus, JSON Lines with id, text, meta (required)"},
        {"out", OPTS_TEXT, &r.folder, 0, 0, "folder for corpus.json and batch files"},
        {"server", OPTS_TEXT, &r.server.url, 0, 0, "instead: http://HOST:PORT or unix:PATH"},
        {"corpus", OPTS_TEXT, &r.server.corpus, 0, 0, "its name on the server"},
        {"key-file", OPTS_TEXT, &r.key_file, 0, 0, "the server's key; default: ASCRIBE_KEY"},
        {"dim", OPTS_COUNT, &r.dim, 1, ENCODER_DIM_MAX, "matrices * p * p: length of a row"},
        {"second-moment", OPTS_TEXT, &second, 0, 0,
         "none, adam, adafactor, or auto: the checkpoint's own"},
        {"seed", OPTS_COUNT, &r.seed, 0, 9e18, "of the projection"},
        {"batch-rows", OPTS_COUNT, &r.options.batch_rows, 1, ENCODE_BATCH_MAX,
         "passages in one batch"},
        {"dtype", OPTS_TEXT, &dtype, 0, 0, "f32, bf16 or f16"},
        {"threads", OPTS_COUNT, &r.options.threads, 1, CREW_MAX,
         "the result does not depend on it"},
    };
    const size_t count = sizeof rows / sizeof rows[0];
    int rc;

    if (argc > 0 && strcmp(argv[0], "--help") == 0) {
        opts_help(stdout, rows, count);
        return 0;
    }
    rc = opts_parse(rows, count, argc, argv, e);
    if (!rc && (!r.folder == !r.server.url || !r.server.url != !r.server.corpus))
        rc = err_set(e, ERR_INVALID, "give either --out, or --server and --corpus");
    if (!rc && !dtype_from_name(dtype, &r.options.dtype))
        rc = err_set(e, ERR_INVALID, "--dtype %.40s: f32, bf16 or f16", dtype);
    if (!rc)
        rc = encoder_second_parse(second, &r.second, e);
    return rc ? rc : run(&r, e);
}
