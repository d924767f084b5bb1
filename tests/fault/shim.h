/* shim.h - between a program and the disk: counts, fails, kills at, or records every call that
 * changes a store's files.
 *
 * shim.c defines write, pwrite, writev, fsync, fdatasync, fallocate, truncate, ftruncate, open,
 * mkdir, rename, link, unlink and rmdir. Linked into a program, or as fault-shim.so in front of one
 * (LD_PRELOAD), it sees the calls of liblmdb and sqlite as well; the kernel is called directly.
 * Only paths below `root` count. The control block lies in shared memory, so that whoever watches
 * (the parent, or a test in Python that maps the file) can set and read it while the program runs.
 */
#ifndef TESTS_FAULT_SHIM_H
#define TESTS_FAULT_SHIM_H

#include <stdatomic.h>
#include <stdint.h>

enum shim_action {
    SHIM_COUNT = 0,  /* nothing but counting */
    SHIM_KILL = 1,   /* SIGKILL in place of the call */
    SHIM_KILLED = 2, /* SIGKILL right after it */
    SHIM_FAIL = 3,   /* -1 with `error` */
    SHIM_SHORT = 4,  /* a write of half the bytes; other calls as they are */
};

enum shim_kind {
    SHIM_WRITE = 1,
    SHIM_SYNC = 2,
    SHIM_ROOM = 4,  /* fallocate, truncate */
    SHIM_NAME = 8,  /* names that come or change */
    SHIM_UNNAME = 16, /* names that go: this frees room */
    SHIM_ALL = 31,
};

/* All numbers in the machine's order; tests/fault/calls.py reads the same layout. */
struct shim_control {
    _Atomic uint32_t action; /* enum shim_action */
    _Atomic uint32_t kinds;  /* of calls that count; mask of enum shim_kind */
    _Atomic uint32_t error;  /* errno of SHIM_FAIL */
    _Atomic uint32_t always; /* from the first fault on every call fails, not one alone */
    _Atomic uint32_t derived; /* 1: text.sqlite, which may be thrown away, counts too */
    _Atomic uint32_t unused;
    _Atomic int64_t countdown; /* calls until the fault; negative: none */
    _Atomic uint64_t calls;    /* that counted */
    _Atomic uint64_t hits;     /* faults that happened */
    _Atomic uint64_t syncs_after, writes_after; /* calls after the first fault */
    _Atomic uint64_t marks;    /* set by shim_mark */
    char root[512];            /* absolute, without a slash at its end; "" counts nothing */
};

/* A log of what changed the files, for tests/fault/power.c: records one after the other, each a
 * head and `bytes` bytes: data, or paths relative to the root, each ended by NUL. */
enum shim_what {
    SHIM_DATA = 'W',   /* file, at, data; flag 1: durable when it returned (O_DSYNC) */
    SHIM_SIZE = 'T',   /* file, at = new size */
    SHIM_SYNCED = 'S', /* file */
    SHIM_DIR = 'D',    /* path of a directory whose entries are durable */
    SHIM_FILE = 'C',   /* file, path: made */
    SHIM_MKDIR = 'M',
    SHIM_MOVE = 'R', /* from, to */
    SHIM_LINK = 'L', /* from, to */
    SHIM_GONE = 'U', /* path of a file */
    SHIM_RMDIR = 'X',
    SHIM_MARK = 'A', /* at = number */
};
struct shim_record {
    uint32_t what, flag;
    uint64_t file; /* inode number */
    uint64_t at;
    uint64_t bytes;
};

/* The block this process obeys; NULL before shim_use. */
extern struct shim_control *shim_control;

/* Obeys `c` from now on; `log` is a descriptor to write records to, or -1. */
void shim_use(struct shim_control *c, int log);
/* Says that step `number` is acknowledged: into the block, and into the log. */
void shim_mark(uint64_t number);

#endif
