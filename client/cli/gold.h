/* gold.h - what the right answers are: a JSON Lines file, one object a query, held in memory. It is
 * checked whole when it is read, so that nothing is asked before it is known to be good. One
 * thread.
 */
#ifndef CLIENT_CLI_GOLD_H
#define CLIENT_CLI_GOLD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Of the whole file, and of its lines. */
enum { GOLD_BYTES_MAX = 1 << 30, GOLD_QUERIES_MAX = 1 << 20 };

struct gold_query {
    json_t *object; /* owned: the line as it stands */
    json_t *right;  /* owned: an object whose members are the gold ids */
    const char *id;
    size_t bucket; /* index into `buckets`, when there are any */
};

struct gold {
    struct gold_query *list; /* owned, in the order of the file */
    size_t count, cap;
    size_t without; /* queries whose gold is empty */
    const char *bucket_field; /* the caller's, or NULL */
    json_t *buckets; /* owned: the different values of the field, ascending: numbers, then texts */
};

/* What a line must have besides "id" and "gold". */
struct gold_needs {
    bool text;           /* "text": words to search for */
    bool prompt, target; /* for the lists */
    const char *bucket;  /* this field, a number, string or boolean; or NULL */
};

/* False: `why` says which line of `path` is at fault and how. Close in either case. */
bool gold_open(struct gold *g, const char *path, const struct gold_needs *needs, char *why,
               size_t why_cap);
void gold_close(struct gold *g);

size_t gold_right_count(const struct gold_query *q);
bool gold_is_right(const struct gold_query *q, const char *id);
/* A string member of the line, or "". */
const char *gold_text(const struct gold_query *q, const char *member);

#endif
