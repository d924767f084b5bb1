/* pair.h - lists of answers as JSON Lines in the schema of the PAIR viewer of training-data
 * attributions (example_id, inputs_plaintext, proponents, ...), which reads them as they are. The
 * file appears whole and synced, or not at all. One thread.
 */
#ifndef CLIENT_CLI_PAIR_H
#define CLIENT_CLI_PAIR_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* One answer of either side, best first; what it points to is the answer's. */
struct pair_hit {
    const char *id;
    double score;
    const char *text; /* or NULL: written as "" */
    size_t text_len;
};

struct pair_list {
    const struct pair_hit *proponents;
    const bool *correct; /* one a proponent */
    size_t proponent_count;
    const struct pair_hit *opponents; /* NULL: the method has none, and no members are written */
    size_t opponent_count;
};

struct pair_file {
    FILE *f;
    char *path, *part; /* owned */
};

bool pair_open(struct pair_file *p, const char *path, char *why, size_t why_cap);
/* Writes the record of one query: `query` is the line of the gold file; its "id", "prompt" (else
 * "text") and "target" become example_id, inputs_plaintext and targets_plaintext, its "query_set"
 * or `query_set` the set, and its other members stay as they are. */
bool pair_write(struct pair_file *p, const json_t *query, const char *query_set,
                const struct pair_list *list);
/* keep: the file gets its name; else it goes. False when it could not be written whole. */
bool pair_close(struct pair_file *p, bool keep);

#endif
