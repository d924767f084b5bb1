/* ckpt.h - checkpoints: a model in one file, a well-formed safetensors file whose tensors are named
 * as in shape.h ("h0.attn.qkv"), with "adam.second." before each second moment, and the tokenizer's
 * merges as U16. After Adafactor a matrix has "adafactor.row." and "adafactor.col." instead, a
 * vector "adafactor.second.": version 2, which names its optimizer; version 1 is Adam's. Anything
 * else can read it; we read only what we wrote: the header must be, byte for byte, what the sizes
 * in it imply, and a checksum covers sizes and data. */
#ifndef CLIENT_LM_CKPT_H
#define CLIENT_LM_CKPT_H

#include "client/lm/model.h"

/* Writes the file (atomic, synced) and sets m->fingerprint. */
int ckpt_save(struct model *m, const char *path, struct err *e);

/* Reads it. IO when it cannot be read, CORRUPT with the reason when it is cut short, longer,
 * damaged or not ours; on failure nothing is held. Memory is asked for only after the file's own
 * length agrees. */
int ckpt_load(struct model *m, const char *path, struct err *e);

#endif
