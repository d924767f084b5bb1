/* vitals.c - see vitals.h. One entry a corpus that was looked at or grew; corpus ids never come
 * again, so neither do entries. */
#include "server/vitals.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/mem.h"

enum { SECONDS = 60 };

/* What the first `chunks` chunks of a view have beside what follows from their rows. */
struct weighed {
    size_t chunks;
    uint64_t mark; /* of their ids: another list of chunks has another one */
    uint64_t ids, texts;
};

struct entry {
    uint32_t corpus;
    struct weighed weighed;
    struct second {
        uint64_t number; /* since the clock's start */
        uint64_t rows;
    } second[SECONDS]; /* second n in place n % SECONDS */
};

struct vitals {
    pthread_mutex_t lock;
    struct entry **list; /* owned, each too */
    size_t count, room;
};

struct vitals *vitals_new(void)
{
    struct vitals *v = mem_new(1, sizeof *v);

    pthread_mutex_init(&v->lock, NULL);
    return v;
}

void vitals_free(struct vitals *v)
{
    if (!v)
        return;
    for (size_t i = 0; i < v->count; i++)
        free(v->list[i]);
    free(v->list);
    pthread_mutex_destroy(&v->lock);
    free(v);
}

/* Under the lock; NULL when there is none. */
static struct entry *find(struct vitals *v, uint32_t corpus)
{
    for (size_t i = 0; i < v->count; i++)
        if (v->list[i]->corpus == corpus)
            return v->list[i];
    return NULL;
}

static struct entry *find_or_make(struct vitals *v, uint32_t corpus)
{
    struct entry *x = find(v, corpus);

    if (x)
        return x;
    if (v->count == v->room) {
        struct entry **grown = mem_new(v->room * 2 + 8, sizeof *grown);

        if (v->count)
            memcpy(grown, v->list, v->count * sizeof *grown);
        free(v->list);
        v->list = grown;
        v->room = v->room * 2 + 8;
    }
    x = v->list[v->count++] = mem_new(1, sizeof *x);
    x->corpus = corpus;
    return x;
}

void vitals_forget(struct vitals *v, const struct corpus *c)
{
    pthread_mutex_lock(&v->lock);
    for (size_t i = 0; i < v->count; i++)
        if (v->list[i]->corpus == corpus_id(c)) {
            free(v->list[i]);
            v->list[i] = v->list[--v->count];
            break;
        }
    pthread_mutex_unlock(&v->lock);
}

/* ---- weight ---------------------------------------------------------------------------------- */

/* FNV-1a over the ids of the first `count` chunks. */
static uint64_t mark_of(const struct view *view, size_t count)
{
    uint64_t mark = UINT64_C(14695981039346656037);

    for (size_t i = 0; i < count; i++)
        mark = (mark ^ view->chunks[i].id) * UINT64_C(1099511628211);
    return mark;
}

/* What is known of this view's first chunks; nothing once they were rewritten. */
static struct weighed recall(struct vitals *v, const struct view *view)
{
    struct weighed w = {0};
    const struct entry *x;

    pthread_mutex_lock(&v->lock);
    x = find(v, corpus_id(view->corpus));
    if (x)
        w = x->weighed;
    pthread_mutex_unlock(&v->lock);
    if (w.chunks > view->chunk_count || w.mark != mark_of(view, w.chunks))
        w = (struct weighed){0};
    return w;
}

static void keep(struct vitals *v, const struct view *view, const struct weighed *w)
{
    pthread_mutex_lock(&v->lock);
    find_or_make(v, corpus_id(view->corpus))->weighed = *w;
    pthread_mutex_unlock(&v->lock);
}

static int weigh_chunk(const struct view_chunk *c, struct weighed *w, struct err *e)
{
    uint64_t rows = 0, texts = 0, sums = 0;
    int code = block_stored_bytes(c, BLOCK_ROWS, &rows, e);

    if (!code)
        code = block_stored_bytes(c, BLOCK_TEXTS, &texts, e);
    if (!code && c->summed)
        code = block_stored_bytes(c, BLOCK_SUMS, &sums, e);
    w->ids += rows + sums;
    w->texts += texts;
    return code;
}

/* Rows and codes have fixed sizes. */
static void add_rows(const struct view *view, struct vitals_planes *out)
{
    const struct coder_shape *shape = corpus_code_shape(view->corpus);

    for (size_t i = 0; i < view->chunk_count; i++) {
        const struct view_chunk *c = &view->chunks[i];

        out->rows += (uint64_t)c->rows * corpus_row_bytes(view->corpus);
        if (!c->coded)
            continue;
        out->bits += (uint64_t)c->rows * shape->plane_bytes[0];
        out->six += (uint64_t)c->rows * shape->plane_bytes[1];
        out->low += (uint64_t)c->rows * shape->plane_bytes[2];
        out->factors += (uint64_t)c->rows * shape->factors * sizeof(float);
    }
}

int vitals_weigh(struct vitals *v, const struct view *view, struct vitals_planes *out,
                 struct err *e)
{
    struct weighed w = recall(v, view);
    int code = 0;

    if (w.chunks < view->chunk_count) {
        for (size_t i = w.chunks; !code && i < view->chunk_count; i++)
            code = weigh_chunk(&view->chunks[i], &w, e);
        if (code)
            return code;
        w.chunks = view->chunk_count;
        w.mark = mark_of(view, w.chunks);
        keep(v, view, &w);
    }
    *out = (struct vitals_planes){.ids = w.ids, .texts = w.texts};
    add_rows(view, out);
    return 0;
}

/* ---- pace ------------------------------------------------------------------------------------ */

static uint64_t second_of(uint64_t now)
{
    return now / 1000000000u;
}

void vitals_grew(struct vitals *v, const struct corpus *c, uint64_t rows, uint64_t now)
{
    uint64_t number = second_of(now);
    struct second *s;

    pthread_mutex_lock(&v->lock);
    s = &find_or_make(v, corpus_id(c))->second[number % SECONDS];
    if (s->number != number)
        *s = (struct second){.number = number};
    s->rows += rows;
    pthread_mutex_unlock(&v->lock);
}

void vitals_pace(struct vitals *v, const struct corpus *c, uint64_t now, struct vitals_pace *out)
{
    uint64_t number = second_of(now), first = number, rows = 0;
    const struct entry *x;

    pthread_mutex_lock(&v->lock);
    x = find(v, corpus_id(c));
    for (size_t i = 0; x && i < SECONDS; i++) {
        const struct second *s = &x->second[i];

        if (s->rows == 0 || s->number + SECONDS <= number || s->number > number)
            continue;
        rows += s->rows;
        first = s->number < first ? s->number : first;
    }
    pthread_mutex_unlock(&v->lock);
    out->rows_per_s = (double)rows / (double)(number - first + 1);
    out->bytes_per_s = out->rows_per_s * (double)corpus_row_bytes(c);
}
