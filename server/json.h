/* json.h - JSON in and out, over jansson. Reading is bounded before jansson sees a byte: length,
 * depth and number of values, so that no document costs more memory than its place in limits.h
 * allows. Writing goes straight into a struct buf, without building a tree. Pure; any thread. */
#ifndef SERVER_JSON_H
#define SERVER_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"

enum json_mode {
    JSON_CONTROL, /* our own documents: whole numbers stay whole, no NUL in a string */
    JSON_DATA,    /* what people keep: NUL in strings allowed, whole numbers of any size */
};

/* Once, before there are threads: what jansson allocates may draw on what is spare. */
void json_prepare(void);

/* Parses one object or array; *out is owned by the caller (json_decref). Duplicate members are
 * refused. `len` is at most LIMIT_JSON_BODY (TOO_LARGE). BAD_UTF8 and BAD_JSON carry the byte
 * offset as index; too deep carries the limit. */
int json_read(const void *text, size_t len, enum json_mode mode, json_t **out, struct err *e);

/* The same, and the document must be an object. */
int json_read_object(const void *text, size_t len, enum json_mode mode, json_t **out,
                     struct err *e);

/* INVALID naming the first member of `object` that is not in the NULL-terminated list. */
int json_only(const json_t *object, const char *const names[], struct err *e);

/* Optional members: absent leaves *out as it is; a wrong type or value is INVALID by name.
 * The text stays the document's. */
int json_get_number(const json_t *object, const char *name, uint64_t min, uint64_t max,
                    uint64_t *out, struct err *e);
int json_get_real(const json_t *object, const char *name, double *out, struct err *e);
int json_get_bool(const json_t *object, const char *name, bool *out, struct err *e);
int json_get_text(const json_t *object, const char *name, size_t max, const char **out,
                  struct err *e);

/* A string with quotes and escapes. `text` is UTF-8. */
void json_put_text(struct buf *b, const char *text, size_t len);
/* A finite number that reads back bit for bit, always with a point or an exponent: by 17 digits
 * (put_real, fast), or by the fewest that do (put_short). */
void json_put_real(struct buf *b, double v);
void json_put_short(struct buf *b, double v);
/* Canonical form: members sorted by their bytes, no spaces, reals by the fewest digits. */
void json_put_canonical(struct buf *b, const json_t *value);

/* Copies JSON text that is known to be well-formed without the spaces between its tokens;
 * numbers and escapes stay as they were written. `out` has room for len bytes. Returns the bytes
 * written. */
size_t json_squeeze(const char *text, size_t len, char *out);

#endif
