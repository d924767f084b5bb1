/* snapshot.h - making views: immutable, counted, sharing what did not change.
 *
 * A view keeps its shards alive and shares the bitmaps of dead rows with its neighbours in time.
 * The corpus's own reference to its latest view does not count as a reference to the corpus (that
 * would be a ring); every view handed out does (corpus_view, view_release).
 */
#ifndef STORAGE_SNAPSHOT_H
#define STORAGE_SNAPSHOT_H

#include <stddef.h>
#include <stdint.h>

#include "storage/corpus.h"

/* A view of `count` chunks, ascending by sequence; copies the array, retains shards and bitmaps.
 * One reference. Generation is set when it is published. Its rows are encoded as the corpus's state
 * says, or as `state` does. */
struct view *snapshot_new(struct corpus *c, const struct view_chunk *chunks, size_t count);
struct view *snapshot_of_state(struct corpus *c, struct annex *state,
                               const struct view_chunk *chunks, size_t count);
void snapshot_retain(struct view *v);
void snapshot_release(struct view *v);
struct corpus *snapshot_corpus(const struct view *v);

/* The view with these chunks appended; with one more row dead. */
struct view *snapshot_append(const struct view *v, const struct view_chunk *chunks, size_t count);
struct view *snapshot_kill(const struct view *v, size_t chunk, uint32_t row);

/* A bitmap of `rows` bits, a copy of `from` or clear; one reference. */
uint64_t *snapshot_dead_new(uint32_t rows, const uint64_t *from);
void snapshot_dead_release(const uint64_t *dead); /* NULL is fine */

/* Index of the first chunk that ends at the sequence or later; v->chunk_count when none does. */
size_t snapshot_from(const struct view *v, uint64_t sequence);
/* Index of the chunk whose range holds the sequence; false when none does. */
bool snapshot_find(const struct view *v, uint64_t sequence, size_t *out_chunk);

#endif
