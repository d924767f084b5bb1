/* define.h - what define.c offers to the rest of storage; its public calls are in store.h. */
#ifndef STORAGE_DEFINE_H
#define STORAGE_DEFINE_H

struct store;

/* [W] Removes some more of what dropped corpora left in the ledger; cheap when there is nothing. A
 * corpus of a hundred million examples is not removed in one transaction. */
void define_purge_step(struct store *s);

#endif
