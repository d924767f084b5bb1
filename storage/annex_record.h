/* annex_record.h - annexes (storage/annex.h) as the ledger and the catalogue have them.
 *
 * A record of table "records", key: STORE_ANNEXES, corpus (be32), name. Value: epoch (le64),
 * count of artifacts (le64), id and payload bytes of each (le64 both), then the text.
 */
#ifndef STORAGE_ANNEX_RECORD_H
#define STORAGE_ANNEX_RECORD_H

#include "storage/annex.h"
#include "storage/ledger.h"
#include "storage/txn.h"

/* One reference; takes references to the artifacts of the definition. */
struct annex *annex_new(const struct annex_def *def, size_t text_len);

void annex_record_put(struct txn *t, uint32_t corpus, const struct annex *a);
void annex_record_delete(struct txn *t, uint32_t corpus, const char *name);
/* All of a corpus, with the transaction that drops it. */
void annex_record_delete_all(struct txn *t, uint32_t corpus);

/* The artifacts of one record: false when it is not well-formed. */
struct annex_file {
    uint64_t id, bytes;
};
bool annex_record_files(struct span value, struct annex_file out[ANNEX_ARTIFACTS],
                        size_t *out_count);

struct key annex_record_prefix(void); /* of all of them */
/* The name in a record's key, "" of a state, as far as the key can be one. */
bool annex_record_name(struct span key, char out[STORE_NAME_MAX + 1]);

/* A record read at open becomes an annex; *out_corpus is whose. NULL: not well-formed. */
struct annex *annex_record_read(struct store *s, struct span key, struct span value,
                                uint32_t *out_corpus);

/* Its files belong to the ledger; no longer. */
void annex_adopt(struct annex *a);
void annex_doom(struct annex *a);

/* Puts it in the corpus's list, or takes the one of that name out (giving its reference back). The
 * replaced one is doomed but for the artifacts the new one has too. Writer lane, or at open. */
void annex_enlist(struct corpus *c, struct annex *a);
void annex_delist(struct corpus *c, const char *name);

#endif
