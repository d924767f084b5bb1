/* ranges.c - see ranges.h. */
#include "client/cli/ranges.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

bool ranges_add(struct ranges *r, uint64_t number)
{
    r->total++;
    if (r->count > 0 && r->list[r->count - 1][1] + 1 == number) {
        r->list[r->count - 1][1] = number;
        return true;
    }
    if (r->count == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 64;
        uint64_t(*list)[2] = realloc(r->list, cap * sizeof *list);

        if (!list)
            return false;
        r->list = list;
        r->cap = cap;
    }
    r->list[r->count][0] = r->list[r->count][1] = number;
    r->count++;
    return true;
}

void ranges_text(const struct ranges *r, char *out, size_t cap)
{
    size_t at = 0;

    *out = '\0';
    for (size_t i = 0; i < r->count; i++) {
        const char *comma = i > 0 ? ", " : "";

        if (at + 60 > cap) {
            snprintf(out + at, cap - at, " ...");
            return;
        }
        if (r->list[i][0] == r->list[i][1])
            at += (size_t)snprintf(out + at, cap - at, "%s%" PRIu64, comma, r->list[i][0]);
        else
            at += (size_t)snprintf(out + at, cap - at, "%s%" PRIu64 "-%" PRIu64, comma,
                                   r->list[i][0], r->list[i][1]);
    }
}

json_t *ranges_json(const struct ranges *r)
{
    json_t *list = json_array();

    for (size_t i = 0; i < r->count; i++)
        json_array_append_new(list, json_pack("[I, I]", (json_int_t)r->list[i][0],
                                              (json_int_t)r->list[i][1]));
    return list;
}

void ranges_free(struct ranges *r)
{
    free(r->list);
    *r = (struct ranges){0};
}
