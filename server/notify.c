/* notify.c - see notify.h. The protocol is one datagram of NAME=VALUE lines to a unix socket; a
 * first byte '@' stands for the abstract namespace (sd_notify(3)). No library is needed for
 * that. */
#include "server/notify.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/log.h"

static int send_to(const char *path, const char *state)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t len = strlen(path), name = offsetof(struct sockaddr_un, sun_path);
    ssize_t sent;
    int fd, why;

    if (len >= sizeof to.sun_path || (*path != '/' && *path != '@'))
        return EINVAL;
    memcpy(to.sun_path, path, len);
    if (*path == '@')
        to.sun_path[0] = '\0';
    else
        len++; /* a path is sent with its NUL, an abstract name is as long as it is */
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    sent = sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (const void *)&to,
                  (socklen_t)(name + len));
    why = sent < 0 ? errno : 0;
    close(fd);
    return why;
}

void notify_send(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    static bool complained;
    int why = path && *path ? send_to(path, state) : 0;

    if (why && !complained)
        log_note(LOG_WARN, "notify", "NOTIFY_SOCKET %.100s: %s", path, strerror(why));
    complained = complained || why;
}
