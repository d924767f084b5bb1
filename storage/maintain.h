/* maintain.h - whole-store work: verify, backup, restore, compact. Long; each reports progress.
 *
 * verify and backup are [R] and may run beside ingest on a thread of their own. compact copies as
 * [R] and asks for the writer lane only for the swap (`lane`). restore works on a store nobody has
 * open.
 */
#ifndef STORAGE_MAINTAIN_H
#define STORAGE_MAINTAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/err.h"
#include "storage/corpus.h"
#include "storage/store.h"

/* Called now and then; returns false to cancel (the work then ends with CANCELLED, nothing half
 * done). Units are bytes. Runs on the working thread. */
struct maintain_progress {
    bool (*report)(void *arg, uint64_t done, uint64_t total);
    void *arg;
};

/* How compact gets a short piece of work run on the writer lane and waits for it. NULL when the
 * caller is the only user of the store (offline verbs). */
struct maintain_lane {
    int (*run)(void *arg, int (*work)(void *work_arg, struct err *e), void *work_arg,
               struct err *e);
    void *arg;
};

struct verify_report {
    uint64_t chunks, rows, bytes, examples, texts; /* walked */
    uint64_t damaged_blocks, damaged_ids, ledger_faults;
};
/* Every checksum, every text, every ledger invariant (ids <-> rows, counts, tombstones, batches).
 * `finding` gets one line of text for each damage, naming corpus, shard, chunk and ids. Returns 0
 * when it could walk the store; damage is in the report, not an error. */
int verify_store(struct store *s, void (*finding)(void *arg, const char *line), void *arg,
                 const struct maintain_progress *p, struct verify_report *out, struct err *e);

/* A restorable copy under `dest` (which must not exist; the directory that holds it is made when it
 * is missing): written beside, synced, renamed. Taken at any moment beside full ingest; restores to
 * what was committed when it began, or later. */
int backup_store(struct store *s, const char *dest, const struct maintain_progress *p,
                 struct err *e);
/* The same beside an older backup, on the same file system: shards that were sealed then and are
 * the same now are hard links to its files (storage/reuse.h), everything else is copied. Each of
 * the two can be removed, and restored, without the other. INVALID when `base` (NULL: none) is no
 * backup. */
struct backup_report {
    uint64_t shards_linked, shards_copied, bytes_linked, bytes_copied; /* of shards' files */
};
int backup_store_since(struct store *s, const char *dest, const char *base,
                       const struct maintain_progress *p, struct backup_report *out, struct err *e);
/* Copies a backup to a new store directory, opens and verifies it, then renames it in. */
int restore_store(const char *backup, const char *dest, const struct maintain_progress *p,
                  struct err *e);

/* Drops what is damaged, makes again what follows from the rest (ids, counts, codes, sums), and
 * says of each thing lost whose it was: `lost` is called with corpus, id and "example" (gone),
 * "texts" (the example stays, without text and meta) or "batch" (its record: sent again, it is
 * taken as duplicates). The store is the caller's alone. Safe to run again after it was cut off.
 * What it could not mend (a state's or task's file) is in `after`, told by `finding`. */
typedef void repair_lost(void *arg, const char *corpus, const char *id, size_t len,
                         const char *what);
struct repair_report {
    uint64_t examples, texts, batches; /* lost */
    uint64_t chunks;                   /* dropped whole */
    uint64_t records;                  /* of the ledger, made again */
    struct verify_report after;
};
int repair_store(struct store *s, repair_lost *lost, void *arg,
                 void (*finding)(void *arg, const char *line), const struct maintain_progress *p,
                 struct repair_report *out, struct err *e);

/* What a rewrite makes of a corpus (fit). */
struct artifact;
struct rewrite_to {
    /* `count` live rows of one chunk: encodings of the corpus's dtype, side by side, from `in` to
     * `out`; norms, |x| before normalising, in place. Called with growing sequences, on the calling
     * thread, for the last few rows on the lane. */
    int (*rows)(void *arg, const void *in, double *norms, size_t count, void *out, struct err *e);
    void *arg;
    const char *text;          /* the new state's (storage/annex.h) */
    struct artifact *artifact; /* finished; named by the state from the swap on; NULL: none */
};

/* Carries every live row through to->rows into new shards, and swaps them in one ledger transaction
 * together with the corpus's new state, of the next epoch. Batches committed meanwhile are carried
 * over as well; those that come after must be of the new epoch (STALE). The old rows serve until
 * the swap. Fails, CANCELLED too, without a trace; BUSY while the corpus is compacted. */
int rewrite_corpus(struct corpus *c, const struct rewrite_to *to, const struct maintain_lane *lane,
                   const struct maintain_progress *p, struct err *e);

/* compact_corpus for a repair: takes shards with damage, and rows whose texts are damaged without
 * them. */
int compact_mend(struct corpus *c, const struct maintain_progress *p, struct err *e);

/* Rewrites the shards of a corpus that have dead rows or small chunks into new ones and swaps them
 * in the ledger in one transaction. Readers keep their views. */
int compact_corpus(struct corpus *c, const struct maintain_lane *lane,
                   const struct maintain_progress *p, struct err *e);

#endif
