/* encoder.h - the encoder: a process named in the server's settings that turns text into gradients
 * (docs/encoder.md). One process, one request at a time, those that wait in a bounded queue. When
 * it dies, hangs or makes no sense it is killed and started again, after pauses that grow.
 *
 * Requests come from readers and wait without a thread (job->park). The loop does the rest: it is
 * woken by a request, by the child's pipes, and every SERVER_TICK_MS. No answer can be taken for
 * another's: ids are checked, and a process that owes an answer past its time is not asked again.
 */
#ifndef SERVER_ENCODER_H
#define SERVER_ENCODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/encoder_wire.h"
#include "storage/base/err.h"

struct encoder;
struct job;
struct runtime;

/* One request; memory of the job, which gives it back with encoder_call_free. */
struct encoder_call {
    struct job *job;
    const char *verb;    /* static */
    struct buf members;  /* JSON members after verb, each with a comma before it */
    /* after the wait */
    struct err err;      /* NO_ENCODER, ENCODER, ENCODER_TIMEOUT; or nothing, and */
    struct encoder_answer answer; /* ok */
    /* the encoder's */
    struct encoder_call *next;
};

/* NULL when the settings name no encoder. The process is started by the first turn. */
struct encoder *encoder_new(struct runtime *rt);
void encoder_free(struct encoder *en); /* after the loop has ended; en may be NULL */

/* From route->work: parks the job until the answer is there; work then runs again, also when nobody
 * waits any more. NO_ENCODER; ENCODER when it is down for longer or lacks the verb; BUSY. */
int encoder_ask(struct encoder *en, struct encoder_call *c, struct err *e);
void encoder_call_free(struct encoder_call *c);

/* Appends what GET /v1/encoder answers. Any thread. */
void encoder_describe(struct encoder *en, struct buf *out);
/* Elements of a gradient; 0 while it is not known. Any thread. */
size_t encoder_dim(struct encoder *en);

/* Loop thread: does what is due. */
void encoder_turn(struct encoder *en);
/* Loop thread: asks the process to end. True once it has, or was killed for taking too long. */
bool encoder_stop(struct encoder *en);

#endif
