/* tensorfile.h - writes safetensors files whole and at once: a reader sees the old file or the new
 * one, never half of it. Header form: https://github.com/huggingface/safetensors (8 bytes of
 * little-endian length, JSON, then the tensors' bytes without gaps). Any thread. */
#ifndef CLIENT_LM_TENSORFILE_H
#define CLIENT_LM_TENSORFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/base/err.h"

struct tensorfile_tensor {
    const char *name;  /* no character that JSON would escape */
    const char *dtype; /* "F32", "U8", ... */
    size_t shape[2];
    unsigned dims;     /* 1 or 2 */
    size_t bytes;
    const void *data;  /* the caller's; not read by tensorfile_header */
};

/* A fact in the header's __metadata__: both texts without characters that JSON would escape. */
struct tensorfile_fact {
    const char *name;
    char value[48];
};

/* Appends the length and the JSON, padded so that the data starts on 8 bytes. */
void tensorfile_header(struct buf *out, const struct tensorfile_fact *facts, size_t fact_count,
                       const struct tensorfile_tensor *tensors, size_t count);

/* Bytes the whole file will have. */
size_t tensorfile_size(const struct tensorfile_fact *facts, size_t fact_count,
                       const struct tensorfile_tensor *tensors, size_t count);

/* A file that is written but does not stand under its name yet. */
struct tensorfile_half {
    int fd;            /* -1: nothing is open */
    char *path, *temporary; /* owned */
};

/* Writes the bytes to a temporary file beside `path` and sets the disk going without waiting. On
 * success `half` must be finished or dropped; a second file can be made meanwhile. */
int tensorfile_begin(struct tensorfile_half *half, const char *path,
                     const struct tensorfile_fact *facts, size_t fact_count,
                     const struct tensorfile_tensor *tensors, size_t count, struct err *e);

/* Waits until the bytes are safe, gives the file its name, and syncs the folder. `half` is empty
 * afterwards, whatever happened. */
int tensorfile_finish(struct tensorfile_half *half, struct err *e);
void tensorfile_drop(struct tensorfile_half *half);

/* Both at once. */
int tensorfile_write(const char *path, const struct tensorfile_fact *facts, size_t fact_count,
                     const struct tensorfile_tensor *tensors, size_t count, struct err *e);

/* The same guarantee for any other small file. */
int tensorfile_write_bytes(const char *path, const void *bytes, size_t len, struct err *e);

#endif
