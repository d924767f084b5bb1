/* cmd_scores.c - `ascribe scores`: the score of every example for each gradient of a file,
 * streamed to disk as safetensors, or as .npy with the ids beside it. */
#include "client/cli/args.h"
#include "client/cli/progress.h"

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

static int to_file(void *user, const void *bytes, size_t len)
{
    return fwrite(bytes, 1, len, user) == len ? 0 : -1;
}

/* numpy's format 1.0: magic, version, header length, a literal padded so that data begins on 64. */
static bool npy_head(FILE *f, const char *descr, uint64_t rows, uint64_t dim)
{
    char text[128], head[192] = "\x93NUMPY\x01";
    int len = snprintf(text, sizeof text,
                       "{'descr': '%s', 'fortran_order': False, 'shape': (%" PRIu64 ", %" PRIu64
                       "), }", descr, rows, dim);
    size_t whole = (10 + (size_t)len + 1 + 63) / 64 * 64;

    memset(head + 10, ' ', whole - 10);
    memcpy(head + 10, text, (size_t)len);
    head[8] = (char)((whole - 10) & 0xff);
    head[9] = (char)((whole - 10) >> 8);
    head[whole - 1] = '\n';
    return fwrite(head, 1, whole, f) == whole;
}

/* Copies one tensor of the finished file to another file, whole or not at all. */
static int extract(const struct cli *cli, const char *from, const char *tensor, const char *to,
                   const struct asc_matrix *shape)
{
    char part[4096];
    struct asc_error e;
    FILE *f;
    bool ok = true;

    if ((size_t)snprintf(part, sizeof part, "%s.part", to) >= sizeof part)
        return out_input(cli, "%s: the path is too long", to);
    f = fopen(part, "we");
    if (!f)
        return out_input(cli, "%s: cannot be written", part);
    if (shape)
        ok = npy_head(f, asc_matrix_dtype(shape) == ASC_F64 ? "<f8" : "<f4", asc_matrix_rows(shape),
                      asc_matrix_dim(shape));
    ok = ok && asc_tensor_read(from, tensor, to_file, f, &e) == 0;
    ok = fflush(f) == 0 && fsync(fileno(f)) == 0 && ok;
    ok = fclose(f) == 0 && ok && rename(part, to) == 0;
    if (!ok) {
        unlink(part);
        return out_input(cli, "%s: could not be written whole", to);
    }
    return EXIT_OK;
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n > m && strcmp(text + n - m, end) == 0;
}

/* OUT.npy and OUT.ids.txt from the file that came. */
static int to_npy(const struct cli *cli, const char *from, const char *out)
{
    struct asc_matrix *m;
    struct asc_error e;
    char ids[4096];
    int rc;

    if (asc_matrix_open(from, "scores", &m, &e) != 0)
        return out_error(cli, &e);
    if ((size_t)snprintf(ids, sizeof ids, "%.*s.ids.txt", (int)(strlen(out) - 4), out) >=
        sizeof ids)
        rc = out_input(cli, "%s: the path is too long", out);
    else
        rc = extract(cli, from, "ids", ids, NULL);
    if (rc == 0)
        rc = extract(cli, from, "scores", out, m);
    asc_matrix_close(m);
    return rc;
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

static int fetch(struct cli *cli, const char *corpus, const struct asc_query *q, bool f64,
                 const char *out)
{
    struct progress p;
    struct asc_client *c;
    struct asc_error e;
    char temporary[4096];
    bool npy = ends_in(out, ".npy");
    int rc;

    if ((size_t)snprintf(temporary, sizeof temporary, "%s%s", out, npy ? ".safetensors" : "") >=
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
    rc = npy ? to_npy(cli, temporary, out) : EXIT_OK;
    if (rc == 0)
        report(cli, temporary, out);
    if (npy)
        unlink(temporary);
    return rc;
}

static const char about[] =
    "Writes the score of every example for each gradient in FILE (as for query). OUT.safetensors\n"
    "has scores [q, n], sequences [n] and ids; OUT.npy has the scores, and OUT.ids.txt the ids, a\n"
    "line each. In ingest order.";

int cmd_scores(struct cli *cli, int argc, char **argv)
{
    const char *tensor = NULL, *out = NULL, *task = NULL, *filter = NULL, *score = NULL;
    bool f64 = false;
    const struct arg list[] = {
        {"--out", 'o', ARG_TEXT, &out, 0, 0, "FILE", "a .safetensors or .npy to write"},
        {"--f64", 0, ARG_FLAG, &f64, 0, 0, NULL, "scores as float64, as they are computed"},
        {"--task", 0, ARG_TEXT, &task, 0, 0, "NAME", "through this task's Hessian"},
        {"--score", 0, ARG_TEXT, &score, 0, 0, "NAME", "cosine, or dot: not normalised"},
        {"--filter", 0, ARG_TEXT, &filter, 0, 0, "EXPR", "only examples for which it holds"},
        {"--tensor", 0, ARG_TEXT, &tensor, 0, 0, "NAME", "which tensor of a .safetensors"},
        {0}};
    const struct args args = {"scores CORPUS FILE --out OUT [options]", about, list, 2, 2};
    struct asc_query q = {0};
    struct asc_matrix *m;
    struct asc_error e;
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    if (rc >= 0)
        return rc;
    if (!out || (!ends_in(out, ".npy") && !ends_in(out, ".safetensors")))
        return out_usage("scores", "--out needs a file that ends in .safetensors or .npy");
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
        rc = fetch(cli, argv[1], &q, f64, out);
    asc_matrix_close(m);
    return rc;
}
