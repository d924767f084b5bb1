/* cmd_corpus.c - `ascribe corpus create|list|show|drop`. */
#include "client/cli/args.h"
#include "client/cli/verbs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct corpus_options {
    const char *dtype, *model;
    uint64_t dim;
    bool encoded, yes;
};

/* A definition from a file, or from the options. Owned by the caller; NULL after printing why. */
static char *definition_of(const struct cli *cli, const char *file, const struct corpus_options *x)
{
    json_t *o;
    char *text;

    if (file)
        return out_read_file(cli, file, 8 << 20);
    o = json_pack("{s:I}", "dim", (json_int_t)x->dim);
    if (o && x->dtype)
        json_object_set_new(o, "dtype", json_string(x->dtype));
    if (o && x->encoded)
        json_object_set_new(o, "encoded", json_true());
    if (o && x->model)
        json_object_set_new(o, "model", json_string(x->model));
    text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (!text)
        out_input(cli, "no memory");
    return text;
}

static int create(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    const struct corpus_options *o = options;
    struct asc_corpus x = {0};
    struct asc_error e;
    char *definition, *raw, path[256];
    bool created;
    int rc = EXIT_OK;

    if ((at[1] != NULL) == (o->dim > 0))
        return out_usage("corpus", "create needs either DEFINITION.json or --dim N");
    definition = definition_of(cli, at[1], o);
    if (!definition)
        return EXIT_INPUT;
    rc = asc_corpus_create(c, at[0], definition, &x, &created, &e);
    free(definition);
    if (rc != 0)
        return out_error(cli, &e);
    snprintf(path, sizeof path, "/v1/corpora/%s", x.name);
    if (!cli->json) {
        printf("%s: %s, dim %" PRIu64 ", %s, fingerprint %s\n", x.name,
               created ? "created" : "stands already, as defined", x.dim, x.dtype, x.fingerprint);
    } else if (asc_request(c, "GET", path, NULL, &raw, NULL, NULL, &e) == 0) {
        out_json(json_loads(raw, 0, NULL));
        asc_free(raw);
    } else {
        rc = out_error(cli, &e);
    }
    asc_corpus_clear(&x);
    return rc;
}

static int list_all(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    struct asc_corpus *list;
    struct asc_error e;
    size_t count;
    char a[32], b[32];

    (void)at;
    (void)options;
    if (asc_corpus_list(c, &list, &count, &e) != 0)
        return out_error(cli, &e);
    if (!cli->json && count > 0)
        printf("%-32s %14s %10s %8s %12s\n", "corpus", "examples", "deleted", "batches", "size");
    for (size_t i = 0; i < count; i++) {
        const struct asc_corpus *x = &list[i];

        if (cli->json)
            out_json(json_pack("{s:s, s:s, s:I, s:I, s:I, s:I}", "name", x->name, "fingerprint",
                               x->fingerprint, "examples", (json_int_t)x->examples, "deleted",
                               (json_int_t)x->deleted, "batches", (json_int_t)x->batches, "bytes",
                               (json_int_t)x->bytes));
        else
            printf("%-32s %14s %10" PRIu64 " %8" PRIu64 " %12s\n", x->name,
                   out_count(x->examples, a), x->deleted, x->batches,
                   out_bytes((double)x->bytes, b));
    }
    asc_corpora_free(list, count);
    return EXIT_OK;
}

static int show(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    struct asc_corpus x = {0};
    struct asc_error e;
    char *raw, path[256];

    (void)options;
    if (asc_corpus_get(c, at[0], &x, &e) != 0)
        return out_error(cli, &e);
    snprintf(path, sizeof path, "/v1/corpora/%s", x.name);
    asc_corpus_clear(&x);
    if (asc_request(c, "GET", path, NULL, &raw, NULL, NULL, &e) != 0)
        return out_error(cli, &e);
    return out_answer(cli, raw);
}

/* Typing the name is the seat belt: there is no way back. */
static int drop(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    const struct corpus_options *o = options;
    const char *name = at[0];
    struct asc_error e;
    char line[128];

    if (!o->yes) {
        if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
            return out_usage("corpus", "drop %s removes it for good: say --yes", name);
        fprintf(stderr, "This removes corpus %s and every example in it. Type its name: ", name);
        if (!fgets(line, sizeof line, stdin))
            return EXIT_STOPPED;
        line[strcspn(line, "\n")] = '\0';
        if (strcmp(line, name) != 0)
            return out_usage("corpus", "not dropped: \"%s\" is not its name", line);
    }
    if (asc_corpus_drop(c, name, &e) != 0)
        return out_error(cli, &e);
    return out_done(cli, "dropped", name);
}

static const char about[] =
    "  corpus create NAME DEFINITION.json   make a corpus (docs/protocol.md says how)\n"
    "  corpus create NAME --dim N           the same with defaults: f32, one block\n"
    "  corpus list                          all of them\n"
    "  corpus show NAME                     manifest and numbers\n"
    "  corpus drop NAME                     remove it with everything in it";

int cmd_corpus(struct cli *cli, int argc, char **argv)
{
    static const struct verb verbs[] = {{"create", "NAME DEFINITION.json", 1, create},
                                        {"list", "", 0, list_all},
                                        {"show", "NAME", 0, show},
                                        {"drop", "NAME", 0, drop},
                                        {0}};
    struct corpus_options o = {0};
    const struct arg list[] = {
        {"--dim", 0, ARG_COUNT, &o.dim, 1, 1048576, "N", "length of a gradient"},
        {"--dtype", 0, ARG_TEXT, &o.dtype, 0, 0, "TYPE", "what is stored: f32, f16, bf16"},
        {"--encoded", 0, ARG_FLAG, &o.encoded, 0, 0, NULL, "the vectors are finished encodings"},
        {"--model", 0, ARG_TEXT, &o.model, 0, 0, "TEXT", "which model they are of; recorded"},
        {"--yes", 'y', ARG_FLAG, &o.yes, 0, 0, NULL, "drop without asking"},
        {0}};
    const struct args args = {"corpus create|list|show|drop [NAME] [options]", about, list, 1, 3};
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    return rc >= 0 ? rc : verbs_run(cli, "corpus", verbs, count, argv, &o);
}
