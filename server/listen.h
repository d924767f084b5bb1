/* listen.h - addresses: parsing, the rule about loopback, and stale sockets in the file system.
 * Runs before the loop; may block on name resolution. */
#ifndef SERVER_LISTEN_H
#define SERVER_LISTEN_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "storage/base/err.h"

struct listen_address {
    bool unix_socket;
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    struct sockaddr_storage inet;
};

/* HOST:PORT, [V6]:PORT, :PORT (all of IPv4) or unix:PATH. INVALID with field "listen":
 * malformed, unknown host, or an address that is not loopback while `behind_tls_proxy` is false. */
int listen_resolve(const char *spec, bool behind_tls_proxy, struct listen_address *out,
                   struct err *e);

/* Makes room for a unix socket: removes one that nobody answers on. CONFLICT when somebody does,
 * or when something that is not a socket stands there. */
int listen_clear_path(const char *path, struct err *e);

#endif
