/* examples.h - the JSON Lines of a batch: {"id":"...","text":"...","meta":{...}}, one object a
 * row. Texts come out unescaped, metas as they were written without the spaces between tokens
 * (so numbers keep every digit). Pure; any thread. */
#ifndef SERVER_EXAMPLES_H
#define SERVER_EXAMPLES_H

#include <stddef.h>

#include "server/stop.h"
#include "storage/base/err.h"
#include "storage/base/mem.h"
#include "storage/commit.h"

/* Reads exactly `rows` lines (the last may end without a newline; blank ones are refused). What is
 * refused carries the line, from 0, as index: BAD_JSON, BAD_UTF8, BAD_ID, TOO_LARGE, INVALID (an
 * unknown member, a wrong type), DUPLICATE_ID (both lines named); BUSY when there is no memory;
 * CANCELLED when asked to stop.
 * *out has `rows` entries; all memory in `a`. */
int examples_read(const void *lines, size_t len, size_t rows, const struct stop *stop,
                  struct arena *a, struct commit_example **out, struct err *e);

/* 0, or BAD_ID: 1 to 256 bytes of UTF-8 without control characters. */
int examples_check_id(const char *id, size_t len, struct err *e);

#endif
