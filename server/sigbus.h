/* sigbus.h - what the process says when a mapped file cannot be read.
 *
 * Shards, the ledger and artifacts are read through maps. When such a file is cut by somebody, or
 * its disk fails, the kernel answers the read with SIGBUS. There is nothing to go on with: LMDB
 * would walk pages that are not there. So one line names the file and the byte, and the process
 * ends; the next start finds what is damaged and serves the rest.
 */
#ifndef SERVER_SIGBUS_H
#define SERVER_SIGBUS_H

/* Once, in main, before there are threads, and before the process is confined: it keeps the
 * kernel's list of maps open. From then on a read of a map that fails writes that line to standard
 * error and ends the process with `exit_code`, whatever the thread. A SIGBUS of any other cause
 * ends it as without this. */
void sigbus_watch(int exit_code);

#endif
