/* damage.h - what reading has found damaged, and the view without it. Storage's own.
 *
 * Whoever finds a block wrong notes it on the chunk's shard, until the store is closed. The next
 * view for readers (corpus_view_sound) leaves out the rows it holds, and names them; everything
 * else is answered. Encodings have a sum for each row, so only the rows that were hit are lost, not
 * their neighbours. What follows from the encodings (codes, sums of rows) is no loss: it is not
 * read again, and a compaction makes it anew. Any thread.
 */
#ifndef STORAGE_DAMAGE_H
#define STORAGE_DAMAGE_H

#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"
#include "storage/corpus.h"
#include "storage/txn.h"

/* `e` says what is wrong with this block of the chunk; `value` is what is stored, empty when that
 * was not found, in the transaction. Notes it. 0 with the payload when it can be read all the same:
 * encodings of which only rows that are dead in `c` are wrong, or only the header. Else CORRUPT. */
int damage_met(const struct view_chunk *c, enum block_kind kind, struct txn *t, struct span value,
               struct span *out_payload, struct err *e);

/* Which rows of these encodings are wrong by their (sound) sums; noted, and given. */
const uint64_t *damage_rows(const struct view_chunk *c, const unsigned char *encodings,
                            const unsigned char *sums);

/* Calls `take` for the id of every example of the chunk that `which` marks (NULL: all that live),
 * from the chunk itself, or when its table of rows is damaged from the ledger, then all in its
 * range. Until take says false. */
void damage_name(const struct view_chunk *c, struct corpus *corpus, const uint64_t *which,
                 bool (*take)(void *arg, const char *id, size_t len), void *arg);

/* corpus_view_sound. */
const struct view *damage_view(struct corpus *c, bool texts);

void damage_free(const struct view_damage *d); /* NULL is fine */

#endif
