/* encoder_child.c - see encoder_child.h. Runs in the child, between fork and the encoder's program:
 * one thread, nothing of the server. */
#include "server/encoder_child.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Ours are all closed on exec; what the server was itself started with may not be. */
static void close_all_but_pipes(void)
{
    DIR *d = opendir("/proc/self/fd");
    struct dirent *entry;

    while (d && (entry = readdir(d))) {
        char *end;
        long fd = strtol(entry->d_name, &end, 10);

        if (!*end && fd > STDERR_FILENO && fd != dirfd(d))
            close((int)fd);
    }
    if (d)
        closedir(d);
}

int encoder_child_main(int argc, char **argv)
{
    if (argc < 4) {
        fputs("ascribed: " ENCODER_CHILD_WORD " is for the server itself\n", stderr);
        return 127;
    }
    /* kept over exec: the encoder never outlives the server, not even one that was killed */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() != (pid_t)strtol(argv[2], NULL, 10))
        return 127;
    close_all_but_pipes();
    execvp(argv[3], argv + 3);
    fprintf(stderr, "cannot run %s: %s\n", argv[3], strerror(errno));
    return 127;
}
