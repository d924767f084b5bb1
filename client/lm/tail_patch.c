/* tail_patch.c - see tail_patch.h. Items are sorted by their text; the threads take runs of equal
 * texts from one counter, each with a patch of its own. */
#include "client/lm/tail_patch.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "client/lm/crew.h"
#include "storage/base/mem.h"

struct item {
    const struct pairs_text *text;
    size_t pair, place; /* whose it is; where its answer goes */
};

struct job {
    const struct model *model;
    const struct pairs *ps;
    const struct patch_options *options;
    struct tail_patch *out;
    struct item *item;      /* sorted by text; owned */
    void (*tell)(void *ctx, const struct tail_patch_progress *p);
    void *ctx;
    pthread_mutex_t lock;   /* guards what follows */
    size_t next_pair, next_item; /* not yet taken */
    struct tail_patch_progress progress;
    struct err error;       /* the first */
};

static int by_text(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    const int order = strcmp(x->text->bytes, y->text->bytes);

    return order ? order : (x->place < y->place ? -1 : 1);
}

static bool same_text(const struct item *a, const struct item *b)
{
    return a->text->len == b->text->len && !memcmp(a->text->bytes, b->text->bytes, a->text->len);
}

/* Everything that can be wrong with a text, before any work is done. */
static int check(const struct job *j, struct err *e)
{
    struct patch x;
    int rc = patch_init(&x, j->model, j->options, e);

    for (size_t i = 0; i < j->ps->count && !rc; i++) {
        const struct pair *p = &j->ps->list[i];
        rc = patch_check_target(&x, p->prompt.bytes, p->prompt.len, p->target.bytes, p->target.len,
                                e);
        for (size_t k = 0; k < p->count && !rc; k++) {
            rc = patch_check_passage(&x, p->items[k].text.bytes, p->items[k].text.len, e);
            if (rc)
                err_wrap(e, "passage \"%.80s\": ", p->items[k].id);
        }
        if (rc)
            rc = pairs_at_line(p, e);
    }
    patch_fini(&x);
    return rc;
}

static int make_items(struct job *j, struct err *e)
{
    const struct pairs *ps = j->ps;
    struct tail_patch *out = j->out;
    size_t place = 0;

    j->item = mem_big(ps->items, sizeof *j->item);
    out->before = mem_big(ps->count, sizeof *out->before);
    out->first = mem_big(ps->count, sizeof *out->first);
    out->after = mem_big(ps->items, sizeof *out->after);
    if (!j->item || !out->before || !out->first || !out->after)
        return err_set(e, ERR_BUSY, "no memory for %zu passages", ps->items);
    for (size_t i = 0; i < ps->count; i++) {
        out->first[i] = place;
        for (size_t k = 0; k < ps->list[i].count; k++, place++)
            j->item[place] = (struct item){&ps->list[i].items[k].text, i, place};
    }
    qsort(j->item, ps->items, sizeof *j->item, by_text);
    return 0;
}

/* The next run of items with one text; false when there is none, or something went wrong. */
static bool take_run(struct job *j, size_t *from, size_t *to)
{
    bool some;

    pthread_mutex_lock(&j->lock);
    some = j->next_item < j->ps->items && j->error.code == ERR_OK;
    if (some) {
        *from = *to = j->next_item;
        while (*to < j->ps->items && same_text(&j->item[*from], &j->item[*to]))
            ++*to;
        j->next_item = *to;
    }
    pthread_mutex_unlock(&j->lock);
    return some;
}

static bool take_pair(struct job *j, size_t *number)
{
    bool some;

    pthread_mutex_lock(&j->lock);
    some = j->next_pair < j->ps->count && j->error.code == ERR_OK;
    if (some)
        *number = j->next_pair++;
    pthread_mutex_unlock(&j->lock);
    return some;
}

static void report(struct job *j, size_t items)
{
    pthread_mutex_lock(&j->lock);
    j->progress.done += items;
    j->progress.steps++;
    if (j->tell)
        j->tell(j->ctx, &j->progress);
    pthread_mutex_unlock(&j->lock);
}

static int ask(struct patch *x, const struct pair *p, bool after, double *out, struct err *e)
{
    int rc = patch_target(x, after, p->prompt.bytes, p->prompt.len, p->target.bytes, p->target.len,
                          out, e);

    return rc ? pairs_at_line(p, e) : 0;
}

static int do_run(struct job *j, struct patch *x, size_t from, size_t to, struct err *e)
{
    const struct item *first = &j->item[from];
    int rc = patch_step(x, first->text->bytes, first->text->len, e);

    if (rc)
        return pairs_at_line(&j->ps->list[first->pair], e);
    for (size_t i = from; i < to && !rc; i++)
        rc = ask(x, &j->ps->list[j->item[i].pair], true, &j->out->after[j->item[i].place], e);
    if (!rc)
        report(j, to - from);
    return rc;
}

static void work(void *ctx, unsigned member, unsigned members)
{
    struct job *j = ctx;
    struct err e = ERR_INIT;
    struct patch x;
    size_t from, to;
    int rc = patch_init(&x, j->model, j->options, &e);

    (void)member;
    (void)members;
    while (!rc && take_pair(j, &from))
        rc = ask(&x, &j->ps->list[from], false, &j->out->before[from], &e);
    while (!rc && take_run(j, &from, &to))
        rc = do_run(j, &x, from, to, &e);
    patch_fini(&x);
    if (!rc)
        return;
    pthread_mutex_lock(&j->lock);
    if (j->error.code == ERR_OK)
        j->error = e;
    pthread_mutex_unlock(&j->lock);
}

int tail_patch_run(struct tail_patch *out, const struct model *m, const struct pairs *ps,
                   const struct patch_options *o, unsigned threads,
                   void (*tell)(void *ctx, const struct tail_patch_progress *p), void *ctx,
                   struct err *e)
{
    struct job j = {.model = m, .ps = ps, .options = o, .out = out, .tell = tell, .ctx = ctx};
    struct crew *crew = NULL;
    int rc;

    *out = (struct tail_patch){0};
    err_clear(&j.error);
    j.progress.total = ps->items;
    pthread_mutex_init(&j.lock, NULL);
    rc = check(&j, e);
    if (!rc)
        rc = make_items(&j, e);
    if (!rc)
        rc = crew_start(&crew, threads, e);
    if (!rc) {
        crew_run(crew, work, &j);
        crew_stop(crew);
        out->steps = j.progress.steps;
        if (j.error.code != ERR_OK) {
            *e = j.error;
            rc = (int)e->code;
        }
    }
    pthread_mutex_destroy(&j.lock);
    free(j.item);
    if (rc)
        tail_patch_free(out);
    return rc;
}

void tail_patch_free(struct tail_patch *t)
{
    free(t->before);
    free(t->first);
    free(t->after);
    *t = (struct tail_patch){0};
}
