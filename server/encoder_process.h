/* encoder_process.h - one child process over three pipes, as libuv sees it. Here: starting, bytes
 * in and out, its end, its killing. Not here: what is said (encoder.c). Loop thread only.
 *
 * The child leads a process group of its own, inherits nothing but the pipes, has no key of ours
 * in its environment and ends with this process, however that ends (encoder_child.c). */
#ifndef SERVER_ENCODER_PROCESS_H
#define SERVER_ENCODER_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"

struct server;
struct encoder_process;

struct encoder_events {
    /* What it wrote on its standard output. Must not kill the process; false: stop listening. */
    bool (*said)(void *arg, const void *bytes, size_t len);
    /* One line of its standard error, without newline, printable as it is; `len` at most 512. */
    void (*complained)(void *arg, const char *line, size_t len);
};

/* argv: NULL-terminated, of the caller, for as long as the process lives; argv[0] is looked up in
 * PATH. ENCODER when it cannot be started; a program that does not exist ends at once, instead. */
int encoder_process_start(struct server *s, char *const *argv, const struct encoder_events *events,
                          void *arg, struct encoder_process **out, struct err *e);

/* Takes over the buffer and writes it to the child's standard input. */
void encoder_process_write(struct encoder_process *p, struct buf *bytes);

/* To be called every few hundred milliseconds. False once the process has ended, or has closed a
 * pipe: then `why` says how, in words that follow "the encoder". */
bool encoder_process_lives(struct encoder_process *p, uint64_t now_ns, char *why, size_t size);

/* Closes its input and asks it to end. */
void encoder_process_quit(struct encoder_process *p);

/* Kills the process group if it is still there and lets go: no event will come, p is not the
 * caller's any more. The loop runs until the child has been waited for. */
void encoder_process_kill(struct encoder_process *p);

#endif
