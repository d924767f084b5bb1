/* filter.h - which examples are meant: a small language over ids, sequence, norm and meta.
 *
 *   expression = conjunction { "or" conjunction }
 *   conjunction = term { "and" term }
 *   term = "not" term | "(" expression ")" | "has" meta
 *        | field ( "=" | "!=" | "<" | "<=" | ">" | ">=" | "^=" ) value
 *        | field [ "not" ] "in" "[" [ value { "," value } ] "]"
 *   field = "id" | "sequence" | "norm" | meta        meta = "meta" { "." name }
 *   name = letters, digits, "_", "-" and anything beyond ASCII, or a JSON string
 *   value = JSON string, number, true, false, null
 *
 * Parsed once, then immutable: any number of threads may match with one filter. Knows nothing of
 * views and blocks; server/sift.h does. */
#ifndef SERVER_FILTER_H
#define SERVER_FILTER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/err.h"
#include "storage/base/mem.h"

struct filter;

/* What a path leads to: "meta", then the names. */
struct filter_path {
    const struct filter_name *names;
    size_t count;
};
struct filter_name {
    const char *text;
    size_t len;
};

/* All memory in `a`. BAD_FILTER with the byte offset as index and the field "filter"; TOO_LARGE
 * when a limit is passed. */
int filter_parse(const char *text, size_t len, struct arena *a, const struct filter **out,
                 struct err *e);

/* A path alone, as in group=meta.source. BAD_FILTER with the byte offset; field `what`. */
int filter_parse_path(const char *text, size_t len, const char *what, struct arena *a,
                      struct filter_path *out, struct err *e);

/* Does matching read meta? Else filter_row.meta need not be filled. */
bool filter_reads_meta(const struct filter *f);

struct filter_row {
    const char *id;
    size_t id_len;
    uint64_t sequence;
    double norm;
    const char *meta; /* JSON object as text, or NULL */
    size_t meta_len;
};

/* CORRUPT when the meta is no JSON; *out is untouched then. */
int filter_match(const struct filter *f, const struct filter_row *row, bool *out, struct err *e);

/* A meta's tree: whole numbers as reals, as filters compare them. NULL when there is none;
 * json_decref. */
int filter_meta(const char *meta, size_t len, json_t **out, struct err *e);
/* NULL when the path leads nowhere. The value is the tree's. */
const json_t *filter_find(const json_t *meta, const struct filter_path *path);

#endif
