/* cmd_saved.c - `ascribe saved`: prompts with their gradients, kept in the server. `ascribe query
 * --saved` runs one. */
#include "client/cli/args.h"
#include "client/cli/verbs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct saved_options {
    const char *prompt, *target, *output, *tags; /* tags: comma-separated */
    const char *tensor;
    uint64_t row;
    const char *after;
    uint64_t limit;
    bool all;
};

static int members_of(struct cli *cli, const struct saved_options *o, char **out)
{
    const struct {
        const char *name, *text;
    } texts[] = {{"prompt", o->prompt}, {"target", o->target}, {"output", o->output}};
    json_t *all = json_object(), *tags = json_array();
    const char *at = o->tags;
    bool good = true;

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i].text)
            good &= json_object_set_new(all, texts[i].name, json_string(texts[i].text)) == 0;
    while (at && *at) {
        size_t len = strcspn(at, ",");

        good &= json_array_append_new(tags, json_stringn(at, len)) == 0;
        at += len + (at[len] == ',');
    }
    json_object_set_new(all, "tags", tags);
    *out = good ? json_dumps(all, JSON_COMPACT) : NULL;
    json_decref(all);
    return *out ? 0 : out_input(cli, "prompt, target, output and tags must be UTF-8");
}

static int put(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    const struct saved_options *o = options;
    struct asc_query q = {.rows = 1, .first_row = o->row};
    struct asc_matrix *m;
    struct asc_error e;
    char *members = NULL, *entry = NULL;
    int rc = members_of(cli, o, &members);

    if (rc != 0)
        return rc;
    if (asc_matrix_open(at[2], o->tensor, &m, &e) != 0) {
        free(members);
        return out_error(cli, &e);
    }
    q.matrix = m;
    if (o->row >= asc_matrix_rows(m))
        rc = out_input(cli, "%s: row %" PRIu64 " of %" PRIu64, at[2], o->row, asc_matrix_rows(m));
    else if (asc_saved_put(c, at[0], at[1], members, &q, &entry, &e) != 0)
        rc = out_error(cli, &e);
    else if (cli->json)
        puts(entry);
    else
        printf("%s: saved\n", at[1]);
    asc_free(entry);
    free(members);
    asc_matrix_close(m);
    return rc;
}

static int get(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    struct asc_error e;
    char *text = NULL;

    (void)options;
    if (asc_saved_get(c, at[0], at[1], &text, &e) != 0)
        return out_error(cli, &e);
    return out_answer(cli, text);
}

static void print_row(const json_t *q, unsigned columns)
{
    const char *prompt = json_string_value(json_object_get(q, "prompt")),
               *target = json_string_value(json_object_get(q, "target"));
    const char *name = json_string_value(json_object_get(q, "name"));
    char text[2048], line[2048];

    snprintf(text, sizeof text, "%s ->%s", prompt ? prompt : "", target ? target : "");
    term_line(text, strlen(text), columns > 40 ? columns - 26 : 0, line, sizeof line);
    printf("%-24s  %s\n", name ? name : "?", line);
}

static int list(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    const struct saved_options *o = options;
    unsigned columns = term_columns(STDOUT_FILENO);
    char after[ASC_NAME_MAX + 1] = "";
    bool more = true;

    snprintf(after, sizeof after, "%s", o->after ? o->after : "");
    while (more) {
        struct asc_error e;
        char *text = NULL;
        json_t *page, *q;
        size_t i;

        if (asc_saved_list(c, at[0], *after ? after : NULL, o->tags,
                           o->all ? 1000 : (unsigned)o->limit, &text, &e) != 0)
            return out_error(cli, &e);
        page = json_loads(text, 0, NULL);
        free(text);
        json_array_foreach(json_object_get(page, "queries"), i, q) {
            if (cli->json)
                out_json(json_incref(q));
            else
                print_row(q, columns);
        }
        q = json_object_get(page, "next");
        more = json_is_string(q) && o->all && !session_stopped();
        snprintf(after, sizeof after, "%s", json_is_string(q) ? json_string_value(q) : "");
        json_decref(page);
    }
    if (*after && !cli->quiet)
        fprintf(stderr, cli->json ? "{\"next\":\"%s\"}\n" : "more: --after %s\n", after);
    return session_stopped() ? EXIT_STOPPED : EXIT_OK;
}

static int delete(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    struct asc_error e;

    (void)options;
    if (asc_saved_delete(c, at[0], at[1], &e) != 0)
        return out_error(cli, &e);
    return out_done(cli, "deleted", at[1]);
}

static const char about[] =
    "  saved put CORPUS NAME FILE     a gradient (a row of a .npy or .safetensors), what was\n"
    "                                 asked and what came out\n"
    "  saved list CORPUS\n"
    "  saved get CORPUS NAME\n"
    "  saved delete CORPUS NAME\n"
    "`ascribe query CORPUS --saved NAME` runs one.";

int cmd_saved(struct cli *cli, int argc, char **argv)
{
    static const struct verb verbs[] = {{"put", "CORPUS NAME FILE", 0, put},
                                        {"list", "CORPUS", 0, list},
                                        {"get", "CORPUS NAME", 0, get},
                                        {"delete", "CORPUS NAME", 0, delete},
                                        {0}};
    struct saved_options o = {.limit = 100};
    const struct arg options[] = {
        {"--prompt", 0, ARG_TEXT, &o.prompt, 0, 0, "TEXT", "what the model was given"},
        {"--target", 0, ARG_TEXT, &o.target, 0, 0, "TEXT", "what the gradient is of"},
        {"--output", 0, ARG_TEXT, &o.output, 0, 0, "TEXT", "what the model said"},
        {"--tag", 0, ARG_TEXT, &o.tags, 0, 0, "TAG[,TAG]", "put: its tags; list: only this tag"},
        {"--row", 0, ARG_COUNT, &o.row, 0, UINT64_MAX - 1, "N", "row of FILE (0)"},
        {"--tensor", 0, ARG_TEXT, &o.tensor, 0, 0, "NAME", "which tensor of a .safetensors"},
        {"--after", 0, ARG_TEXT, &o.after, 0, 0, "NAME", "list: those behind it"},
        {"--limit", 0, ARG_COUNT, &o.limit, 1, 1000, "N", "list: so many (100)"},
        {"--all", 0, ARG_FLAG, &o.all, 0, 0, NULL, "list: to the end"},
        {0}};
    const struct args args = {"saved put|list|get|delete CORPUS [NAME [FILE]]", about, options, 2,
                              4};
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    return rc >= 0 ? rc : verbs_run(cli, "saved", verbs, count, argv, &o);
}
