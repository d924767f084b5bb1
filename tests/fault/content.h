/* content.h - the examples of the trace, each a function of its number alone: id, text, meta, norm
 * and encoding, and the codes of a row. A fit turns every byte of an encoding and doubles every
 * norm, so that the content of an epoch follows from its number too. Nothing here touches a store.
 */
#ifndef TESTS_FAULT_CONTENT_H
#define TESTS_FAULT_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/coder.h"

enum {
    CONTENT_DIM = 32,
    CONTENT_ROW = 4 * CONTENT_DIM, /* bytes of an encoding */
    CONTENT_TEXT = 400,            /* room for a text or a meta object */
    CONTENT_NAME = 32,             /* room for an id */
    CONTENT_ARTIFACT = 9000,       /* bytes of every artifact: content_byte of its number */
};

/* Byte `at` of an endless row of them. */
unsigned char content_byte(uint64_t seed, size_t at);

void content_encoding(uint32_t n, uint32_t epoch, unsigned char out[CONTENT_ROW]);
double content_norm(uint32_t n, uint32_t epoch);
/* What all bytes of epoch 0 are combined with by exclusive or. */
unsigned char content_turn(uint32_t epoch);

/* These return lengths; what they write ends with NUL. */
size_t content_id(uint32_t n, char out[CONTENT_NAME]);
size_t content_text(uint32_t n, char out[CONTENT_TEXT]);
size_t content_meta(uint32_t n, char out[CONTENT_TEXT]);
bool content_has_text(uint32_t n); /* most have one */

/* Codes of a row: its bytes, mixed. */
extern const struct store_coder content_coder;

#endif
