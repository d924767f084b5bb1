/* cmd_page.c - `ascribe page`: a link that opens the server's page with the key in it. The key
 * stands behind the "#", which browsers send to nobody; the page takes it out at once. */
#include "client/cli/args.h"

#include <stdlib.h>
#include <string.h>

/* The key's scope as the server knows it; "" when it does not say. This also shows that there is a
 * server and that it takes the key. */
static int ask_scope(struct cli *cli, char out[16])
{
    struct asc_client *c;
    struct asc_error e;
    char *text;
    json_t *o;
    const char *scope = NULL;
    int rc = session_open(cli, NULL, NULL, &c);

    if (rc != 0)
        return rc;
    rc = asc_info(c, &text, &e);
    asc_close(c);
    if (rc != 0)
        return out_error(cli, &e);
    o = json_loads(text, 0, NULL);
    asc_free(text);
    json_unpack(o, "{s:{s:s}}", "key", "scope", &scope);
    snprintf(out, 16, "%s", scope ? scope : "");
    json_decref(o);
    return EXIT_OK;
}

static void print(const struct cli *cli, const char *link, const char *scope)
{
    if (cli->json) {
        out_json(json_pack("{s:s, s:s?}", "url", link, "scope", *scope ? scope : NULL));
        return;
    }
    puts(link);
    if (!cli->quiet && (strcmp(scope, "admin") == 0 || strcmp(scope, "write") == 0))
        fprintf(stderr,
                "whoever has this link may do what the key may (%s); to show others:\n"
                "  ascribe key create --scope read --label guest\n",
                scope);
}

int cmd_page(struct cli *cli, int argc, char **argv)
{
    const char *corpus = NULL;
    const struct arg list[] = {
        {"--corpus", 'c', ARG_TEXT, &corpus, 0, 0, "NAME", "open it at this corpus"}, {0}};
    const struct args args = {"page [--corpus NAME]",
                              "A link that opens the server's page in a browser, with the key.",
                              list, 0, 0};
    size_t len, room;
    char scope[16], *key = NULL, *link;
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    if (rc >= 0)
        return rc;
    if (strncmp(cli->server, "unix:", 5) == 0)
        return out_usage("page", "a browser cannot open %s: let the server listen on an address as "
                         "well (--listen 127.0.0.1:0), or forward one to the socket", cli->server);
    rc = session_key(cli, &key);
    if (rc != 0)
        return rc;
    if (!key)
        return out_usage("page", "no key: give --key-file, ASCRIBE_KEY or --store");
    rc = ask_scope(cli, scope);
    len = strlen(cli->server); /* now: the option may stand behind the verb */
    room = len + strlen(key) + (corpus ? strlen(corpus) : 0) + 16;
    link = malloc(room);
    if (rc == EXIT_OK && !link)
        rc = out_input(cli, "no memory");
    if (rc == EXIT_OK) {
        while (len && cli->server[len - 1] == '/')
            len--;
        snprintf(link, room, "%.*s/#key=%s%s%s", (int)len, cli->server, key, corpus ? "&c=" : "",
                 corpus ? corpus : "");
        print(cli, link, scope);
        explicit_bzero(link, room);
    }
    explicit_bzero(key, strlen(key));
    free(link);
    free(key);
    return rc;
}
