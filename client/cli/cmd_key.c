/* cmd_key.c - `ascribe key create|list|revoke`. */
#include "client/cli/args.h"
#include "client/cli/verbs.h"

#include <stdlib.h>
#include <string.h>

struct key_options {
    const char *scope, *label;
};

static int create(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    const struct key_options *o = options;
    struct asc_key k;
    struct asc_error e;

    (void)at;
    if (asc_key_create(c, o->scope, o->label, &k, &e) != 0)
        return out_error(cli, &e);
    if (cli->json) {
        out_json(json_pack("{s:s, s:s, s:s, s:s?, s:s}", "key", k.secret, "id", k.id, "scope",
                           k.scope, "label", k.label, "created", k.created));
    } else {
        puts(k.secret); /* alone on standard output: `ascribe key create > file` is a key file */
        fprintf(stderr, "ascribe: key %s, scope %s; it is shown only this once\n", k.id, k.scope);
    }
    asc_key_clear(&k);
    return EXIT_OK;
}

static int list_all(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    struct asc_key *list;
    struct asc_error e;
    size_t count;
    char label[512];

    (void)at;
    (void)options;
    if (asc_key_list(c, &list, &count, &e) != 0)
        return out_error(cli, &e);
    if (!cli->json && count > 0)
        printf("%-20s %-6s %-24s %s\n", "id", "scope", "created", "label");
    for (size_t i = 0; i < count; i++) {
        const struct asc_key *k = &list[i];

        term_line(k->label ? k->label : "", k->label ? strlen(k->label) : 0, 0, label,
                  sizeof label);
        if (cli->json)
            out_json(json_pack("{s:s, s:s, s:s?, s:s}", "id", k->id, "scope", k->scope, "label",
                               k->label, "created", k->created));
        else
            printf("%-20s %-6s %-24s %s\n", k->id, k->scope, k->created, label);
    }
    asc_keys_free(list, count);
    return EXIT_OK;
}

static int revoke(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    struct asc_error e;

    (void)options;
    if (asc_key_revoke(c, at[0], &e) != 0)
        return out_error(cli, &e);
    if (cli->json)
        out_json(json_pack("{s:s}", "revoked", at[0]));
    else
        printf("%s: revoked\n", at[0]);
    return EXIT_OK;
}

int cmd_key(struct cli *cli, int argc, char **argv)
{
    static const struct verb verbs[] = {{"create", "", 0, create},
                                        {"list", "", 0, list_all},
                                        {"revoke", "ID", 0, revoke},
                                        {0}};
    struct key_options o = {.scope = "read"};
    const struct arg list[] = {
        {"--scope", 0, ARG_TEXT, &o.scope, 0, 0, "SCOPE", "read (default), write or admin"},
        {"--label", 0, ARG_TEXT, &o.label, 0, 0, "TEXT", "what it is for"},
        {0}};
    const struct args args = {"key create|list|revoke [ID] [options]",
                              "  key create        a new key on standard output, shown this once\n"
                              "  key list          ids, scopes and labels\n"
                              "  key revoke ID     effective at once",
                              list, 1, 2};
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    return rc >= 0 ? rc : verbs_run(cli, "key", verbs, count, argv, &o);
}
