/* cmd_info.c - `ascribe info`. */
#include "client/cli/args.h"

int cmd_info(struct cli *cli, int argc, char **argv)
{
    const struct arg list[] = {{0}};
    const struct args args = {"info", "Version, instruction set, engines, limits and state of the "
                              "server.", list, 0, 0};
    struct asc_client *c;
    struct asc_error e;
    char *text;
    json_t *o;
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    if (rc >= 0)
        return rc;
    rc = session_open(cli, NULL, NULL, &c);
    if (rc != 0)
        return rc;
    if (asc_info(c, &text, &e) != 0) {
        asc_close(c);
        return out_error(cli, &e);
    }
    asc_close(c);
    o = json_loads(text, 0, NULL);
    asc_free(text);
    if (!json_is_object(o)) {
        json_decref(o);
        e = (struct asc_error){.status = ASC_PROTOCOL, .code = "bad_answer", .index = -1,
                               .limit = -1, .detail = "the answer is not a JSON object"};
        return out_error(cli, &e);
    }
    if (cli->json) {
        out_json(o);
        return EXIT_OK;
    }
    out_object(o);
    json_decref(o);
    return EXIT_OK;
}
