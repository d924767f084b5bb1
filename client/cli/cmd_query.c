/* cmd_query.c - `ascribe query`: proponents and opponents of the gradients in a file, as a table.
 */
#include "client/cli/args.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GROUP_BYTES = 64 << 20, GROUP_ROWS = 1024, ID_COLUMNS = 32 };

struct view {
    unsigned columns;  /* of the terminal; 0: none, nothing is cut */
    unsigned id_width;
    bool text, whole;
};

static unsigned id_width(const struct asc_result *r)
{
    unsigned widest = 2;
    char line[1100];

    for (int side = 0; side < 2; side++) {
        const struct asc_hit *hits = side ? r->opponents : r->proponents;
        size_t count = side ? r->opponent_count : r->proponent_count;

        for (size_t i = 0; i < count; i++) {
            unsigned w = term_line(hits[i].id, strlen(hits[i].id), ID_COLUMNS, line, sizeof line);

            widest = w > widest ? w : widest;
        }
    }
    return widest;
}

static void print_hit(const struct asc_hit *h, const struct view *v)
{
    char id[1100], line[8192];
    unsigned used = term_line(h->id, strlen(h->id), v->columns ? ID_COLUMNS : 0, id, sizeof id);
    unsigned left = 4 + 5 + 2 + 9 + 2 + v->id_width + 2, room = 0;

    printf("    %5" PRIu32 "  %+9.6f  %s", h->rank, h->score, id);
    if (!v->text || !h->text) {
        putchar('\n');
        return;
    }
    printf("%*s", (int)(v->id_width > used ? v->id_width - used : 0) + 2, "");
    if (v->columns)
        room = v->columns > left + 10 ? v->columns - left : 10;
    if (v->whole) {
        putchar('\n');
        term_text(h->text, h->text_len);
        puts("\n");
        return;
    }
    term_line(h->text, h->text_len, room, line, sizeof line);
    puts(line);
}

static void print_hits(const char *what, const struct asc_hit *hits, size_t count,
                       const struct view *v)
{
    if (count == 0)
        return;
    printf("  %s\n    %5s  %9s  ", what, "rank", "score");
    if (v->text && !v->whole)
        printf("%-*s  text\n", (int)v->id_width, "id");
    else
        puts("id");
    for (size_t i = 0; i < count; i++)
        print_hit(&hits[i], v);
}

static void print_answer(const struct asc_answer *a, uint64_t first, uint64_t total, bool text,
                         bool whole)
{
    struct view v = {.columns = term_columns(STDOUT_FILENO), .text = text, .whole = whole};
    char n[32];

    for (size_t i = 0; i < a->count; i++) {
        const struct asc_result *r = &a->results[i];

        v.id_width = id_width(r);
        printf("%squery %" PRIu64 " of %" PRIu64 ": %s examples, engine %s, %s, %.1f ms\n",
               first + i > 0 ? "\n" : "", first + i + 1, total, out_count(a->examples, n),
               a->engine, a->exact, a->took_ms);
        print_hits("proponents", r->proponents, r->proponent_count, &v);
        print_hits("opponents", r->opponents, r->opponent_count, &v);
    }
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
        if (cli->json) {
            fwrite(a->json, 1, a->json_len, stdout); /* as it came: every bit of the scores */
            putchar('\n');
        } else {
            print_answer(a, done, rows, !q->no_text, whole);
        }
        asc_answer_free(a);
        done += q->rows;
    }
    return EXIT_OK;
}

static const char about[] =
    "Prints the training examples that speak most for each gradient in FILE (a .npy matrix, or a\n"
    ".safetensors with a tensor \"queries\" or \"gradients\"), and with --opponents those against\n"
    "it. With --json: the server's answer, one line for each 1,024 rows.";

int cmd_query(struct cli *cli, int argc, char **argv)
{
    const char *tensor = NULL, *engine = NULL, *task = NULL;
    uint64_t k = 10, opponents = 0, row = UINT64_MAX;
    bool whole = false, bare = false;
    const struct arg list[] = {
        {"--k", 'k', ARG_COUNT, &k, 0, 10000, "N", "proponents (10)"},
        {"--opponents", 'o', ARG_COUNT, &opponents, 0, 10000, "N", "opponents (0)"},
        {"--text", 0, ARG_FLAG, &whole, 0, 0, NULL, "whole texts, not one line of each"},
        {"--no-text", 0, ARG_FLAG, &bare, 0, 0, NULL, "ids and scores only"},
        {"--row", 0, ARG_COUNT, &row, 0, UINT64_MAX - 1, "N", "only this row of the file (from 0)"},
        {"--tensor", 0, ARG_TEXT, &tensor, 0, 0, "NAME", "which tensor of a .safetensors"},
        {"--task", 0, ARG_TEXT, &task, 0, 0, "NAME", "through this task's Hessian"},
        {"--engine", 0, ARG_TEXT, &engine, 0, 0, "NAME", "auto, flat or scan"},
        {0}};
    const struct args args = {"query CORPUS FILE [options]", about, list, 2, 2};
    struct asc_query q = {0};
    struct asc_matrix *m;
    struct asc_client *c;
    struct asc_error e;
    uint64_t rows;
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    if (rc >= 0)
        return rc;
    if (k == 0 && opponents == 0)
        return out_usage("query", "both -k and --opponents are 0: there is nothing to ask");
    if (asc_matrix_open(argv[2], tensor, &m, &e) != 0)
        return out_error(cli, &e);
    rows = asc_matrix_rows(m);
    if (row != UINT64_MAX && row >= rows) {
        asc_matrix_close(m);
        return out_input(cli, "%s: row %" PRIu64 " of %" PRIu64, argv[2], row, rows);
    }
    q = (struct asc_query){.matrix = m, .k = (uint32_t)k, .opponents = (uint32_t)opponents,
                           .engine = engine, .task = task, .no_text = bare,
                           .first_row = row == UINT64_MAX ? 0 : row};
    rc = rows == 0 ? out_input(cli, "%s: there are no rows in it", argv[2])
                   : session_open(cli, NULL, NULL, &c);
    if (rc == 0) {
        rc = ask(cli, c, argv[1], &q, row == UINT64_MAX ? rows : 1, whole);
        asc_close(c);
    }
    asc_matrix_close(m);
    return rc;
}
