/* notify.h - tells the supervisor that started the server how far it is: systemd's Type=notify, or
 * anything else that sets NOTIFY_SOCKET. Without that variable nothing is done. */
#ifndef SERVER_NOTIFY_H
#define SERVER_NOTIFY_H

/* One datagram: "READY=1", "STOPPING=1", "STATUS=..." (sd_notify(3)); lines joined by \n. Never
 * waits; a failure is logged once and is no error: the server serves all the same. Loop thread. */
void notify_send(const char *state);

#endif
