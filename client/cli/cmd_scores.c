/* cmd_scores.c - `ascribe scores`, also `ascribe export scores`: the score of every example for
 * each gradient of a file, streamed to disk as safetensors and from there into other formats. */
#include "client/cli/args.h"
#include "client/cli/progress.h"
#include "client/cli/scorefile.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int on_tick(void *user, const struct asc_transfer *t)
{
    struct progress_state s = PROGRESS_STATE_NONE;

    s.bytes = t->received;
    s.bytes_total = t->receive_total;
    progress_show(user, &s, false);
    return session_stopped();
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n > m && strcmp(text + n - m, end) == 0;
}

static void report(const struct cli *cli, const char *path, const char *out)
{
    struct asc_matrix *m;
    struct asc_error e;
    char n[32];

    if (asc_matrix_open(path, "scores", &m, &e) != 0)
        return;
    if (cli->json)
        out_json(json_pack("{s:s, s:I, s:I, s:s}", "file", out, "queries",
                           (json_int_t)asc_matrix_rows(m), "examples",
                           (json_int_t)asc_matrix_dim(m), "dtype",
                           asc_dtype_name(asc_matrix_dtype(m))));
    else
        printf("%s: %" PRIu64 " x %s scores, %s\n", out, asc_matrix_rows(m),
               out_count(asc_matrix_dim(m), n), asc_dtype_name(asc_matrix_dtype(m)));
    asc_matrix_close(m);
}

enum format { FORMAT_SAFETENSORS, FORMAT_NPY, FORMAT_JSONL, FORMAT_BERGSON, FORMATS };
static const char *const format_names[FORMATS] = {"safetensors", "npy", "jsonl", "bergson"};

/* By its name, or by how the file is called; FORMATS when neither says. */
static enum format format_of(const char *name, const char *out)
{
    enum format f = FORMAT_SAFETENSORS;

    for (; f < FORMATS; f++) {
        char end[16];

        snprintf(end, sizeof end, ".%s", format_names[f]);
        if (name ? strcmp(name, format_names[f]) == 0 : f != FORMAT_BERGSON && ends_in(out, end))
            break;
    }
    return f;
}

static int convert(const struct cli *cli, enum format format, const char *from, const char *out,
                   uint64_t items)
{
    switch (format) {
    case FORMAT_NPY:
        return scorefile_npy(cli, from, out);
    case FORMAT_JSONL:
        return scorefile_jsonl(cli, from, out);
    case FORMAT_BERGSON:
        return scorefile_bergson(cli, from, out, items);
    case FORMAT_SAFETENSORS: case FORMATS:
        break;
    }
    return EXIT_OK;
}

static int fetch(struct cli *cli, const char *corpus, const struct asc_query *q, bool f64,
                 enum format format, const char *out, uint64_t items)
{
    struct progress p;
    struct asc_client *c;
    struct asc_error e;
    char temporary[4096];
    bool other = format != FORMAT_SAFETENSORS;
    int rc;

    if ((size_t)snprintf(temporary, sizeof temporary, "%s%s", out, other ? ".safetensors" : "") >=
        sizeof temporary)
        return out_input(cli, "%s: the path is too long", out);
    progress_start(&p, "scores", cli->quiet);
    rc = session_open(cli, on_tick, &p, &c);
    if (rc != 0)
        return rc;
    rc = asc_scores_save(c, corpus, q, f64 ? ASC_F64 : ASC_F32, temporary, &e);
    progress_end(&p);
    asc_close(c);
    if (rc != 0)
        return out_error(cli, &e);
    rc = convert(cli, format, temporary, out, items);
    if (rc == 0)
        report(cli, temporary, out);
    if (other)
        unlink(temporary);
    return rc;
}

static const char about[] =
    "Writes the score of every example for each gradient in FILE (as for query). OUT.safetensors\n"
    "has scores [q, n], sequences [n] and ids; OUT.npy has the scores, and OUT.ids.txt the ids,\n"
    "a line each; OUT.jsonl a line an example, {\"id\",\"scores\"}; --format bergson a directory\n"
    "that bergson reads. In ingest order, or with --items N at the place of the row that the id\n"
    "names.";

static int run_verb(struct cli *cli, const char *usage, int argc, char **argv)
{
    const char *tensor = NULL, *out = NULL, *task = NULL, *filter = NULL, *score = NULL;
    const char *name = NULL;
    uint64_t items = 0;
    enum format format;
    bool f64 = false;
    const struct arg list[] = {
        {"--out", 'o', ARG_TEXT, &out, 0, 0, "FILE", "what to write"},
        {"--format", 0, ARG_TEXT, &name, 0, 0, "NAME",
         "safetensors, npy, jsonl or bergson (as OUT is called)"},
        {"--items", 0, ARG_COUNT, &items, 1, INT64_MAX / 16384, "N",
         "of bergson: ids are row numbers of so many"},
        {"--f64", 0, ARG_FLAG, &f64, 0, 0, NULL, "scores as float64, as they are computed"},
        {"--task", 0, ARG_TEXT, &task, 0, 0, "NAME", "through this task's Hessian"},
        {"--score", 0, ARG_TEXT, &score, 0, 0, "NAME", "cosine, or dot: not normalised"},
        {"--filter", 0, ARG_TEXT, &filter, 0, 0, "EXPR", "only examples for which it holds"},
        {"--tensor", 0, ARG_TEXT, &tensor, 0, 0, "NAME", "which tensor of a .safetensors"},
        {0}};
    const struct args args = {usage, about, list, 2, 2};
    struct asc_query q = {0};
    struct asc_matrix *m;
    struct asc_error e;
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    if (rc >= 0)
        return rc;
    if (!out)
        return out_usage("scores", "--out says where they go");
    format = format_of(name, out);
    if (format == FORMATS)
        return out_usage("scores", "--out ends in .safetensors, .npy or .jsonl, or --format is one "
                         "of safetensors, npy, jsonl and bergson");
    if (items && format != FORMAT_BERGSON)
        return out_usage("scores", "--items goes with --format bergson");
    if (asc_matrix_open(argv[2], tensor, &m, &e) != 0)
        return out_error(cli, &e);
    q.matrix = m;
    q.task = task;
    q.filter = filter;
    q.score = score;
    q.rows = asc_matrix_rows(m);
    if (q.rows < 1 || q.rows > 1024)
        rc = out_input(cli, "%s: %" PRIu64 " rows; scores takes 1 to 1,024 at once", argv[2],
                       q.rows);
    else
        rc = fetch(cli, argv[1], &q, f64, format, out, items);
    asc_matrix_close(m);
    return rc;
}

int cmd_scores(struct cli *cli, int argc, char **argv)
{
    return run_verb(cli, "scores CORPUS FILE --out OUT [options]", argc, argv);
}

int cmd_export(struct cli *cli, int argc, char **argv)
{
    static const char usage[] = "export scores CORPUS FILE --out OUT [options]";

    if (argc > 1 && strcmp(argv[1], "scores") == 0)
        return run_verb(cli, usage, argc - 1, argv + 1);
    if (cli->survey || (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)))
        return run_verb(cli, usage, argc, argv);
    return out_usage("export", "usage: ascribe export scores CORPUS FILE --out OUT [options]");
}
