/* ranges.h - numbers told in a few words: ascending ones kept as ranges. One owner; no locks. */
#ifndef CLIENT_CLI_RANGES_H
#define CLIENT_CLI_RANGES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Numbers in ascending order, kept as ranges. */
struct ranges {
    uint64_t (*list)[2]; /* owned: first and last */
    size_t count, cap;
    uint64_t total;
};

/* False when there is no memory; what was added before stays. */
bool ranges_add(struct ranges *r, uint64_t number);
/* "3, 7-9, 20 ..." */
void ranges_text(const struct ranges *r, char *out, size_t cap);
json_t *ranges_json(const struct ranges *r); /* [[3,3],[7,9]] */
void ranges_free(struct ranges *r);

#endif
