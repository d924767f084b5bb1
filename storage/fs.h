/* fs.h - files and directories that must survive a power cut. No LMDB, no format knowledge.
 *
 * A name in a directory is durable only when the directory itself was synced: the calls here that
 * create, rename or remove say which syncs they have done. Modes: directories 0700, files 0600.
 * Any thread; errors name the path.
 */
#ifndef STORAGE_FS_H
#define STORAGE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/err.h"

/* "a/b" in fresh memory (free). */
char *fs_join(const char *dir, const char *name);

/* The directory that holds `path` ("." for a bare name), in fresh memory (free). */
char *fs_parent(const char *path);

bool fs_exists(const char *path);
bool fs_is_dir(const char *path);
uint64_t fs_size(const char *path); /* 0 when it cannot be read */

/* Creates one directory. An existing directory is not an error when `may_exist`. Not synced. */
int fs_make_dir(const char *path, bool may_exist, struct err *e);

/* fsync of a directory, of a file by path, of the directory that holds `path`. SYNC_FAILED when the
 * sync itself fails: the caller must not try again (docs/architecture.md, P1). */
int fs_sync_dir(const char *path, struct err *e);
int fs_sync_file(const char *path, struct err *e);
int fs_sync_parent(const char *path, struct err *e);

/* Puts a small file in place: written beside as PATH.part, synced, renamed, directory synced. */
int fs_write_file(const char *path, const void *bytes, size_t len, struct err *e);

/* Reads a small file whole into out (at most cap - 1 bytes, NUL added). INVALID when it is
 * larger. */
int fs_read_file(const char *path, char *out, size_t cap, size_t *out_len, struct err *e);

/* Copies a file's bytes (mode 0600, destination must not exist) and syncs the copy. `report` is
 * asked after every piece with the bytes of that piece; false cancels (CANCELLED). NULL: never
 * asked. */
typedef bool fs_report(void *arg, uint64_t bytes);
int fs_copy_file(const char *from, const char *to, fs_report *report, void *arg, struct err *e);

/* Removes a directory and what is in it, at most `depth` levels of directories deep (0: files
 * only). What is not there is not an error. Not synced. */
int fs_remove_tree(const char *path, unsigned depth, struct err *e);

/* Calls visit with every name in the directory but "." and ".."; visit returns false to stop. */
typedef bool fs_visit(void *arg, const char *name);
int fs_list(const char *path, fs_visit *visit, void *arg, struct err *e);

#endif
