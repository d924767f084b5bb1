/* fault.h - what the campaigns of this program share: a scratch directory, children whose end is a
 * verdict, and counts that become one line of JSON. One thread; children are forked. */
#ifndef TESTS_FAULT_FAULT_H
#define TESTS_FAULT_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/fault/shim.h"

enum { FAULT_WHY = 1024, FAULT_COUNTS = 12 };

/* Written by children, read by their parent. */
struct fault_shared {
    struct shim_control shim;
    char why[FAULT_WHY];
    uint64_t value[4];
};

struct fault {
    uint64_t seed;
    uint64_t stride; /* every how many-th point is tried; 1: all of them */
    uint64_t limit;  /* of states or flips */
    uint64_t share, shares; /* this process does points share, share + shares, ... */
    char root[128];  /* scratch, removed at the end */
    struct fault_shared *shared;
    /* results */
    uint64_t n, violations;
    struct {
        const char *name;
        uint64_t count;
    } counts[FAULT_COUNTS];
};

/* Adds to a named count of the result. */
void fault_count(struct fault *f, const char *name, uint64_t more);
/* One more promise that did not hold, told on standard error (the first twenty). */
void fault_violation(struct fault *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A number below `below`, from the seed. */
uint64_t fault_random(struct fault *f, uint64_t below);
bool fault_chance(struct fault *f, unsigned percent);

/* Runs `work` in a child of its own, 60 s at most. 0 or more: its exit code; -1: it died, and
 * shared->why says of what. */
int fault_child(struct fault *f, int (*work)(struct fault *f, void *arg), void *arg);

/* root/name, in a buffer of its own that lives until the third call after. */
const char *fault_path(struct fault *f, const char *name);
void fault_remove(struct fault *f, const char *name);

/* Runs the trace in this (child) process with the fault that shared->shim says, below root/name.
 * Exit codes: 0 all steps; 1 a step failed in a way that breaks a promise; 2 the store latched. */
enum { RAN = 0, RAN_WRONG = 1, RAN_LATCHED = 2, RAN_HARNESS = 3 };

void fault_kill(struct fault *f);  /* sweep.c */
void fault_error(struct fault *f); /* sweep.c */
void fault_power(struct fault *f); /* power.c */
void fault_flips(struct fault *f); /* damage.c */
void fault_cuts(struct fault *f);  /* damage.c */

#endif
