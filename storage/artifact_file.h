/* artifact_file.h - what storage itself does with artifacts (storage/artifact.h): handles for the
 * files that the ledger names, taking up and giving up, checking, copying, tidying.
 */
#ifndef STORAGE_ARTIFACT_FILE_H
#define STORAGE_ARTIFACT_FILE_H

#include "storage/artifact.h"
#include "storage/fs.h"

#define ARTIFACT_DIR "artifacts"

/* A handle on a file that the ledger names; touches nothing. One reference. */
struct artifact *artifact_new(struct store *s, uint64_t id, uint64_t bytes);

/* Named from now on; no longer named: the file goes with the last reference. */
void artifact_adopt(struct artifact *a);
void artifact_doom(struct artifact *a);

/* Every checksum, from the disk, mapped or not. `report` as in fs_copy_file. */
typedef bool artifact_report(void *arg, uint64_t bytes);
int artifact_check(struct artifact *a, artifact_report *report, void *arg, struct err *e);

/* Length of the file of an artifact of this payload. */
uint64_t artifact_file_bytes(uint64_t bytes);

/* Copies the file between two store directories, synced; the directory is the caller's to sync. */
int artifact_copy(const char *from_store, const char *to_store, uint64_t id, fs_report *report,
                  void *arg, struct err *e);

/* Removes the files that are not among `named`. At open, before anybody writes one. */
int artifact_tidy(struct store *s, const uint64_t *named, size_t count, struct err *e);

#endif
