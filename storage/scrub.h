/* scrub.h - verify in small steps, for a thread that reads a store's bytes again and again in the
 * background: one chunk a step, nothing held between two. [R], beside everything.
 *
 * What it finds damaged is noted as by any other reader (storage/damage.h), so later answers go
 * without it and say so. Pages that it alone brought into memory are the first to leave it again.
 * The ledger's invariants are verify's: they cannot be checked in steps.
 */
#ifndef STORAGE_SCRUB_H
#define STORAGE_SCRUB_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/err.h"
#include "storage/maintain.h"
#include "storage/store.h"

/* Where it is; zero to begin. Corpora come and go meanwhile. */
struct scrub {
    uint32_t corpus;   /* the lowest number that is not yet done */
    uint64_t sequence; /* in that: of the first chunk that is not */
};

/* The next chunk, or the files of a corpus behind its last. `finding` as for verify_store. *out is
 * what this step walked, *out_end true when there was nothing left (then `at` begins anew). Returns
 * 0 also when it found damage; BUSY. */
int scrub_step(struct store *s, struct scrub *at, void (*finding)(void *arg, const char *line),
               void *arg, struct verify_report *out, bool *out_end, struct err *e);

#endif
