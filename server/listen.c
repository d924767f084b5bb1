/* listen.c - see listen.h. */
#include "server/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int bad(struct err *e, const char *spec, const char *what)
{
    err_set(e, ERR_INVALID, "listen address \"%.100s\": %s", spec, what);
    return err_at_field(e, "listen");
}

static bool loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)a;
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

static int resolve_unix(const char *spec, struct listen_address *out, struct err *e)
{
    const char *path = spec + strlen("unix:");

    if (!*path || strlen(path) >= sizeof out->path)
        return bad(e, spec, "the path of a unix socket has 1 to 107 bytes");
    out->unix_socket = true;
    memcpy(out->path, path, strlen(path) + 1);
    return 0;
}

/* "host:port" -> host without brackets, port checked */
static int split(const char *spec, char *host, size_t host_max, const char **port, struct err *e)
{
    const char *colon = strrchr(spec, ':');
    size_t len = colon ? (size_t)(colon - spec) : 0;
    char *end;

    if (!colon || len >= host_max)
        return bad(e, spec, "must be HOST:PORT or unix:PATH");
    memcpy(host, spec, len);
    host[len] = '\0';
    if (host[0] == '[' && len > 2 && host[len - 1] == ']') {
        memmove(host, host + 1, len - 2);
        host[len - 2] = '\0';
    } else if (strchr(host, ':')) {
        return bad(e, spec, "an IPv6 address stands in brackets: [::1]:7171");
    }
    *port = colon + 1;
    if (!**port || strspn(*port, "0123456789") != strlen(*port) || strtoul(*port, &end, 10) > 65535)
        return bad(e, spec, "the port must be 0 to 65535 (0 picks one)");
    return 0;
}

static int resolve_inet(const char *spec, struct listen_address *out, bool *all_loopback,
                        struct err *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found, *chosen;
    char host[256];
    const char *name, *port = "";

    if (split(spec, host, sizeof host, &port, e))
        return (int)e->code;
    name = strcmp(host, "localhost") == 0 ? "127.0.0.1" : host; /* RFC 6761: no name service */
    if (getaddrinfo(name[0] ? name : "0.0.0.0", port, &hints, &found))
        return bad(e, spec, "the host is not known");
    chosen = found;
    *all_loopback = true;
    for (struct addrinfo *a = found; a; a = a->ai_next) {
        *all_loopback = *all_loopback && loopback(a->ai_addr);
        if (a->ai_family == AF_INET && chosen->ai_family != AF_INET)
            chosen = a; /* localhost: 127.0.0.1 before ::1 */
    }
    memcpy(&out->inet, chosen->ai_addr, chosen->ai_addrlen);
    freeaddrinfo(found);
    return 0;
}

int listen_resolve(const char *spec, bool behind_tls_proxy, struct listen_address *out,
                   struct err *e)
{
    bool all_loopback = true;

    memset(out, 0, sizeof *out);
    if (strncmp(spec, "unix:", 5) == 0)
        return resolve_unix(spec, out, e);
    if (resolve_inet(spec, out, &all_loopback, e))
        return (int)e->code;
    if (!all_loopback && !behind_tls_proxy)
        return bad(e, spec, "not loopback, and keys would travel in the clear: put a TLS proxy in "
                            "front and say --behind-tls-proxy");
    return 0;
}

/* Does anybody answer on this socket? -1: cannot be told. */
static int answered(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int rc = -1;

    if (fd < 0)
        return -1;
    memcpy(a.sun_path, path, strlen(path) + 1);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0 || errno == EAGAIN)
        rc = 1;
    else if (errno == ECONNREFUSED)
        rc = 0;
    close(fd);
    return rc;
}

int listen_clear_path(const char *path, struct err *e)
{
    struct stat st;

    if (lstat(path, &st))
        return errno == ENOENT ? 0 : err_errno(e, errno, path);
    if (!S_ISSOCK(st.st_mode))
        return err_set(e, ERR_CONFLICT, "%.100s stands there and is not a socket", path);
    switch (answered(path)) {
    case 1:
        return err_set(e, ERR_CONFLICT, "another server answers on %.100s", path);
    case 0:
        break;
    default:
        return err_errno(e, errno, path);
    }
    if (unlink(path) && errno != ENOENT)
        return err_errno(e, errno, path);
    return 0;
}
