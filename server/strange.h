/* strange.h - scores that are no numbers. Vectors are finite when they are stored, so their scores
 * are; one that is not was read from bytes that changed since they were last summed
 * (store_recheck). It is never an answer and never the end of the process. Reader threads. */
#ifndef SERVER_STRANGE_H
#define SERVER_STRANGE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "index/topk.h"
#include "storage/base/err.h"
#include "storage/corpus.h"

/* This row gave what is no number: its chunk is summed again and what is wrong of it noted, so that
 * a view without it can be taken (server/partial.h). Always CORRUPT, or why it cannot be read; with
 * no block open. */
int strange_row(const struct view *v, size_t chunk, uint32_t row, struct err *e);

/* 0 when all that was offered to `count` lists of a view were numbers; else as strange_row. */
int strange_hits(const struct view *v, const struct topk *lists, size_t count, struct err *e);

#endif
