/* shim.h - between a program and its memory: counts, and refuses the allocation that it is told to.
 *
 * shim.c defines malloc and its family, and mmap without a file. Linked into a program, or as
 * alloc-shim.so in front of one (LD_PRELOAD, ASCRIBE_ALLOC_SHIM names the control block's file), it
 * sees the allocations of every library as well. Not under a sanitizer, which has its own family.
 * The control block lies in shared memory: whoever watches sets and reads it while the program
 * runs. */
#ifndef TESTS_FAULT_ALLOC_SHIM_H
#define TESTS_FAULT_ALLOC_SHIM_H

#include <stdatomic.h>
#include <stdint.h>

enum alloc_mode {
    ALLOC_COUNT = 0, /* nothing but counting */
    ALLOC_ONCE = 1,  /* the allocation `countdown` calls from now */
    ALLOC_EVER = 2,  /* that one and those after it, `bound` of them at most */
    ALLOC_LIMIT = 3, /* whatever would take the live bytes past `limit` */
};

enum { ALLOC_SITE = 1024 };

/* tests/fault/alloc.py reads the same layout; all numbers in the machine's order. */
struct alloc_control {
    _Atomic uint32_t mode;  /* enum alloc_mode */
    _Atomic uint32_t least; /* smaller allocations do not count */
    _Atomic int64_t countdown;
    _Atomic int64_t bound;
    _Atomic int64_t limit;
    _Atomic uint64_t calls; /* that counted */
    _Atomic uint64_t hits;  /* refused */
    _Atomic int64_t blocks, bytes; /* live, of the malloc family, since the program began */
    _Atomic uint64_t size;  /* of the first that was refused */
    char site[ALLOC_SITE];  /* who asked for it: "module+offset ...", the caller first */
};

/* The block this process obeys; NULL before alloc_use or without ASCRIBE_ALLOC_SHIM. */
extern struct alloc_control *alloc_control;

/* Obeys `c` from now on (NULL: nothing). */
void alloc_use(struct alloc_control *c);
/* Sets what is to fail; counts begin at nought. */
void alloc_arm(struct alloc_control *c, enum alloc_mode mode, int64_t countdown, int64_t bound);

#endif
