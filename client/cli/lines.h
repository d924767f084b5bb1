/* lines.h - a JSON Lines file read in groups of whole lines, in bounded memory. One thread. */
#ifndef CLIENT_CLI_LINES_H
#define CLIENT_CLI_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A text of 1 MiB escaped at its worst, its meta, and room to spare. */
enum { LINES_LINE_MAX = 8 << 20 };

struct lines {
    int fd;
    char *path;   /* owned */
    char *buf;    /* owned: bytes read and not yet given out */
    size_t at, len, cap;
    uint64_t line; /* lines given out so far */
    bool at_end;
};

/* Errors are one line in `why`. */
bool lines_open(struct lines *l, const char *path, char *why, size_t why_cap);
void lines_close(struct lines *l);
/* The number of lines: a last line without a newline counts, an empty line is an error. */
bool lines_count(struct lines *l, uint64_t *out, char *why, size_t why_cap);
/* The next `count` lines as one block, each ended by a newline; owned by the caller. Fewer lines in
 * the file are an error. */
bool lines_take(struct lines *l, uint64_t count, char **out, size_t *out_len, char *why,
                size_t why_cap);

#endif
