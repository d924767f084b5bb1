/* encode.h - encodes a whole corpus into a folder of batch files, with several threads, resumably.
 *
 * A batch file is named by its place and a hash of what it is made from (model, options, lines), so
 * a broken run is simply run again: files that are whole are kept, and sending them twice is
 * harmless. */
#ifndef CLIENT_LM_ENCODE_H
#define CLIENT_LM_ENCODE_H

#include <stddef.h>
#include <stdint.h>

#include "client/lm/encoder.h"
#include "client/lm/passages.h"
#include "storage/base/dtype.h"

enum { ENCODE_BATCH_MAX = 4096, ENCODE_NAME_MAX = 64 };

struct encode_options {
    const char *folder;   /* made when it is not there */
    uint64_t batch_rows;  /* passages in one file */
    uint64_t threads;
    enum dtype dtype;
};

struct encode_progress {
    size_t done, total;   /* passages, kept ones included */
    size_t kept;          /* passages in files that were there already */
};

/* Writes FOLDER/corpus.json and FOLDER/b<number>-<hash>.safetensors. `tell` (may be NULL) is called
 * under a lock, from any of the threads, after every file. CONFLICT when the folder holds encodings
 * of something else; errors of a passage name its id. */
int encode_run(const struct encoder_plan *plan, const struct passages *ps,
               const struct encode_options *o,
               void (*tell)(void *ctx, const struct encode_progress *p), void *ctx, struct err *e);

/* Name of batch `number` (without folder and extension), for passages first .. first+count-1. */
void encode_name(char out[ENCODE_NAME_MAX], const struct passages *ps, size_t number, size_t first,
                 size_t count, const char *description, size_t description_len);

#endif
