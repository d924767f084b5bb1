/* look.h - everything that a store shows, read and held against the model of trace.h: what a reader
 * of examples, a scan and `verify` would see.
 */
#ifndef TESTS_FAULT_LOOK_H
#define TESTS_FAULT_LOOK_H

#include <stdbool.h>
#include <stddef.h>

/* Opens what is there below `root` after `acked` steps were acknowledged, and holds it against the
 * model before and after the next one; then goes on writing, opens again and verifies. False, with
 * what is wrong in `why`, when anything is. */
bool look_check(const char *root, size_t acked, char *why, size_t size);

/* Reads everything of root/store, as an engine and a reader of texts would, and compares: every
 * answer is right or an error. *out_errors counts the errors (an example that is missing without
 * one is in *out_silent); false when something was wrong. After all steps, but with damage. */
bool look_damaged(const char *root, size_t *out_errors, size_t *out_silent, char *why, size_t size);
/* What verify says of root/store: findings; SIZE_MAX when it could not be walked. */
size_t look_verify(const char *root, char *why, size_t size);

#endif
