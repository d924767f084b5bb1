/* task_norms.c - see task_norms.h. Chunks are computed a few at a time by several threads and
 * written in the order of their ids. */
#include "server/task_norms.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "server/lenses.h"
#include "server/pool.h"
#include "server/runtime.h"
#include "storage/base/bytes.h"
#include "storage/base/mem.h"

static int by_id(const void *a, const void *b)
{
    const struct view_chunk *x = *(const struct view_chunk *const *)a,
                            *y = *(const struct view_chunk *const *)b;

    return (x->id > y->id) - (x->id < y->id);
}

enum { TOGETHER = 8 }; /* chunks computed before they are written, in order */

struct wave {
    const struct task_norms *t;
    const struct view_chunk *const *chunks;
    double **n;
    size_t count;
    _Atomic size_t next;
    _Atomic bool failed;
    struct err err;
};

static int one_chunk(const struct task_norms *t, const struct view_chunk *c, double *out,
                     struct err *e)
{
    const double *known = t->known ? lenses_known(t->known, c) : NULL;

    if (known) {
        memcpy(out, known, c->rows * sizeof *out);
        return 0;
    }
    return lenses_compute(t->lens, (enum dtype)corpus_def(t->view->corpus)->dtype, c, out, e);
}

static void wave_share(void *arg, unsigned slot)
{
    struct wave *w = arg;
    size_t i;

    (void)slot;
    while (!atomic_load(&w->failed) && (i = atomic_fetch_add(&w->next, 1)) < w->count) {
        struct err e = ERR_INIT;

        w->n[i] = mem_big(w->chunks[i]->rows, sizeof **w->n);
        if (!w->n[i])
            err_set(&e, ERR_BUSY, "no memory for %u denominators", w->chunks[i]->rows);
        else
            one_chunk(w->t, w->chunks[i], w->n[i], &e);
        if (e.code && !atomic_exchange(&w->failed, true))
            w->err = e;
    }
}

/* Up to TOGETHER chunks by several threads, then written in order. */
static int write_wave(const struct task_norms *t, const struct view_chunk *const *chunks,
                      size_t count, struct artifact_writer *out, struct err *e)
{
    double *n[TOGETHER] = {NULL};
    struct wave w = {.t = t, .chunks = chunks, .n = n, .count = count, .err = ERR_INIT};
    unsigned width = pool_readers(t->rt->pool);
    int code;

    pool_fanout(t->rt->pool, width < count ? width : (unsigned)count, wave_share, &w);
    if (w.err.code)
        *e = w.err;
    code = (int)w.err.code;
    for (size_t i = 0; i < count; i++) {
        if (!code)
            code = artifact_add(out, n[i], chunks[i]->rows * sizeof *n[i], e);
        if (!code)
            code = t->advance(t->arg, chunks[i]->rows * corpus_row_bytes(t->view->corpus), e);
        free(n[i]);
    }
    return code;
}

static int write_all(const struct task_norms *t, const struct view_chunk **chunks,
                     struct artifact_writer *out, struct err *e)
{
    size_t count = t->view->chunk_count;
    struct lenses_entry *entries = mem_new(count, sizeof *entries);
    struct buf head = {0};
    int code = 0;

    for (size_t i = 0; i < count; i++)
        chunks[i] = &t->view->chunks[i];
    if (count)
        qsort(chunks, count, sizeof *chunks, by_id);
    for (size_t i = 0; i < count; i++)
        entries[i] = (struct lenses_entry){chunks[i]->id, chunks[i]->rows};
    lenses_head(&head, entries, count);
    if (head.failed)
        code = err_set(e, ERR_BUSY, "no memory for the table of %zu chunks", count);
    if (!code)
        code = artifact_add(out, head.data, head.len, e);
    for (size_t i = 0; !code && i < count; i += TOGETHER)
        code = write_wave(t, chunks + i, count - i < TOGETHER ? count - i : TOGETHER, out, e);
    buf_free(&head);
    free(entries);
    return code;
}

int task_norms_write(const struct task_norms *t, struct artifact **out, struct err *e)
{
    const struct view_chunk **chunks = mem_new(t->view->chunk_count, sizeof *chunks);
    struct artifact_writer *w = NULL;
    int code = artifact_begin(t->rt->store, &w, e);

    if (!code)
        code = write_all(t, chunks, w, e);
    if (!code)
        code = artifact_finish(w, out, e);
    artifact_writer_end(w);
    free(chunks);
    return code;
}
