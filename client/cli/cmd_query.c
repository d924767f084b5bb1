/* cmd_query.c - `ascribe query`: proponents and opponents of the gradients in a file, of a saved
 * query or of an example, as a table. */
#include "client/cli/answer.h"
#include "client/cli/args.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { GROUP_BYTES = 64 << 20, GROUP_ROWS = 1024 };

static void show(const struct cli *cli, struct asc_answer *a, uint64_t first, uint64_t total,
                 const struct asc_query *q, bool whole)
{
    if (cli->json) {
        fwrite(a->json, 1, a->json_len, stdout); /* as it came: every bit of the scores */
        putchar('\n');
    } else {
        answer_print(a, first, total, !q->no_text, whole);
        out_damage(cli, &a->damage, false);
    }
    asc_answer_free(a);
}

/* Asks in groups that a server takes in one request. */
static int ask(struct cli *cli, struct asc_client *c, const char *corpus, struct asc_query *q,
               uint64_t rows, bool whole)
{
    uint64_t row = asc_matrix_dim(q->matrix) * asc_dtype_size(asc_matrix_dtype(q->matrix));
    uint64_t group = row ? GROUP_BYTES / row : 1, first = q->first_row;

    group = group < 1 ? 1 : group > GROUP_ROWS ? GROUP_ROWS : group;
    for (uint64_t done = 0; done < rows;) {
        struct asc_answer *a;
        struct asc_error e;

        q->first_row = first + done;
        q->rows = rows - done < group ? rows - done : group;
        if (asc_query(c, corpus, q, &a, &e) != 0)
            return out_error(cli, &e);
        show(cli, a, done, rows, q, whole);
        done += q->rows;
    }
    return EXIT_OK;
}

/* A saved query or an example: its vector is in the server. */
static int ask_named(struct cli *cli, const char *corpus, const struct asc_query *q, bool whole)
{
    struct asc_client *c;
    struct asc_answer *a;
    struct asc_error e;
    int rc = session_open(cli, NULL, NULL, &c);

    if (rc != 0)
        return rc;
    if (asc_query(c, corpus, q, &a, &e) != 0)
        rc = out_error(cli, &e);
    else
        show(cli, a, 0, 1, q, whole);
    asc_close(c);
    return rc;
}

static int ask_file(struct cli *cli, const char *corpus, const char *file, const char *tensor,
                    uint64_t row, struct asc_query *q, bool whole)
{
    struct asc_matrix *m;
    struct asc_client *c;
    struct asc_error e;
    uint64_t rows;
    int rc;

    if (asc_matrix_open(file, tensor, &m, &e) != 0)
        return out_error(cli, &e);
    rows = asc_matrix_rows(m);
    q->matrix = m;
    q->first_row = row == UINT64_MAX ? 0 : row;
    if (row != UINT64_MAX && row >= rows)
        rc = out_input(cli, "%s: row %" PRIu64 " of %" PRIu64, file, row, rows);
    else if (rows == 0)
        rc = out_input(cli, "%s: there are no rows in it", file);
    else
        rc = session_open(cli, NULL, NULL, &c);
    if (rc == 0) {
        rc = ask(cli, c, corpus, q, row == UINT64_MAX ? rows : 1, whole);
        asc_close(c);
    }
    asc_matrix_close(m);
    return rc;
}

static const char about[] =
    "Prints the training examples that speak most for each gradient in FILE (a .npy matrix, or a\n"
    ".safetensors with a tensor \"queries\" or \"gradients\"), and with --opponents those against\n"
    "it. With --json: the server's answer, one line for each 1,024 rows.";

static bool read_delta(const char *text, double *out)
{
    char *end;

    *out = strtod(text, &end);
    return *text && !*end && *out > 0 && *out < 1;
}

int cmd_query(struct cli *cli, int argc, char **argv)
{
    struct asc_query q = {0};
    const char *tensor = NULL, *delta = NULL;
    uint64_t k = 10, opponents = 0, row = UINT64_MAX;
    bool whole = false;
    const struct arg list[] = {
        {"--k", 'k', ARG_COUNT, &k, 0, 10000, "N", "proponents (10)"},
        {"--opponents", 'o', ARG_COUNT, &opponents, 0, 10000, "N", "opponents (0)"},
        {"--text", 0, ARG_FLAG, &whole, 0, 0, NULL, "whole texts, not one line of each"},
        {"--no-text", 0, ARG_FLAG, &q.no_text, 0, 0, NULL, "ids and scores only"},
        {"--filter", 0, ARG_TEXT, &q.filter, 0, 0, "EXPR",
         "only examples for which it holds: 'meta.source = \"wiki\" and id ^= \"n0\"'"},
        {"--blocks", 0, ARG_FLAG, &q.blocks, 0, 0, NULL, "each block's share of every score"},
        {"--percentile", 0, ARG_FLAG, &q.percentile, 0, 0, NULL,
         "where each hit stands among all scores"},
        {"--group", 0, ARG_TEXT, &q.group, 0, 0, "FIELD",
         "sums of all scores by a field: meta.source"},
        {"--saved", 0, ARG_TEXT, &q.saved, 0, 0, "NAME", "a saved query, in place of FILE"},
        {"--like", 0, ARG_TEXT, &q.like, 0, 0, "ID",
         "an example, in place of FILE: the examples nearest to it"},
        {"--row", 0, ARG_COUNT, &row, 0, UINT64_MAX - 1, "N", "only this row of the file (from 0)"},
        {"--tensor", 0, ARG_TEXT, &tensor, 0, 0, "NAME", "which tensor of a .safetensors"},
        {"--task", 0, ARG_TEXT, &q.task, 0, 0, "NAME", "through this task's Hessian"},
        {"--score", 0, ARG_TEXT, &q.score, 0, 0, "NAME", "cosine, or dot: not normalised"},
        {"--engine", 0, ARG_TEXT, &q.engine, 0, 0, "NAME", "auto, tiered, flat or scan"},
        {"--precision", 0, ARG_TEXT, &q.precision, 0, 0, "NAME",
         "certified, or probabilistic: sooner, and wrong with probability --delta"},
        {"--delta", 0, ARG_TEXT, &delta, 0, 0, "P", "of a whole query (1e-9)"},
        {0}};
    const struct args args = {"query CORPUS FILE|--saved NAME|--like ID [options]", about, list, 1,
                              2};
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    if (rc >= 0)
        return rc;
    if (k == 0 && opponents == 0 && !q.group)
        return out_usage("query", "both -k and --opponents are 0: there is nothing to ask");
    if ((count == 2) + (q.saved != NULL) + (q.like != NULL) != 1)
        return out_usage("query", q.saved || q.like ? "FILE, --saved or --like: one of them"
                                                    : "a FILE of gradients is missing, or --saved "
                                                      "NAME, or --like ID");
    if (delta && !read_delta(delta, &q.delta))
        return out_usage("query", "--delta is a probability above 0: 1e-9");
    q.k = (uint32_t)k;
    q.opponents = (uint32_t)opponents;
    if (q.saved || q.like)
        return ask_named(cli, argv[1], &q, whole);
    return ask_file(cli, argv[1], argv[2], tensor, row, &q, whole);
}
