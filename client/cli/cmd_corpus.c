/* cmd_corpus.c - `ascribe corpus create|list|show|drop`. */
#include "client/cli/args.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int create(struct cli *cli, struct asc_client *c, const char *name, const char *definition)
{
    struct asc_corpus x = {0};
    struct asc_error e;
    char *raw, path[256];
    bool created;
    int rc = EXIT_OK;

    if (asc_corpus_create(c, name, definition, &x, &created, &e) != 0)
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

/* A definition from a file, or from the options. Owned by the caller; NULL after printing why. */
static char *definition_of(const struct cli *cli, const char *file, uint64_t dim, const char *dtype,
                           bool encoded, const char *model)
{
    json_t *o;
    char *text;

    if (file)
        return out_read_file(cli, file, 8 << 20);
    o = json_pack("{s:I}", "dim", (json_int_t)dim);
    if (o && dtype)
        json_object_set_new(o, "dtype", json_string(dtype));
    if (o && encoded)
        json_object_set_new(o, "encoded", json_true());
    if (o && model)
        json_object_set_new(o, "model", json_string(model));
    text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (!text)
        out_input(cli, "no memory");
    return text;
}

static int list_all(struct cli *cli, struct asc_client *c)
{
    struct asc_corpus *list;
    struct asc_error e;
    size_t count;
    char a[32], b[32];

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

static int show(struct cli *cli, struct asc_client *c, const char *name)
{
    struct asc_corpus x = {0};
    struct asc_error e;
    char *raw, path[256];
    json_t *o;

    if (asc_corpus_get(c, name, &x, &e) != 0)
        return out_error(cli, &e);
    snprintf(path, sizeof path, "/v1/corpora/%s", x.name);
    asc_corpus_clear(&x);
    if (asc_request(c, "GET", path, NULL, &raw, NULL, NULL, &e) != 0)
        return out_error(cli, &e);
    o = json_loads(raw, 0, NULL);
    asc_free(raw);
    if (cli->json) {
        out_json(o);
        return EXIT_OK;
    }
    out_object(o);
    json_decref(o);
    return EXIT_OK;
}

/* Typing the name is the seat belt: there is no way back. */
static int drop(struct cli *cli, struct asc_client *c, const char *name, bool yes)
{
    struct asc_error e;
    char line[128];

    if (!yes) {
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
    if (cli->json)
        out_json(json_pack("{s:s}", "dropped", name));
    else
        printf("%s: dropped\n", name);
    return EXIT_OK;
}

static const char about[] =
    "  corpus create NAME DEFINITION.json   make a corpus (docs/protocol.md says how)\n"
    "  corpus create NAME --dim N           the same with defaults: f32, one block\n"
    "  corpus list                          all of them\n"
    "  corpus show NAME                     manifest and numbers\n"
    "  corpus drop NAME                     remove it with everything in it";

int cmd_corpus(struct cli *cli, int argc, char **argv)
{
    const char *dtype = NULL, *model = NULL, *verb, *name;
    uint64_t dim = 0;
    bool encoded = false, yes = false;
    const struct arg list[] = {
        {"--dim", 0, ARG_COUNT, &dim, 1, 1048576, "N", "length of a gradient"},
        {"--dtype", 0, ARG_TEXT, &dtype, 0, 0, "TYPE", "what is stored: f32, f16, bf16"},
        {"--encoded", 0, ARG_FLAG, &encoded, 0, 0, NULL, "the vectors are finished encodings"},
        {"--model", 0, ARG_TEXT, &model, 0, 0, "TEXT", "which model they are of; recorded"},
        {"--yes", 'y', ARG_FLAG, &yes, 0, 0, NULL, "drop without asking"},
        {0}};
    const struct args args = {"corpus create|list|show|drop [NAME] [options]", about, list, 1, 3};
    struct asc_client *c;
    char *definition = NULL;
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    if (rc >= 0)
        return rc;
    verb = argv[1];
    name = count > 1 ? argv[2] : NULL;
    if (strcmp(verb, "list") != 0 && !name)
        return out_usage("corpus", "%s needs the name of a corpus", verb);
    if (strcmp(verb, "create") == 0) {
        if ((count == 3) == (dim > 0))
            return out_usage("corpus", "create needs either DEFINITION.json or --dim N");
        definition = definition_of(cli, count == 3 ? argv[3] : NULL, dim, dtype, encoded, model);
        if (!definition)
            return EXIT_INPUT;
    } else if (strcmp(verb, "list") != 0 && strcmp(verb, "show") != 0 &&
               strcmp(verb, "drop") != 0) {
        return out_usage("corpus", "there is no \"corpus %s\"", verb);
    }
    rc = session_open(cli, NULL, NULL, &c);
    if (rc != 0) {
        free(definition);
        return rc;
    }
    if (definition)
        rc = create(cli, c, name, definition);
    else if (strcmp(verb, "list") == 0)
        rc = list_all(cli, c);
    else if (strcmp(verb, "show") == 0)
        rc = show(cli, c, name);
    else
        rc = drop(cli, c, name, yes);
    free(definition);
    asc_close(c);
    return rc;
}
