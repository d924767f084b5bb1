/* rate.h - how fast this machine runs the kernels, measured on small buffers: what a choice between
 * engines is made of. It steers cost, never an answer. */
#ifndef INDEX_RATE_H
#define INDEX_RATE_H

/* Of one thread. Products: multiply-adds a second of rows in cache. */
struct rate {
    double read;               /* bytes a second, from memory */
    double exact;              /* products of the exact kernel, float32 rows */
    double blas;               /* of sgemm, as FAISS calls it for a batch of queries */
    double six, six_many;      /* of the six-bit plane, one query at a time and many */
    double bits, bits_many;    /* of the one-bit plane */
};

/* What a plain machine does, for as long as nothing is measured. */
extern const struct rate rate_plain;

/* Measures for about 0.2 s, with 64 MiB of memory in between; the best of several
 * short runs each, so that a busy machine does not look slow. What cannot be measured (no memory)
 * stays as in rate_plain. The thread must have called flat_thread_init. */
void rate_measure(struct rate *out);

#endif
