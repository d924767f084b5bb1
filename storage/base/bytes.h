/* bytes.h - integers in bytes, UTF-8, and a growable buffer. No I/O.
 *
 * Stored numbers are little-endian; LMDB keys are big-endian so that their order is the number's.
 */
#ifndef STORAGE_BASE_BYTES_H
#define STORAGE_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void bytes_put_le32(void *p, uint32_t v);
void bytes_put_le64(void *p, uint64_t v);
uint32_t bytes_get_le32(const void *p);
uint64_t bytes_get_le64(const void *p);
void bytes_put_be32(void *p, uint32_t v);
void bytes_put_be64(void *p, uint64_t v);
uint32_t bytes_get_be32(const void *p);
uint64_t bytes_get_be64(const void *p);

/* Offset of the first byte that is not well-formed UTF-8 (no surrogates, no overlong forms, nothing
 * past U+10FFFF), or `len` when all of it is. */
size_t bytes_utf8_error(const void *text, size_t len);

/* Lower-case hex of `len` bytes into out[2*len+1]. */
void bytes_hex(const void *bytes, size_t len, char *out);

/* A growable buffer. A zeroed struct buf is empty and ready; buf_free leaves it so.
 * Growth failure is sticky: `failed` is set, later appends do nothing, the caller asks once. */
struct buf {
    unsigned char *data; /* owned, len bytes used of cap; NULL when empty */
    size_t len;
    size_t cap;
    bool failed;
};

void buf_free(struct buf *b);
bool buf_reserve(struct buf *b, size_t more); /* room for `more` bytes after len */
void buf_add(struct buf *b, const void *bytes, size_t len);
void buf_add_text(struct buf *b, const char *text);
void buf_format(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
