/* progress.h - how far a long command is: a bar on a terminal, JSON Lines when standard error goes
 * elsewhere. One thread.
 */
#ifndef CLIENT_CLI_PROGRESS_H
#define CLIENT_CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/cli/meter.h"

struct progress {
    const char *what; /* "ingest wordnet"; the caller's */
    bool bar, lines;  /* neither: silent */
    bool drawn;
    uint64_t start_ms, drawn_ms;
    struct meter meter; /* of bytes */
};

/* What there is to show. Totals of 0 are not known. */
struct progress_state {
    uint64_t bytes, bytes_total;
    uint64_t rows, rows_total;
    double fraction; /* or -1: bytes / bytes_total */
    double rate, eta_s; /* or -1: measured here */
    const char *note; /* or NULL */
};

#define PROGRESS_STATE_NONE ((struct progress_state){.fraction = -1, .rate = -1, .eta_s = -1})

void progress_start(struct progress *p, const char *what, bool quiet);
/* Draws when it is time (a bar 10 times a second, a line once), always when `last`. */
void progress_show(struct progress *p, const struct progress_state *s, bool last);
/* Ends the bar's line, so that what is printed next stands alone. */
void progress_end(struct progress *p);
double progress_seconds(const struct progress *p);

/* The text of the bar for a width; for tests. */
void progress_text(const char *what, const struct progress_state *s, double rate, double eta_s,
                   unsigned columns, char *out, size_t cap);

#endif
