/* encoder_command.h - the words of a command line, split as a shell splits them, without a shell.
 * Pure; any thread. */
#ifndef SERVER_ENCODER_COMMAND_H
#define SERVER_ENCODER_COMMAND_H

#include <stddef.h>

#include "storage/base/err.h"
#include "storage/base/mem.h"

enum { ENCODER_WORDS_MAX = 256 };

/* Blanks part words; '...' takes everything as it is; "..." and bare text know the backslash
 * (within "..." only before " \ $ and `). Nothing is expanded: $, *, ~ and ; are letters. *out is
 * NULL-terminated, in the arena. INVALID: a quote that does not end, a backslash at the end, no
 * word at all, too many. */
int encoder_command_split(const char *text, struct arena *a, char ***out, size_t *out_count,
                          struct err *e);

#endif
