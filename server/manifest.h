/* manifest.h - the definition of a corpus: JSON as sent -> checked -> canonical text ->
 * fingerprint.
 *
 * Canonical: every default filled in, members sorted by their bytes, no spaces, numbers by the
 * fewest digits that read back. So the same definition, however it was spelled, has the same
 * fingerprint (SHA-256 of that text). Pure; any thread. */
#ifndef SERVER_MANIFEST_H
#define SERVER_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>

#include "storage/base/err.h"
#include "storage/base/mem.h"
#include "storage/store.h"

enum { MANIFEST_TEXT_MAX = 1024 }; /* loss and model */

/* Fills *out; the manifest's text is in `a`. `name` was checked by the caller. BAD_JSON, or INVALID
 * naming the member, with the limit. */
int manifest_read(const char *name, const void *json, size_t len, struct arena *a,
                  struct corpus_def *out, struct err *e);

/* What a stored manifest says of the vectors. */
struct manifest_shape {
    bool encoded;
    size_t count; /* blocks */
    const char **names;
    size_t *dims;
};
/* All memory in `a`. CORRUPT when the text is not what manifest_read made. */
int manifest_shape(const struct corpus_def *def, struct arena *a, struct manifest_shape *out,
                   struct err *e);

#endif
