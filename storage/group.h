/* group.h - the plan of a commit: which examples of which batches are new, and their sequences.
 *
 * Reads the ledger, writes nothing. Batches of one corpus share a list of rows, in the order of the
 * group; an id that is in the ledger, or earlier in the group, is a duplicate. Writer lane.
 */
#ifndef STORAGE_GROUP_H
#define STORAGE_GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/catalog.h"
#include "storage/chunk.h"
#include "storage/commit.h"
#include "storage/writer.h"

struct group_corpus {
    struct corpus *corpus;
    struct ledger_counts counts; /* as they will be */
    struct chunk_row *rows;      /* new ones, ascending by sequence; owned */
    size_t row_count, row_cap;
    struct writer writer; /* the commit's */
};

struct group_batch {
    struct commit_batch *batch;
    size_t corpus; /* index */
    bool is_new;   /* to be recorded */
    struct ledger_batch record;
};

struct group_ids; /* set of ids of the group */

struct group {
    struct group_batch *batches;
    size_t batch_count;
    struct group_corpus *corpora;
    size_t corpus_count;
    struct group_ids *ids;
};

/* Fills the plan. Failures of one batch go into its err; a failure of the whole is returned. */
int group_plan(struct group *g, struct store *s, struct commit_batch *const *batches, size_t count,
               struct err *e);
void group_free(struct group *g);

#endif
