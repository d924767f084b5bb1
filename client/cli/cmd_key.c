/* cmd_key.c - `ascribe key create|list|revoke`. */
#include "client/cli/args.h"

#include <stdlib.h>
#include <string.h>

static int create(struct cli *cli, struct asc_client *c, const char *scope, const char *label)
{
    struct asc_key k;
    struct asc_error e;

    if (asc_key_create(c, scope, label, &k, &e) != 0)
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

static int list_all(struct cli *cli, struct asc_client *c)
{
    struct asc_key *list;
    struct asc_error e;
    size_t count;
    char label[512];

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

static int revoke(struct cli *cli, struct asc_client *c, const char *id)
{
    struct asc_error e;

    if (asc_key_revoke(c, id, &e) != 0)
        return out_error(cli, &e);
    if (cli->json)
        out_json(json_pack("{s:s}", "revoked", id));
    else
        printf("%s: revoked\n", id);
    return EXIT_OK;
}

int cmd_key(struct cli *cli, int argc, char **argv)
{
    const char *scope = "read", *label = NULL, *verb;
    const struct arg list[] = {
        {"--scope", 0, ARG_TEXT, &scope, 0, 0, "SCOPE", "read (default), write or admin"},
        {"--label", 0, ARG_TEXT, &label, 0, 0, "TEXT", "what it is for"},
        {0}};
    const struct args args = {"key create|list|revoke [ID] [options]",
                              "  key create        a new key on standard output, shown this once\n"
                              "  key list          ids, scopes and labels\n"
                              "  key revoke ID     effective at once",
                              list, 1, 2};
    struct asc_client *c;
    int count, rc = args_parse(cli, &args, argc, argv, &count);
    bool is_revoke;

    if (rc >= 0)
        return rc;
    verb = argv[1];
    is_revoke = strcmp(verb, "revoke") == 0;
    if (!is_revoke && strcmp(verb, "create") != 0 && strcmp(verb, "list") != 0)
        return out_usage("key", "there is no \"key %s\"", verb);
    if (is_revoke != (count == 2))
        return is_revoke ? out_usage("key", "revoke needs the id of a key")
                         : out_usage("key", "%s takes no id", verb);
    rc = session_open(cli, NULL, NULL, &c);
    if (rc != 0)
        return rc;
    if (is_revoke)
        rc = revoke(cli, c, argv[2]);
    else if (strcmp(verb, "create") == 0)
        rc = create(cli, c, scope, label);
    else
        rc = list_all(cli, c);
    asc_close(c);
    return rc;
}
