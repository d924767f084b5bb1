/* encoder_about.h - what an encoder says of itself when it is greeted. Pure; any thread. */
#ifndef SERVER_ENCODER_ABOUT_H
#define SERVER_ENCODER_ABOUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "storage/base/err.h"

enum { ENCODER_NAME_BYTES = 128, ENCODER_MODEL_BYTES = 256, ENCODER_VERBS = 8 };

struct encoder_about { /* zeroed: nothing is known */
    char name[ENCODER_NAME_BYTES], model[ENCODER_MODEL_BYTES];
    char fingerprint[ENCODER_NAME_BYTES]; /* empty: it named none */
    char verbs[ENCODER_VERBS][16];
    size_t verb_count, dim;
};

/* From the head of the answer to hello. ENCODER names the member. */
int encoder_about_read(const json_t *head, struct encoder_about *a, struct err *e);
bool encoder_has_verb(const struct encoder_about *a, const char *verb);

#endif
