/* disk.h - what a disk may hold after a power cut, by a log of what was asked of it (shim.h).
 *
 * The model is as hostile as POSIX allows. Bytes are sure once their file was synced (or written
 * through O_DSYNC); names once their directory was. Of all else any part may be there: nothing,
 * everything, a random choice, single sectors of a write, a file's new length without its bytes.
 * Changes point into the log, which outlives the disk.
 */
#ifndef TESTS_FAULT_DISK_H
#define TESTS_FAULT_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "tests/fault/fault.h"

/* A change that is not sure yet, or sure before older ones are. */
struct disk_change {
    bool sure, is_size;
    uint64_t at, len;
    const unsigned char *bytes; /* in the log */
};

struct disk_entry {
    char *name;
    size_t node; /* 0: gone (the root is nobody's entry) */
    char *also_gone; /* a rename takes another name away in the same step; or NULL */
};

struct disk_list {
    struct disk_entry *v;
    size_t count, cap;
};

struct disk_node {
    uint64_t file; /* inode number; 0: a directory */
    struct buf sure; /* bytes that are on the disk for certain */
    struct disk_change *changes;
    size_t change_count, change_cap;
    struct disk_list names, names_sure, names_open; /* of a directory: now; for certain; not yet */
};

struct disk {
    struct disk_node *nodes; /* 0: the root */
    size_t count, cap;
};

/* What comes of that which is not sure. */
struct disk_choice {
    unsigned keep_bytes, keep_names; /* of 100 changes that are not sure */
    unsigned tear;                   /* of 100 kept writes: only some sectors came */
    unsigned hollow;                 /* of 100 writes that were lost: the length came */
    bool last_open;                  /* the last O_DSYNC write was not through yet */
    size_t sector;
};

void disk_begin(struct disk *d); /* empty */
void disk_free(struct disk *d);

/* One more record of the log. *acked becomes the number of the last step acknowledged. */
void disk_play(struct disk *d, const struct shim_record *r, const unsigned char *bytes,
               size_t *acked);
/* The write that `r`, played just now, was; NULL when it was something else. */
const struct disk_change *disk_last_write(struct disk *d, const struct shim_record *r);

/* Writes the disk out at `path`, which is not there yet, as `x` and the dice of `f` say. `last`:
 * the write that x->last_open is about, or NULL. */
void disk_put(struct fault *f, const struct disk *d, const struct disk_choice *x,
              const struct disk_change *last, const char *path);

#endif
