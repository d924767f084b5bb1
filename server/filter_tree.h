/* filter_tree.h - a parsed filter from the inside: what filter.c builds and filter_match.c walks.
 * Nobody else includes this. */
#ifndef SERVER_FILTER_TREE_H
#define SERVER_FILTER_TREE_H

#include "server/filter.h"

enum filter_kind { FILTER_AND, FILTER_OR, FILTER_NOT, FILTER_HAS, FILTER_COMPARE, FILTER_IN };
enum filter_field { FIELD_ID, FIELD_SEQUENCE, FIELD_NORM, FIELD_META };
enum filter_op { OP_EQUAL, OP_UNEQUAL, OP_LESS, OP_AT_MOST, OP_MORE, OP_AT_LEAST, OP_PREFIX };

/* The order of types is the order of sorted lists. */
enum filter_type { VALUE_NULL, VALUE_FALSE, VALUE_TRUE, VALUE_NUMBER, VALUE_TEXT, VALUE_OTHER };

struct filter_value {
    enum filter_type type;
    double number;
    const char *text;
    size_t len;
};

struct filter {
    enum filter_kind kind;
    const struct filter *left, *right; /* AND, OR; NOT: left */
    /* the rest: HAS, COMPARE, IN */
    enum filter_field field;
    struct filter_path path;
    enum filter_op op;
    const struct filter_value *values; /* COMPARE: one; IN: sorted, without doubles */
    size_t count;
    bool reads_meta; /* this node or one below */
};

/* A total order: by type, numbers by value, texts by bytes, a prefix first. */
int filter_compare(const struct filter_value *a, const struct filter_value *b);

#endif
