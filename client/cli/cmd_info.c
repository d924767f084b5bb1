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
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    if (rc >= 0)
        return rc;
    rc = session_open(cli, NULL, NULL, &c);
    if (rc != 0)
        return rc;
    rc = asc_info(c, &text, &e) != 0 ? out_error(cli, &e) : out_answer(cli, text);
    asc_close(c);
    return rc;
}
