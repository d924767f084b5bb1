/* score.c - see score.h. Threads take pairs from one counter; each has a scorer of its own. */
#include "client/lm/score.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "client/lm/crew.h"
#include "client/lm/net.h"
#include "client/lm/pack.h"
#include "storage/base/mem.h"

enum {
    ROWS = 1024, /* of one tree, about: bounds the activations */
    NONE = UINT32_MAX
};

struct asked { /* how likely is this token after that row? */
    uint32_t row, token;
    double *sum; /* which the answer is added to */
};

struct scorer { /* one thread's */
    const struct model *model;
    struct net32_state state;
    struct pack pack;       /* the tree */
    uint32_t *child, *next; /* (row_cap) a row's first child and next sibling, or NONE; owned */
    double *log_sums;       /* (row_cap) owned */
    uint32_t row_cap;
    uint32_t base;          /* the prompt's last row */
    struct asked *asked;    /* (asked_cap) owned */
    size_t count, asked_cap;
    size_t target_count;    /* of asked: the first, when the target is in this tree */
    uint32_t *prompt, *tokens; /* owned */
    size_t prompt_count, prompt_cap, token_cap;
};

struct job {
    const struct model *model;
    const struct pairs *ps;
    struct scores *out;
    void (*tell)(void *ctx, size_t done, size_t total);
    void *ctx;
    pthread_mutex_t lock; /* guards what follows */
    size_t next, done;
    struct err error;     /* the first */
};

static void scorer_fini(struct scorer *s)
{
    net32_fini(&s->state);
    pack_fini(&s->pack);
    free(s->child);
    free(s->next);
    free(s->log_sums);
    free(s->asked);
    free(s->prompt);
    free(s->tokens);
    *s = (struct scorer){0};
}

static int scorer_init(struct scorer *s, const struct model *m, struct err *e)
{
    *s = (struct scorer){.model = m};
    pack_init(&s->pack, m->shape.context);
    /* a tree is flushed before it passes ROWS, but prompt and one candidate always fit */
    s->row_cap = ROWS + 2 * m->shape.context;
    s->asked_cap = s->row_cap;
    s->child = mem_big(s->row_cap, sizeof *s->child);
    s->next = mem_big(s->row_cap, sizeof *s->next);
    s->log_sums = mem_big(s->row_cap, sizeof *s->log_sums);
    s->asked = mem_big(s->asked_cap, sizeof *s->asked);
    if (s->child && s->next && s->log_sums && s->asked)
        return 0;
    scorer_fini(s);
    return err_set(e, ERR_BUSY, "no memory for a tree of %u rows", s->row_cap);
}

static int tokenize(const struct scorer *s, const struct pairs_text *text, uint32_t **tokens,
                    size_t *cap, size_t *count, struct err *e)
{
    if (text->len > *cap) {
        uint32_t *more = mem_big(text->len, sizeof *more);
        if (!more)
            return err_set(e, ERR_BUSY, "no memory for the tokens of %zu bytes", text->len);
        free(*tokens);
        *tokens = more;
        *cap = text->len;
    }
    *count = text->len ? tok_encode(&s->model->tok, text->bytes, text->len, *tokens) : 0;
    return 0;
}

static int check_text(struct scorer *s, const struct pairs_text *text, struct err *e)
{
    const uint32_t context = s->model->shape.context;
    size_t count = 0;
    int rc = tokenize(s, text, &s->tokens, &s->token_cap, &count, e);

    if (!rc && s->prompt_count + count > context) {
        err_set(e, ERR_TOO_LARGE, "with the prompt it has %zu tokens, the model sees %u",
                s->prompt_count + count, context);
        rc = err_at_limit(e, context);
    }
    return rc;
}

static int check_pair(struct scorer *s, const struct pair *p, struct err *e)
{
    int rc = tokenize(s, &p->prompt, &s->prompt, &s->prompt_cap, &s->prompt_count, e);

    if (!rc) {
        rc = check_text(s, &p->target, e);
        if (rc)
            err_wrap(e, "target: ");
    }
    for (size_t i = 0; i < p->count && !rc; i++) {
        rc = check_text(s, &p->items[i].text, e);
        if (rc)
            err_wrap(e, "candidates[%zu]: ", i);
    }
    return rc;
}

static uint32_t grow(struct scorer *s, uint32_t parent, uint32_t token)
{
    const uint32_t r = pack_branch(&s->pack, parent, token);

    s->child[r] = s->next[r] = NONE;
    return r;
}

/* A tree with the prompt only. */
static void plant(struct scorer *s)
{
    pack_clear(&s->pack);
    s->count = s->target_count = 0;
    s->base = grow(s, 0, 0);
    for (size_t i = 0; i < s->prompt_count; i++)
        s->base = grow(s, s->base, s->prompt[i]);
}

/* The row that reads `token` after `row`, made when it is not there. */
static uint32_t follow(struct scorer *s, uint32_t row, uint32_t token)
{
    uint32_t c = s->child[row];

    while (c != NONE && s->pack.token[c] != token)
        c = s->next[c];
    if (c == NONE) {
        c = grow(s, row, token);
        s->next[c] = s->child[row];
        s->child[row] = c;
    }
    return c;
}

static bool is_likeliest(const struct scorer *s, const struct asked *a)
{
    const uint32_t vocab = s->model->shape.vocab;
    const float *logits = s->state.logits + (size_t)a->row * vocab;

    for (uint32_t i = 0; i < vocab; i++)
        if (logits[i] > logits[a->token] || (logits[i] == logits[a->token] && i < a->token))
            return false;
    return true;
}

/* Runs the tree and answers everything asked of it. *greedy: of the target, when it is in here. */
static int flush(struct scorer *s, bool *greedy, struct err *e)
{
    const size_t vocab = s->model->shape.vocab;
    int rc = pack_check(&s->pack, e);

    if (!rc)
        rc = net32_fit(&s->state, &s->model->shape, s->pack.rows, e);
    if (rc)
        return rc;
    net32_forward(&s->state, s->model->params, &s->pack);
    net32_read(&s->state, s->model->params, s->base, s->pack.rows - s->base, s->log_sums);
    for (size_t i = 0; i < s->count; i++) {
        const struct asked *a = &s->asked[i];
        *a->sum += (double)s->state.logits[a->row * vocab + a->token] -
                   s->log_sums[a->row - s->base];
        if (i < s->target_count)
            *greedy = *greedy && is_likeliest(s, a);
    }
    plant(s);
    return 0;
}

/* Adds one text to the tree; its log-probability arrives in *sum with the flush. */
static int add(struct scorer *s, const struct pairs_text *text, double *sum, bool *greedy,
               struct err *e)
{
    uint32_t row;
    size_t count = 0;
    int rc = tokenize(s, text, &s->tokens, &s->token_cap, &count, e);

    if (!rc && (s->pack.rows + count > ROWS + s->model->shape.context ||
                s->count + count > s->asked_cap))
        rc = flush(s, greedy, e);
    *sum = 0;
    row = s->base;
    for (size_t i = 0; i < count && !rc && !s->pack.failed; i++) {
        s->asked[s->count++] = (struct asked){row, s->tokens[i], sum};
        if (i + 1 < count)
            row = follow(s, row, s->tokens[i]);
    }
    return rc ? rc : pack_check(&s->pack, e);
}

static uint32_t rank(const struct pair *p, const struct score *out)
{
    uint32_t r = 1;

    for (size_t i = 0; i < p->count; i++)
        r += out->candidates[i] > out->target &&
             strcmp(p->items[i].text.bytes, p->target.bytes) != 0;
    return r;
}

static int score_pair(struct scorer *s, const struct pair *p, struct score *out, struct err *e)
{
    int rc = tokenize(s, &p->prompt, &s->prompt, &s->prompt_cap, &s->prompt_count, e);

    out->greedy = true;
    if (!rc) {
        plant(s);
        rc = add(s, &p->target, &out->target, &out->greedy, e);
        s->target_count = s->count;
    }
    for (size_t i = 0; i < p->count && !rc; i++)
        rc = add(s, &p->items[i].text, &out->candidates[i], &out->greedy, e);
    if (!rc)
        rc = flush(s, &out->greedy, e);
    if (!rc && !isfinite(out->target))
        rc = err_set(e, ERR_NOT_FINITE, "the target's log-probability is %g", out->target);
    out->rank = rc ? 0 : rank(p, out);
    return rc;
}

static bool take(struct job *j, size_t *number)
{
    bool some;

    pthread_mutex_lock(&j->lock);
    some = j->next < j->ps->count && j->error.code == ERR_OK;
    if (some)
        *number = j->next++;
    pthread_mutex_unlock(&j->lock);
    return some;
}

static void work(void *ctx, unsigned member, unsigned members)
{
    struct job *j = ctx;
    struct err e = ERR_INIT;
    struct scorer s;
    size_t n = 0;
    int rc = scorer_init(&s, j->model, &e);

    (void)member;
    (void)members;
    while (!rc && take(j, &n)) {
        rc = score_pair(&s, &j->ps->list[n], &j->out->list[n], &e);
        if (rc)
            pairs_at_line(&j->ps->list[n], &e);
        pthread_mutex_lock(&j->lock);
        j->done++;
        if (j->tell && !rc)
            j->tell(j->ctx, j->done, j->ps->count);
        pthread_mutex_unlock(&j->lock);
    }
    scorer_fini(&s);
    if (!rc)
        return;
    pthread_mutex_lock(&j->lock);
    if (j->error.code == ERR_OK)
        j->error = e;
    pthread_mutex_unlock(&j->lock);
}

static int check(const struct job *j, struct err *e)
{
    struct scorer s;
    int rc = scorer_init(&s, j->model, e);

    for (size_t i = 0; i < j->ps->count && !rc; i++) {
        rc = check_pair(&s, &j->ps->list[i], e);
        if (rc)
            rc = pairs_at_line(&j->ps->list[i], e);
    }
    scorer_fini(&s);
    return rc;
}

static int make_room(struct job *j, struct err *e)
{
    size_t at = 0;

    j->out->list = mem_big(j->ps->count, sizeof *j->out->list);
    j->out->all = mem_big(j->ps->items + 1, sizeof *j->out->all);
    if (!j->out->list || !j->out->all)
        return err_set(e, ERR_BUSY, "no memory for %zu scores", j->ps->items);
    for (size_t i = 0; i < j->ps->count; i++) {
        j->out->list[i] = (struct score){.candidates = j->out->all + at};
        at += j->ps->list[i].count;
    }
    return 0;
}

int score_run(struct scores *out, const struct model *m, const struct pairs *ps, unsigned threads,
              void (*tell)(void *ctx, size_t done, size_t total), void *ctx, struct err *e)
{
    struct job j = {.model = m, .ps = ps, .out = out, .tell = tell, .ctx = ctx};
    struct crew *crew = NULL;
    int rc;

    *out = (struct scores){0};
    err_clear(&j.error);
    pthread_mutex_init(&j.lock, NULL);
    rc = check(&j, e);
    if (!rc)
        rc = make_room(&j, e);
    if (!rc)
        rc = crew_start(&crew, threads, e);
    if (!rc) {
        crew_run(crew, work, &j);
        crew_stop(crew);
        if (j.error.code != ERR_OK) {
            *e = j.error;
            rc = (int)e->code;
        }
    }
    pthread_mutex_destroy(&j.lock);
    if (rc)
        score_free(out);
    return rc;
}

void score_free(struct scores *s)
{
    free(s->list);
    free(s->all);
    *s = (struct scores){0};
}
