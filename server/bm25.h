/* bm25.h - search by words over a corpus's texts, beside search by gradient: the classical ranking
 * (Robertson & Zaragoza, The Probabilistic Relevance Framework, 2009) as SQLite's FTS5 computes it.
 *
 *   score(D, Q) = sum over terms t of Q of
 *                 idf(t) f(t,D) (k1 + 1) / (f(t,D) + k1 (1 - b + b |D| / mean))
 *   idf(t) = ln((N - n(t) + 0.5) / (n(t) + 0.5)), at least 1e-6; k1 = 1.2, b = 0.75
 *
 * The index (text.sqlite) is derived from the store and follows it by a watermark for each corpus:
 * a thread of its own, of the lowest priority, keeps it up to date, and a search first brings in
 * what is missing. Whatever is wrong with the file, it is thrown away and made again. Deleted
 * examples are held back by the view at every search; their terms leave the statistics when the
 * corpus is indexed anew, which happens once they are a quarter. */
#ifndef SERVER_BM25_H
#define SERVER_BM25_H

#include <stddef.h>
#include <stdint.h>

#include "index/topk.h"
#include "server/stop.h"
#include "storage/base/mem.h"
#include "storage/corpus.h"

struct bm25;
struct store;

/* Starts the thread; touches the file on it only. The store outlives it. */
struct bm25 *bm25_new(struct store *store);
void bm25_free(struct bm25 *b); /* nobody may be searching */

struct bm25_query {
    struct corpus *corpus;
    const struct view *whole; /* a view of the corpus: what the index must hold */
    const struct view *part;  /* what may be found: it, or a part of it (server/sift.h) */
    const char *text;        /* at most LIMIT_SEARCH_BYTES of UTF-8 */
    size_t len;
    size_t k;
    const struct stop *stop;
};

struct bm25_answer {
    struct topk hits;         /* best first, ties by sequence; chunk and row are the part's */
    uint64_t indexed_through; /* every text of a sequence below it was searched */
    uint64_t missing;         /* live examples of the part at or past it: 0 unless time ran out */
    uint64_t matches;         /* examples of the part that have any of the terms */
};

/* Reader threads. Waits for the index at most LIMIT_SEARCH_WAIT_MS, then answers with what there
 * is. CANCELLED, CORRUPT (the store), FULL, IO, BUSY, TOO_LARGE. */
int bm25_search(struct bm25 *b, const struct bm25_query *q, struct arena *a,
                struct bm25_answer *out, struct err *e);

#endif
