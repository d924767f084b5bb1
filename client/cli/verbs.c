/* verbs.c - see verbs.h. */
#include "client/cli/verbs.h"

#include "client/cli/args.h"

#include <string.h>

/* How many arguments a list like "CORPUS TASK FILE" names, and whether the last may come again. */
static int words_of(const char *takes, bool *again)
{
    int count = 0;

    *again = false;
    while (*takes) {
        size_t len = strcspn(takes, " ");

        count++;
        *again = len > 3 && strncmp(takes + len - 3, "...", 3) == 0;
        takes += len + strspn(takes + len, " ");
    }
    return count;
}

static int check_count(const char *of, const struct verb *v, int count)
{
    bool again;
    int want = words_of(v->takes, &again);

    if (count == want || (again && count > want) || (v->least && count >= v->least && count < want))
        return EXIT_OK;
    return out_usage(of, "usage: ascribe %s %s%s%s", of, v->name, *v->takes ? " " : "", v->takes);
}

int verbs_run(struct cli *cli, const char *of, const struct verb *list, int count, char **argv,
              void *options)
{
    const struct verb *v = list;
    struct asc_client *c;
    int rc;

    if (cli->survey) {
        cli->survey->tell(cli->survey, cli->survey->args, list);
        return EXIT_OK;
    }
    while (v->name && strcmp(v->name, argv[1]) != 0)
        v++;
    if (!v->name)
        return out_usage(of, "there is no \"%s %s\"", of, argv[1]);
    rc = check_count(of, v, count - 1);
    if (rc == EXIT_OK)
        rc = session_open(cli, NULL, NULL, &c);
    if (rc != EXIT_OK)
        return rc;
    argv[1 + count] = NULL; /* options stood there; the terminator at the latest */
    rc = v->run(cli, c, argv + 2, options);
    asc_close(c);
    return rc;
}
