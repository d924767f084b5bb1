/* sift.h - a view through a filter: the rows that do not match are dead in it, like deleted ones.
 *
 * So tombstones and filter are one bitmap a chunk, and everything that works on a view works on a
 * part of it: engines, scores, pages, search. Which rows of a chunk match never changes (chunks
 * are immutable), so that is kept, by chunk and filter, under a budget of memory. Reader
 * threads. */
#ifndef SERVER_SIFT_H
#define SERVER_SIFT_H

#include <stddef.h>
#include <stdint.h>

#include "server/filter.h"
#include "server/stop.h"
#include "storage/corpus.h"

struct pool;
struct sift; /* what is kept; one a server, shared by all threads */

struct sift *sift_new(uint64_t budget_bytes);
void sift_free(struct sift *s); /* nobody may be sifting */
uint64_t sift_bytes(struct sift *s); /* resident now */

/* A filter as a client gave it. */
struct sift_by {
    const struct filter *filter; /* NULL: everything */
    unsigned char key[16];       /* hash of its text */
};
/* `text` NULL: everything. BAD_FILTER, TOO_LARGE. Memory in `a`. */
int sift_parse(const char *text, size_t len, struct arena *a, struct sift_by *out, struct err *e);

/* The view with only the rows that match; `v` itself when everything is meant. It borrows from `v`
 * (which the caller holds and gives back), its own memory is in `a`, and it must not be given to
 * view_release. Spread over the idle readers of `pool` (NULL: this thread alone).
 * CORRUPT, CANCELLED, BUSY. */
int sift_view(struct sift *s, const struct sift_by *by, const struct view *v, struct pool *pool,
              const struct stop *stop, struct arena *a, const struct view **out, struct err *e);

#endif
