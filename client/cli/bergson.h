/* bergson.h - a gradient store that bergson wrote, read as it lies on disk: gradients.bin (a row an
 * example) or token_gradients.bin (a row a token, offsets.npy says whose), described by info.json.
 * Only reads. One thread at a time.
 */
#ifndef CLIENT_CLI_BERGSON_H
#define CLIENT_CLI_BERGSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/ascribe.h"

struct bergson {
    char *path;                /* owned: the directory */
    char *file;                /* owned: the path of the rows */
    struct asc_matrix *matrix; /* owned */
    json_t *blocks;            /* owned: [{"name","dim"}] in the order of the columns */
    uint64_t dim;
    uint64_t rows;             /* as they lie there */
    uint64_t items;            /* examples: rows, or those that the offsets name */
    int64_t *offsets;          /* owned: items + 1; NULL when a row is an example */
};

/* Opens and checks: that the sizes named are those of the files. False: `why` says what is wrong.
 * Free with bergson_close, also after a failure. */
bool bergson_open(struct bergson *b, const char *path, char *why, size_t why_cap);
void bergson_close(struct bergson *b);

/* The type in which rows come: bfloat16 and float16 as they are, float64 rounded to float32; a sum
 * over tokens is float32. */
enum asc_dtype bergson_dtype(const struct bergson *b, bool sum);

/* Rows [first, first + count) to `out`, in bergson_dtype(b, false). */
bool bergson_rows(const struct bergson *b, uint64_t first, uint64_t count, void *out, char *why,
                  size_t why_cap);
/* The sum over the tokens of one example, in float64, rounded once to float32: the gradient of its
 * summed loss. `out`: dim floats. */
bool bergson_sum(const struct bergson *b, uint64_t item, float *out, char *why, size_t why_cap);

/* The block that has a column. */
const char *bergson_block(const struct bergson *b, uint64_t column);

#endif
