/* stream.h - the queue between a worker that produces a reply and the loop that sends it.
 *
 * Bounded: the worker blocks while more than LIMIT_STREAM_QUEUE bytes wait for the socket. One
 * lock, held for pointer moves only. The worker begins and gives; the loop takes, reports what
 * was written, and closes when the client is gone.
 */
#ifndef SERVER_STREAM_H
#define SERVER_STREAM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STREAM_PIECE_MAX = 256 * 1024 };

struct stream_piece {
    struct stream_piece *next;
    size_t len;
    char bytes[];
};

struct stream {
    pthread_mutex_t lock;
    pthread_cond_t room;
    bool begun;
    bool gone;         /* nobody will read any more */
    char type[96];
    uint64_t total;    /* promised by begin */
    uint64_t given;
    size_t waiting;    /* given, not yet written to the socket */
    struct stream_piece *first, **last;
};

void stream_init(struct stream *s);
void stream_destroy(struct stream *s);

/* Worker. */
void stream_begin(struct stream *s, const char *type, uint64_t total);
/* Puts a copy of at most STREAM_PIECE_MAX bytes; false when there is no memory. */
bool stream_put(struct stream *s, const void *bytes, size_t len);
/* Waits up to 100 ms for room. True when there is room now. *out_gone: the client left. */
bool stream_wait(struct stream *s, size_t limit, bool *out_gone);

/* Loop. take: all pieces put so far, now the caller's (free each). */
struct stream_piece *stream_take(struct stream *s);
bool stream_has_begun(struct stream *s);
void stream_written(struct stream *s, size_t len);
void stream_close(struct stream *s);

#endif
