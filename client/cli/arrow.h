/* arrow.h - reads the flat columns of an Arrow IPC file, record batch by record batch: what a
 * Hugging Face dataset keeps its rows in. Streams and files, little-endian, uncompressed. Columns
 * of lists, structs and other nested types are known to be there and skipped. Every length in the
 * file is checked against the file before it is believed. One thread.
 *
 * Format: Apache Arrow columnar format 1.x, "Serialization and Interprocess Communication"; the
 * metadata are FlatBuffers of its Schema.fbs and Message.fbs.
 */
#ifndef CLIENT_CLI_ARROW_H
#define CLIENT_CLI_ARROW_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arrow;

/* Opens a file and reads its schema. False: `why` says what is wrong. Free with arrow_close. */
bool arrow_open(const char *path, struct arrow **out, char *why, size_t why_cap);
void arrow_close(struct arrow *a);

/* Top-level columns. A column is flat when arrow_cell can give its values: integers, floats (not
 * half), booleans, strings. */
unsigned arrow_columns(const struct arrow *a);
const char *arrow_name(const struct arrow *a, unsigned column);
bool arrow_flat(const struct arrow *a, unsigned column);

/* Moves to the next record batch; *rows is 0 at the end of the file. */
bool arrow_next(struct arrow *a, uint64_t *rows, char *why, size_t why_cap);

/* The value of a flat column in a row of the current batch: a new reference; a JSON null for null
 * and for what JSON cannot say (NaN). NULL: `why` says what is wrong. */
json_t *arrow_cell(struct arrow *a, unsigned column, uint64_t row, char *why, size_t why_cap);

#endif
