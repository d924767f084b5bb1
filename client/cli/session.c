/* session.c - which server, which key, and what an interrupt does. */
#include "client/cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Set by the handler, read by every worker: lock-free, so it may be both. */
static atomic_bool stopped;
_Static_assert(ATOMIC_BOOL_LOCK_FREE == 2, "read and written in signal handlers");

static void on_signal(int signal_number)
{
    (void)signal_number;
    if (atomic_exchange(&stopped, true))
        _exit(EXIT_STOPPED); /* asked twice */
}

void session_catch_signals(void)
{
    struct sigaction act = {.sa_handler = on_signal};

    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
}

bool session_stopped(void)
{
    return atomic_load(&stopped);
}

static int only_stop(void *user, const struct asc_transfer *t)
{
    (void)user;
    (void)t;
    return atomic_load(&stopped);
}

/* The one word in a key file. Gives an exit code. */
static int read_key(const struct cli *cli, const char *path, char **out)
{
    char *text = out_read_file(cli, path, 4096), *first;
    size_t len;

    if (!text)
        return EXIT_INPUT;
    first = text + strspn(text, " \t\r\n");
    len = strcspn(first, " \t\r\n");
    if (len == 0) {
        free(text);
        return out_input(cli, "%s: there is no key in it", path);
    }
    memmove(text, first, len);
    text[len] = '\0';
    *out = text;
    return 0;
}

int session_key(const struct cli *cli, char **out)
{
    const char *env = getenv("ASCRIBE_KEY");
    char path[4096];

    *out = NULL;
    if (cli->key_file)
        return read_key(cli, cli->key_file, out);
    if (env && *env) {
        *out = strdup(env);
        return *out ? 0 : out_input(cli, "no memory");
    }
    if (!cli->store || !*cli->store)
        return 0;
    if ((size_t)snprintf(path, sizeof path, "%s/admin.key", cli->store) >= sizeof path)
        return out_usage(NULL, "the path of the store is too long");
    return read_key(cli, path, out);
}

int session_open(const struct cli *cli, int (*on_tick)(void *, const struct asc_transfer *),
                 void *user, struct asc_client **out)
{
    struct asc_options o = {
        .size = sizeof o, .on_tick = on_tick ? on_tick : only_stop, .user = user};
    struct asc_error e;
    char *key;
    int rc = session_key(cli, &key);

    if (rc != 0)
        return rc;
    o.key = key;
    o.retries = cli->retries == UINT64_MAX ? 2 : cli->retries ? (int)cli->retries : -1;
    o.idle_timeout_ms = (unsigned)cli->timeout_s * 1000;
    rc = asc_open(cli->server, &o, out, &e);
    if (key)
        explicit_bzero(key, strlen(key));
    free(key);
    return rc == 0 ? 0 : out_error(cli, &e);
}
