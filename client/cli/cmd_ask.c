/* cmd_ask.c - `ascribe ask`: a question in words. The server's encoder continues the prompt where
 * no target is given, and makes a gradient of both; then it is a query like any other. */
#include "client/cli/answer.h"
#include "client/cli/args.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS_SHOWN = 8 };

struct ask {
    const char *corpus, *prompt, *target;
    char *said; /* owned: what the model said, where no target was given; or NULL */
    void *body; /* owned: the gradient, as a query's body */
    struct asc_query query;
    uint64_t tokens, explain;
    bool whole;
};

/* A corpus of another model is answered all the same, and means nothing. */
static void warn_of_model(struct asc_client *c, const struct ask *a)
{
    struct asc_corpus corpus = {0};
    struct asc_error e;
    char *text = NULL;
    json_t *about = NULL, *manifest = NULL;
    const char *encoder, *model;

    if (asc_encoder_get(c, &text, &e) == 0)
        about = json_loads(text, 0, NULL);
    if (asc_corpus_get(c, a->corpus, &corpus, &e) == 0 && corpus.manifest)
        manifest = json_loads(corpus.manifest, 0, NULL);
    encoder = json_string_value(json_object_get(about, "model"));
    model = json_string_value(json_object_get(manifest, "model"));
    if (encoder && model && strcmp(encoder, model) != 0)
        fprintf(stderr, "the encoder's model is %s, corpus %s is of %s: the scores mean nothing\n",
                encoder, a->corpus, model);
    json_decref(about);
    json_decref(manifest);
    asc_corpus_clear(&corpus);
    free(text);
}

/* The gradient; first the target, where the model is to say it. */
static int encode(struct cli *cli, struct asc_client *c, struct ask *a)
{
    struct asc_error e;
    size_t len;

    if (!a->target) {
        if (asc_continue(c, a->prompt, (unsigned)a->tokens, &a->said, &len, &e) != 0)
            return out_error(cli, &e);
        if (!*a->said)
            return out_input(cli, "the model has nothing to add to this prompt: give a --target");
        a->target = a->said;
    }
    if (asc_encode(c, a->prompt, a->target, &a->body, &a->query.body_len, &e) != 0)
        return out_error(cli, &e);
    a->query.body = a->body;
    return EXIT_OK;
}

/* One line of it; a space at either end, which belongs to a token, stays. */
static void put_text(const char *text, size_t len)
{
    char line[4096];

    term_line(text, len, 0, line, sizeof line);
    printf("%s%s%s", len && text[0] == ' ' ? " " : "", line,
           len > 1 && text[len - 1] == ' ' ? " " : "");
}

static int by_weight(const void *x, const void *y)
{
    const struct asc_token *a = x, *b = y;
    double left = fabs(a->score), right = fabs(b->score);

    return left < right ? 1 : left > right ? -1 : 0;
}

/* The tokens of most weight of one example, heaviest first. */
static int explain_hit(struct cli *cli, struct asc_client *c, const struct ask *a,
                       const struct asc_hit *h)
{
    struct asc_explanation x = {0};
    struct asc_error e;
    char line[512];

    if (asc_explain(c, a->corpus, h->id, &a->query, &x, &e) != 0)
        return out_error(cli, &e);
    term_line(h->id, strlen(h->id), 0, line, sizeof line);
    printf("\n  tokens of %s: %zu, sum %+.6f of %+.6f\n", line, x.count, x.sum, x.score);
    qsort(x.tokens, x.count, sizeof *x.tokens, by_weight);
    for (size_t i = 0; i < x.count && i < TOKENS_SHOWN; i++) {
        printf("    %+9.6f  at byte %-6" PRIu64 " \"", x.tokens[i].score, x.tokens[i].from);
        put_text(x.tokens[i].text, x.tokens[i].text_len);
        puts("\"");
    }
    asc_explanation_clear(&x);
    return EXIT_OK;
}

static int show(struct cli *cli, struct asc_client *c, const struct ask *a,
                const struct asc_answer *answer)
{
    int rc = EXIT_OK;

    put_text(a->prompt, strlen(a->prompt));
    putchar('[');
    put_text(a->target, strlen(a->target));
    printf("]%s\n", a->said ? "  (what the model says)" : "");
    answer_print(answer, 0, 1, !a->query.no_text, a->whole);
    out_damage(cli, &answer->damage, false);
    for (size_t i = 0; rc == EXIT_OK && i < a->explain && answer->count; i++)
        if (i < answer->results[0].proponent_count)
            rc = explain_hit(cli, c, a, &answer->results[0].proponents[i]);
    return rc;
}

/* The server's answer as it came, with the question around it. */
static int show_json(const struct ask *a, const struct asc_answer *answer)
{
    json_t *o = json_pack("{s:s, s:s, s:b}", "prompt", a->prompt, "target", a->target, "generated",
                          a->said != NULL);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

    json_decref(o);
    if (text)
        printf("%.*s,\"answer\":%.*s}\n", (int)strlen(text) - 1, text, (int)answer->json_len,
               answer->json);
    free(text);
    return EXIT_OK;
}

static int ask(struct cli *cli, struct asc_client *c, struct ask *a)
{
    struct asc_answer *answer;
    struct asc_error e;
    int rc = encode(cli, c, a);

    if (rc != EXIT_OK)
        return rc;
    warn_of_model(c, a);
    if (asc_query(c, a->corpus, &a->query, &answer, &e) != 0)
        return out_error(cli, &e);
    rc = cli->json ? show_json(a, answer) : show(cli, c, a, answer);
    asc_answer_free(answer);
    return rc;
}

static const char about[] =
    "Asks in words: which training examples made the model say TARGET after PROMPT? Without a\n"
    "target, what the model itself says. The server needs an encoder (ascribed --encoder). With\n"
    "--json: one line with prompt, target and the server's answer.";

int cmd_ask(struct cli *cli, int argc, char **argv)
{
    struct ask a = {.tokens = 8};
    uint64_t k = 10, opponents = 0;
    const struct arg list[] = {
        {"--target", 't', ARG_TEXT, &a.target, 0, 0, "TEXT", "what it said; default: what it says"},
        {"--tokens", 0, ARG_COUNT, &a.tokens, 1, 1024, "N", "of what it says, at most (8)"},
        {"--k", 'k', ARG_COUNT, &k, 0, 10000, "N", "proponents (10)"},
        {"--opponents", 'o', ARG_COUNT, &opponents, 0, 10000, "N", "opponents (0)"},
        {"--explain", 0, ARG_COUNT, &a.explain, 0, 10000, "N",
         "the tokens of most weight in the first N proponents (0)"},
        {"--text", 0, ARG_FLAG, &a.whole, 0, 0, NULL, "whole texts, not one line of each"},
        {"--no-text", 0, ARG_FLAG, &a.query.no_text, 0, 0, NULL, "ids and scores only"},
        {"--filter", 0, ARG_TEXT, &a.query.filter, 0, 0, "EXPR",
         "only examples for which it holds"},
        {"--task", 0, ARG_TEXT, &a.query.task, 0, 0, "NAME", "through this task's Hessian"},
        {"--score", 0, ARG_TEXT, &a.query.score, 0, 0, "NAME", "cosine, or dot: not normalised"},
        {"--percentile", 0, ARG_FLAG, &a.query.percentile, 0, 0, NULL,
         "where each hit stands among all scores"},
        {0}};
    const struct args args = {"ask CORPUS PROMPT [options]", about, list, 2, 2};
    struct asc_client *c;
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    if (rc >= 0)
        return rc;
    if (k == 0 && opponents == 0)
        return out_usage("ask", "both -k and --opponents are 0: there is nothing to ask");
    a.corpus = argv[1];
    a.prompt = argv[2];
    a.query.k = (uint32_t)k;
    a.query.opponents = (uint32_t)opponents;
    rc = session_open(cli, NULL, NULL, &c);
    if (rc != EXIT_OK)
        return rc;
    rc = ask(cli, c, &a);
    asc_close(c);
    free(a.said);
    free(a.body);
    return rc;
}
