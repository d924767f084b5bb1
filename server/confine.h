/* confine.h - the process takes rights from itself, by Landlock, once it has opened its store: an
 * attacker who got in would hold a process that can reach that store and little else, also without
 * systemd's sandbox. Nothing here is needed for the server to work.
 *
 * Without an encoder: it may write below the store and the audit's folder alone, read the system's
 * libraries and /proc, run no program, bind the TCP ports it was told and connect to none.
 * With one, which inherits all of this and may be any program: reading, running and the network
 * stay as they are, and both may write only to the store, the audit's folder, caches and
 * temporary files.
 */
#ifndef SERVER_CONFINE_H
#define SERVER_CONFINE_H

struct config;

/* Before any thread is made: rights are a thread's, and inherited. The store is open. Says in the
 * log what came of it; a kernel without Landlock, or --no-landlock, is no failure. */
void confine_process(const struct config *c);

#endif
