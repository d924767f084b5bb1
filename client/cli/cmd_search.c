/* cmd_search.c - `ascribe search`: examples by words. */
#include "client/cli/answer.h"
#include "client/cli/args.h"

#include <inttypes.h>
#include <stdio.h>

static const char about[] =
    "Prints the examples whose texts have any word of TEXT, best first (BM25). With --json: the\n"
    "server's answer.";

static void show(const struct cli *cli, const struct asc_answer *a, bool text, bool whole)
{
    char n[32], all[32];

    if (cli->json) {
        fwrite(a->json, 1, a->json_len, stdout);
        putchar('\n');
        return;
    }
    printf("%s of %s examples match, %.1f ms\n", out_count(a->matches, n),
           out_count(a->examples, all), a->took_ms);
    answer_print_result(&a->results[0], text, whole);
    out_damage(cli, &a->damage, false);
    if (a->missing)
        fprintf(stderr, "%s examples are not in the index yet: search again in a moment\n",
                out_count(a->missing, n));
}

int cmd_search(struct cli *cli, int argc, char **argv)
{
    struct asc_search s = {0};
    uint64_t k = 10;
    bool whole = false;
    const struct arg list[] = {
        {"--k", 'k', ARG_COUNT, &k, 0, 10000, "N", "examples (10)"},
        {"--filter", 0, ARG_TEXT, &s.filter, 0, 0, "EXPR", "only examples for which it holds"},
        {"--text", 0, ARG_FLAG, &whole, 0, 0, NULL, "whole texts, not one line of each"},
        {"--no-text", 0, ARG_FLAG, &s.no_text, 0, 0, NULL, "ids and scores only"},
        {0}};
    const struct args args = {"search CORPUS TEXT [options]", about, list, 2, 2};
    struct asc_answer *a;
    struct asc_client *c;
    struct asc_error e;
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    if (rc >= 0)
        return rc;
    s.text = argv[2];
    s.k = (uint32_t)k;
    rc = session_open(cli, NULL, NULL, &c);
    if (rc != 0)
        return rc;
    if (asc_search(c, argv[1], &s, &a, &e) != 0) {
        rc = out_error(cli, &e);
    } else {
        show(cli, a, !s.no_text, whole);
        asc_answer_free(a);
    }
    asc_close(c);
    return rc;
}
