/* stream.c - see stream.h. */
#include "server/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void stream_init(struct stream *s)
{
    pthread_condattr_t attr;

    *s = (struct stream){.first = NULL};
    s->last = &s->first;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->room, &attr);
    pthread_condattr_destroy(&attr);
}

void stream_destroy(struct stream *s)
{
    struct stream_piece *p = s->first;

    while (p) {
        struct stream_piece *next = p->next;
        free(p);
        p = next;
    }
    pthread_cond_destroy(&s->room);
    pthread_mutex_destroy(&s->lock);
}

void stream_begin(struct stream *s, const char *type, uint64_t total)
{
    pthread_mutex_lock(&s->lock);
    s->begun = true;
    s->total = total;
    snprintf(s->type, sizeof s->type, "%s", type);
    pthread_mutex_unlock(&s->lock);
}

bool stream_put(struct stream *s, const void *bytes, size_t len)
{
    struct stream_piece *p = malloc(sizeof *p + len);

    if (!p)
        return false;
    p->next = NULL;
    p->len = len;
    memcpy(p->bytes, bytes, len);
    pthread_mutex_lock(&s->lock);
    *s->last = p;
    s->last = &p->next;
    s->given += len;
    s->waiting += len;
    pthread_mutex_unlock(&s->lock);
    return true;
}

bool stream_wait(struct stream *s, size_t limit, bool *out_gone)
{
    struct timespec until;
    bool room;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 100 * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    pthread_mutex_lock(&s->lock);
    while (!s->gone && s->waiting > limit)
        if (pthread_cond_timedwait(&s->room, &s->lock, &until))
            break;
    *out_gone = s->gone;
    room = !s->gone && s->waiting <= limit;
    pthread_mutex_unlock(&s->lock);
    return room;
}

struct stream_piece *stream_take(struct stream *s)
{
    struct stream_piece *all;

    pthread_mutex_lock(&s->lock);
    all = s->first;
    s->first = NULL;
    s->last = &s->first;
    pthread_mutex_unlock(&s->lock);
    return all;
}

bool stream_has_begun(struct stream *s)
{
    bool begun;

    pthread_mutex_lock(&s->lock);
    begun = s->begun;
    pthread_mutex_unlock(&s->lock);
    return begun;
}

void stream_written(struct stream *s, size_t len)
{
    pthread_mutex_lock(&s->lock);
    s->waiting -= len;
    pthread_cond_signal(&s->room);
    pthread_mutex_unlock(&s->lock);
}

void stream_close(struct stream *s)
{
    pthread_mutex_lock(&s->lock);
    s->gone = true;
    pthread_cond_broadcast(&s->room);
    pthread_mutex_unlock(&s->lock);
}
