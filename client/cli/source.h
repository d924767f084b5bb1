/* source.h - what an ingest run sends: a list of batch files, one matrix with its examples cut into
 * batches, or what a feed makes of something else. Hands out units in order; the caller holds a
 * lock around source_next. */
#ifndef CLIENT_CLI_SOURCE_H
#define CLIENT_CLI_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "client/ascribe.h"
#include "client/cli/lines.h"

/* One batch to send. */
struct unit {
    uint64_t position;
    uint64_t rows, bytes; /* bytes of the body, about */
    uint64_t first_row;   /* of the matrix and of the examples file */
    const char *path;     /* a batch file, or NULL and then: */
    char *lines;          /* owned by the unit; source_unit_free */
    size_t lines_len;
    void *gradients;      /* of a feed: `rows` of them; owned by the unit */
};

/* Makes batches of something else than a matrix: a gradient store of another program. Fills
 * gradients, lines, lines_len, rows and bytes of the unit at u->position. 1: done; 0: there is
 * nothing in it; -1: `why` says what is wrong. Under the caller's lock. */
struct feed {
    int (*fill)(void *user, struct unit *u, char *why, size_t why_cap);
    /* Names row `row` of a unit as the person knows it. Called by any worker. */
    void (*name)(void *user, const struct unit *u, uint64_t row, char *out, size_t cap);
    void *user;
};

struct source {
    /* batch files */
    char **paths; /* owned */
    uint64_t *file_rows, *file_bytes; /* owned */
    uint64_t file_count;
    /* a pair */
    struct asc_matrix *matrix; /* owned */
    const char *matrix_path, *lines_path; /* the caller's */
    struct lines lines;
    uint64_t rows_per_batch;
    struct feed feed; /* or all NULL */
    enum asc_dtype feed_dtype;
    /* all */
    uint64_t dim, rows_total, bytes_total, units_total;
    uint64_t units_empty; /* of a feed: had nothing in them */
    uint64_t next;
};

/* A matrix in a file, and what belongs to its rows. */
struct source_pair {
    const char *gradients, *examples; /* paths */
    const char *tensor;       /* of a safetensors file; or NULL */
    enum asc_dtype raw;       /* the file is raw numbers of this type; 0: it says what it is */
    uint64_t raw_dim;
    uint64_t rows_per_batch;  /* 0: for bodies of about 32 MiB */
};

/* Both check everything that can be checked before anything is sent: that each file is what it
 * should be, that dims agree, that rows and lines match. False: `why` says what is wrong. A
 * directory stands for the *.safetensors files in it, by name. The paths of a pair must outlive the
 * source. */
bool source_open_files(struct source *s, char *const *paths, int count, char *why, size_t why_cap);
bool source_open_pair(struct source *s, const struct source_pair *pair, char *why, size_t why_cap);
/* The totals are the caller's to fill in: dim, rows_total, bytes_total, units_total, feed_dtype. */
void source_open_feed(struct source *s, const struct feed *feed);
void source_close(struct source *s);
/* Rows of so many bytes that make a batch of about 32 MiB, 1 to 4,096. */
uint64_t source_rows_of(uint64_t row_bytes);

/* 1: a unit; 0: no more; -1: `why` says what is wrong. */
int source_next(struct source *s, struct unit *out, char *why, size_t why_cap);
void source_unit_free(struct unit *u);

/* Names the batch and sends it. */
int source_send(const struct source *s, const struct unit *u, struct asc_client *c,
                const char *corpus, struct asc_ingested *out, struct asc_error *e);

#endif
