/* stop.h - how long work learns that nobody waits for it any more, without knowing what a job
 * is. Asked between blocks, from any thread; once true it stays true. Whoever stops answers
 * CANCELLED. */
#ifndef SERVER_STOP_H
#define SERVER_STOP_H

#include <stdbool.h>
#include <stddef.h>

struct stop {
    bool (*asked)(void *arg); /* NULL: never */
    void *arg;
};

static inline bool stop_asked(const struct stop *s)
{
    return s && s->asked && s->asked(s->arg);
}

#endif
