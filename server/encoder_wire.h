/* encoder_wire.h - what an encoder (docs/encoder.md) says, cut into answers: a JSON line, then as
 * many bytes as the line announces. Nothing is trusted. Pure; one owner. */
#ifndef SERVER_ENCODER_WIRE_H
#define SERVER_ENCODER_WIRE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"

struct encoder_answer {
    uint64_t id;
    bool ok;
    const char *error; /* in `head`, unless ok */
    json_t *head;      /* all members; owned */
    struct buf body;   /* owned */
};
void encoder_answer_free(struct encoder_answer *a); /* leaves it empty; safe twice */

struct encoder_frames { /* zeroed: ready */
    struct buf line;
    struct encoder_answer answer; /* its head is there: the body is being read */
    size_t left;                  /* of the body */
};
/* A whole number from 0 to 2^53 of the head, which holds all numbers as reals. */
bool encoder_whole(const json_t *value, uint64_t *out);

void encoder_frames_free(struct encoder_frames *f); /* leaves it ready */

/* Something of an answer is here already. */
bool encoder_frames_begun(const struct encoder_frames *f);

/* Eats up to `len` bytes: *used says how many; *out_whole: an answer is complete, take it before
 * feeding on. After an error (ENCODER, or BUSY without memory) the stream makes no sense any
 * more. */
int encoder_frames_feed(struct encoder_frames *f, const void *bytes, size_t len, size_t *used,
                        bool *out_whole, struct err *e);
/* Moves the complete answer out. */
void encoder_frames_take(struct encoder_frames *f, struct encoder_answer *out);

#endif
