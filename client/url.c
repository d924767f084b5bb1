/* url.c - where a server is: http://HOST:PORT, https://HOST[:PORT][/PREFIX], unix:PATH. No I/O.
 * Strict, so that a typing mistake is named here and not as a failed connection.
 */
#include "client/inner.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static int unix_parse(const char *path, struct asc__url *out, struct asc_error *e)
{
    size_t room = sizeof ((struct sockaddr_un *)NULL)->sun_path - 1;

    if (strncmp(path, "//", 2) == 0)
        path += 2;
    if (!*path)
        return asc__fail(e, ASC_ARGUMENT, "bad_url", "unix: needs the path of a socket");
    if (strlen(path) > room)
        return asc__fail(e, ASC_ARGUMENT, "bad_url",
                         "the socket path has %zu bytes; a unix socket takes %zu", strlen(path),
                         room);
    out->socket = strdup(path);
    out->base = strdup("http://localhost");
    out->plain = true;
    if (!out->socket || !out->base) {
        asc__url_free(out);
        return asc__no_memory(e, 256);
    }
    return 0;
}

/* "host", "host:port" or "[v6]:port", up to `end`. */
static bool authority_ok(const char *p, const char *end)
{
    const char *host = p;
    long port = 0;

    if (p < end && *p == '[') {
        for (p++; p < end && (isxdigit((unsigned char)*p) || *p == ':' || *p == '.'); p++)
            ;
        if (p == end || *p++ != ']')
            return false;
    } else {
        for (; p < end && (isalnum((unsigned char)*p) || strchr("-._", *p)); p++)
            ;
    }
    if (p == host)
        return false;
    if (p == end)
        return true;
    if (*p++ != ':' || p == end || end - p > 5)
        return false;
    for (; p < end; p++) {
        if (!isdigit((unsigned char)*p))
            return false;
        port = port * 10 + (*p - '0');
    }
    return port > 0 && port < 65536;
}

int asc__url_parse(const char *text, struct asc__url *out, struct asc_error *e)
{
    struct asc__url url = {0};
    const char *host, *end;
    size_t len;
    int rc;

    if (!text || !*text)
        return asc__fail(e, ASC_ARGUMENT, "bad_url", "no server is given");
    if (strncmp(text, "unix:", 5) == 0) {
        rc = unix_parse(text + 5, &url, e);
        if (rc == 0)
            *out = url;
        return rc;
    }
    if (strncmp(text, "http://", 7) == 0) {
        url.plain = true;
        host = text + 7;
    } else if (strncmp(text, "https://", 8) == 0) {
        host = text + 8;
    } else {
        return asc__fail(e, ASC_ARGUMENT, "bad_url",
                         "%.200s: a server is http://HOST:PORT, https://HOST or unix:PATH", text);
    }
    end = host + strcspn(host, "/?#");
    if (strpbrk(host, "?#@ ") || !authority_ok(host, end))
        return asc__fail(e, ASC_ARGUMENT, "bad_url", "%.200s: not a host and port", text);
    for (const char *p = end; *p; p++)
        if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f)
            return asc__fail(e, ASC_ARGUMENT, "bad_url", "%.200s: not a plain path", text);
    for (len = strlen(text); len > 0 && text[len - 1] == '/'; len--)
        ;
    url.base = strndup(text, len);
    if (!url.base)
        return asc__no_memory(e, len);
    *out = url;
    return 0;
}

void asc__url_free(struct asc__url *u)
{
    free(u->base);
    free(u->socket);
    *u = (struct asc__url){0};
}
