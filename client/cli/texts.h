/* texts.h - the examples that belong to the rows of a gradient store, in order: from a Hugging Face
 * dataset on disk (data.hf: Arrow files), from JSON Lines, or none at all. Each becomes the line
 * {"id","text","meta"} that a batch takes. One thread at a time.
 */
#ifndef CLIENT_CLI_TEXTS_H
#define CLIENT_CLI_TEXTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/cli/arrow.h"
#include "client/cli/lines.h"

/* Which columns are what; NULL: the default. */
struct texts_columns {
    const char *text;   /* "text" */
    const char *id;     /* the number of the row, except where JSON Lines have an "id" */
    const char *prefix; /* in front of a number: "" */
};

struct texts {
    const struct texts_columns *columns; /* the caller's */
    uint64_t number; /* of the next example, within all stores of the run */
    /* Arrow */
    char *folder;         /* owned */
    char **files;         /* owned */
    size_t file_count, file;
    struct arrow *arrow;  /* owned: files[file - 1] */
    uint64_t row, rows;   /* in its batch */
    /* JSON Lines */
    struct lines lines;
    bool has_lines;
};

/* `folder`: a directory that datasets' save_to_disk wrote, or NULL; `lines`: a JSON Lines file, or
 * NULL. The first example is number `first`. Checks that there are `items` of them. False: `why`.
 */
bool texts_open(struct texts *t, const char *folder, const char *lines, uint64_t first,
                uint64_t items, const struct texts_columns *columns, char *why, size_t why_cap);
void texts_close(struct texts *t);
/* The next example; a new reference. */
bool texts_next(struct texts *t, json_t **out, char *why, size_t why_cap);

#endif
