/* plant.h - faults put in on purpose, to find out whether the tests see them.
 *
 * In every build but FLAVOUR=plant, planted(X) is the constant false and leaves nothing behind.
 * There the variable ASCRIBE_PLANT names the one fault that is on. tests/fault/plants.py says
 * which test must catch each, runs them and prints the score (`make plants`).
 */
#ifndef STORAGE_BASE_PLANT_H
#define STORAGE_BASE_PLANT_H

/* NAME, what is wrong when it is on. */
#define PLANT_LIST(X)                                                                              \
    X(LEDGER_UNSYNCED, "the ledger is committed without a sync")                                   \
    X(SHARD_UNSYNCED, "chunks are committed without a sync")                                       \
    X(SHARD_DIR_UNSYNCED, "a new shard's directory is not synced")                                 \
    X(NAME_UNSYNCED, "a file is renamed, its directory is not synced")                             \
    X(COPY_UNSYNCED, "a copied file is not synced")                                                \
    X(SYNC_RETRIED, "a failed fsync is called again")                                              \
    X(SYNC_FORGIVEN, "after a failed sync the store goes on writing")                              \
    X(ACKED_EARLY, "a batch is acknowledged, its ledger transaction is not committed")             \
    X(PUBLISHED_EARLY, "readers see a batch before it is committed")                               \
    X(BATCH_FORGOTTEN, "a batch that is sent again is taken for a new one")                        \
    X(DELETE_FORGOTTEN, "a takedown writes no tombstone")                                          \
    X(TOMBSTONE_LEFT, "a takedown during a compaction is not carried over")                        \
    X(STALE_TAKEN, "rows encoded for an earlier fit are taken")                                    \
    X(SUM_UNCHECKED, "blocks are read without their checksum")                                     \
    X(PLACE_UNCHECKED, "a block that belongs elsewhere is read")                                   \
    X(RECORD_UNCHECKED, "ledger records are read without their check")                             \
    X(PAGES_UNCHECKED, "LMDB maps a file that nobody looked at")                                   \
    X(LOCK_IGNORED, "two processes open one store")                                                \
    X(TIES_TURNED, "equal scores are ordered by falling sequence")                                 \
    X(BOUND_TIGHT, "a bound on a score leaves a part of the error out")                            \
    X(MARGIN_TRUSTED, "what FAISS proposes is never asked for more")                               \
    X(NAN_TAKEN, "gradients may hold NaN")                                                         \
    X(SCOPE_IGNORED, "a key may do what its scope does not allow")                                 \
    X(PRODUCT_WRAPS, "the product of a shape may overflow")                                        \
    X(DEPTH_UNBOUND, "JSON may be nested to any depth")                                            \
    X(EXPIRED_TAKEN, "a key is good after its time")

#ifdef ASCRIBE_PLANT
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static inline bool planted_named(const char *name)
{
    const char *on = getenv("ASCRIBE_PLANT");

    return on && strcmp(on, name) == 0;
}

enum plant {
#define PLANT_ENUM(name, what) PLANT_##name,
    PLANT_LIST(PLANT_ENUM)
#undef PLANT_ENUM
};
#define planted(name) ((void)PLANT_##name, planted_named(#name))
#else
#define planted(name) 0
#endif

#endif
