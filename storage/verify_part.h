/* verify_part.h - what the files of verify share: the walk's state, and how a finding is told.
 *
 *   verify.c         the whole store: shards, files, annexes, records
 *   verify_ledger.c  the ledger's own invariants, one corpus
 *   verify_chunk.c   every block of one chunk
 *   verify_codes.c   what follows from the encodings: sums of rows, codes
 */
#ifndef STORAGE_VERIFY_PART_H
#define STORAGE_VERIFY_PART_H

#include "storage/corpus.h"
#include "storage/maintain.h"
#include "storage/store.h"

struct check {
    struct store *s;
    struct corpus *corpus; /* the one being walked */
    void (*finding)(void *arg, const char *line);
    void *arg;
    const struct maintain_progress *progress;
    bool gentle; /* what was not in memory need not stay there */
    uint64_t done, total;
    struct verify_report report;
    struct err *e;
};

/* One line to whoever asked for the walk. */
void verify_say(struct check *k, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *verify_name(const struct check *k); /* of the corpus */

#define ledger_fault(k, ...)                                                                       \
    do {                                                                                           \
        (k)->report.ledger_faults++;                                                               \
        verify_say((k), __VA_ARGS__);                                                              \
    } while (0)

/* The ledger of k->corpus against itself, in one transaction. Damage is told; an error is k->e. */
int verify_ledger(struct check *k);
/* Every byte of the files behind a corpus's state and tasks. */
int verify_annexes(struct check *k, struct corpus *c);
/* All blocks of one chunk. */
int verify_chunk(struct check *k, const struct view_chunk *c);

#endif
