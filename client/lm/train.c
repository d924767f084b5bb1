/* train.c - see train.h. The caller's thread plans each step (which passages); the crew computes
 * the slices' gradients, sums them and updates the parameters, each member its own ranges. */
#include "client/lm/train.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "client/lm/adafactor.h"
#include "client/lm/adam.h"
#include "client/lm/crew.h"
#include "client/lm/meter.h"
#include "client/lm/net.h"
#include "client/lm/pack.h"
#include "client/lm/rng.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

enum { RANGES = 64 }; /* parts of the flat array; fixed, so that the norm's sum has one order */

static const double warm_up = 0.03;    /* share of the run in which the rate rises */
static const double last_rate = 0.02;  /* of the highest, at the end */
static const double norm_limit = 1.0;  /* longer gradients are scaled down to this */

struct slice {
    struct pack pack;
    float *grads; /* (params), owned */
    double loss;
};

struct factors { /* Adafactor works by whole tensors */
    struct shape_tensor tensor[SHAPE_TENSORS_MAX];
    size_t place[SHAPE_TENSORS_MAX]; /* of its state in model.second */
    size_t count, widest;
    double *scratch;      /* 2 * widest for each member; owned */
    struct adafactor_step step;
    atomic_size_t next;   /* tensor that nobody works on yet */
};

struct trainer {
    const struct train_options *options;
    struct model *model;
    size_t params;
    uint32_t *tokens;      /* of all passages, one after the other; owned */
    size_t *first;         /* passages + 1 places in tokens; owned */
    uint32_t *order;       /* the passages of this epoch; owned */
    uint32_t passages, at; /* at: next in order */
    uint32_t epoch;
    struct slice slice[TRAIN_SLICES];
    struct crew *crew;
    struct net32_state *state; /* one a member; owned */
    unsigned members;
    double scale;          /* 1 / tokens of this step */
    double squares[RANGES];
    float rate, clip;
    struct adam adam;
    struct factors factors;
};

static int tokenize(struct trainer *t, const struct passages *ps, struct err *e)
{
    size_t bytes = 0, at = 0;

    for (size_t i = 0; i < ps->count; i++)
        bytes += ps->list[i].text_len;
    t->tokens = mem_big(bytes, sizeof *t->tokens);
    t->first = mem_big(ps->count + 1, sizeof *t->first);
    t->order = mem_big(ps->count, sizeof *t->order);
    if (!t->tokens || !t->first || !t->order)
        return err_set(e, ERR_BUSY, "no memory for the tokens of %zu bytes of text", bytes);
    for (size_t i = 0; i < ps->count; i++) {
        t->first[i] = at;
        at += tok_encode(&t->model->tok, ps->list[i].text, ps->list[i].text_len, t->tokens + at);
        t->order[i] = (uint32_t)i;
    }
    t->first[ps->count] = at;
    t->passages = t->at = (uint32_t)ps->count; /* the first step begins an epoch */
    return 0;
}

static int make_tokenizer(struct tok *tok, const struct passages *ps, uint32_t vocab, struct err *e)
{
    struct tok_text *texts = mem_big(ps->count, sizeof *texts);
    int rc;

    if (!texts)
        return err_set(e, ERR_BUSY, "no memory for %zu texts", ps->count);
    for (size_t i = 0; i < ps->count; i++)
        texts[i] = (struct tok_text){ps->list[i].text, ps->list[i].text_len};
    rc = tok_train(tok, texts, ps->count, vocab, e);
    free(texts);
    return rc;
}

static int make_adam(struct trainer *t, struct err *e)
{
    t->adam = adam_usual();
    t->adam.second = t->model->second;
    t->adam.first = mem_big(t->params, sizeof(float));
    if (!t->adam.first)
        return err_set(e, ERR_BUSY, "no memory for the optimiser");
    memset(t->adam.first, 0, t->params * sizeof(float));
    return 0;
}

static int make_adafactor(struct trainer *t, struct err *e)
{
    struct factors *f = &t->factors;

    f->count = shape_tensors(&t->model->shape, f->tensor);
    adafactor_places(f->tensor, f->count, f->place);
    for (size_t i = 0; i < f->count; i++)
        f->widest = f->tensor[i].cols > f->widest ? f->tensor[i].cols : f->widest;
    f->scratch = mem_big(2 * f->widest * t->members, sizeof *f->scratch);
    return f->scratch ? 0 : err_set(e, ERR_BUSY, "no memory for the optimiser");
}

static int make_slices(struct trainer *t, struct err *e)
{
    for (size_t s = 0; s < TRAIN_SLICES; s++) {
        pack_init(&t->slice[s].pack, t->model->shape.context);
        t->slice[s].grads = mem_big(t->params, sizeof(float));
        if (!t->slice[s].grads)
            return err_set(e, ERR_BUSY, "no memory for gradients");
    }
    return 0;
}

static int trainer_init(struct trainer *t, const struct passages *ps, struct err *e)
{
    const struct train_options *o = t->options;
    struct tok tok;
    int rc = make_tokenizer(&tok, ps, o->shape.vocab, e);

    if (rc)
        return rc;
    rc = model_init(t->model, &o->shape, &tok, o->optimizer, o->seed, e);
    if (rc)
        return rc;
    t->params = shape_params(&t->model->shape);
    rc = tokenize(t, ps, e);
    if (!rc)
        rc = make_slices(t, e);
    if (!rc)
        rc = crew_start(&t->crew, (unsigned)o->threads, e);
    if (!rc) {
        t->members = (unsigned)o->threads;
        t->state = mem_new(t->members, sizeof *t->state);
        rc = o->optimizer == MODEL_ADAM ? make_adam(t, e) : make_adafactor(t, e);
    }
    return rc;
}

static void trainer_fini(struct trainer *t)
{
    crew_stop(t->crew);
    for (unsigned i = 0; i < t->members; i++)
        net32_fini(&t->state[i]);
    for (size_t s = 0; s < TRAIN_SLICES; s++) {
        pack_fini(&t->slice[s].pack);
        free(t->slice[s].grads);
    }
    free(t->state);
    free(t->adam.first);
    free(t->factors.scratch);
    free(t->tokens);
    free(t->first);
    free(t->order);
}

static uint32_t next_passage(struct trainer *t)
{
    if (t->at == t->passages) {
        struct rng rng;
        rng_init(&rng, t->options->seed, RNG_SHUFFLE, t->epoch++);
        rng_shuffle(&rng, t->order, t->passages);
        t->at = 0;
    }
    return t->order[t->at++];
}

/* Deals the step's passages to the slices and makes room for the longest. */
static int plan(struct trainer *t, uint64_t *tokens, struct err *e)
{
    const uint64_t batch = t->options->batch;
    size_t rows = 1, sum = 0;
    int rc = 0;

    for (size_t s = 0; s < TRAIN_SLICES; s++)
        pack_clear(&t->slice[s].pack);
    for (uint64_t i = 0; i < batch; i++) {
        const uint32_t n = next_passage(t);
        pack_add(&t->slice[i * TRAIN_SLICES / batch].pack, t->tokens + t->first[n],
                 t->first[n + 1] - t->first[n], 0, true);
    }
    for (size_t s = 0; s < TRAIN_SLICES && !rc; s++) {
        rc = pack_check(&t->slice[s].pack, e);
        sum += t->slice[s].pack.rows;
        rows = t->slice[s].pack.rows > rows ? t->slice[s].pack.rows : rows;
    }
    for (unsigned i = 0; i < t->members && !rc; i++)
        rc = net32_fit(&t->state[i], &t->model->shape, rows, e);
    t->scale = 1.0 / (double)sum;
    *tokens += sum;
    return rc;
}

static void slices_work(void *ctx, unsigned member, unsigned members)
{
    struct trainer *t = ctx;
    struct net32_state *st = &t->state[member];

    for (size_t s = member; s < TRAIN_SLICES; s += members) {
        struct slice *x = &t->slice[s];
        x->loss = 0;
        memset(x->grads, 0, t->params * sizeof *x->grads);
        if (x->pack.rows == 0)
            continue;
        net32_forward(st, t->model->params, &x->pack);
        x->loss = net32_loss(st, t->model->params, &x->pack, t->scale);
        net32_backward(st, t->model->params, &x->pack, x->grads, NULL);
    }
}

static size_t range_start(const struct trainer *t, size_t r)
{
    return t->params * r / RANGES;
}

/* Sums the slices into the first, and that sum's squares. */
static void sum_work(void *ctx, unsigned member, unsigned members)
{
    struct trainer *t = ctx;

    for (size_t r = member; r < RANGES; r += members) {
        float *sum = t->slice[0].grads;
        double squares = 0;
        for (size_t i = range_start(t, r); i < range_start(t, r + 1); i++) {
            float g = sum[i];
            for (size_t s = 1; s < TRAIN_SLICES; s++)
                g += t->slice[s].grads[i];
            sum[i] = g;
            squares += (double)g * (double)g;
        }
        t->squares[r] = squares;
    }
}

static void adam_work(void *ctx, unsigned member, unsigned members)
{
    struct trainer *t = ctx;

    for (size_t r = member; r < RANGES; r += members)
        adam_update(&t->adam, t->rate, t->clip, t->slice[0].grads, t->model->params,
                    range_start(t, r), range_start(t, r + 1));
}

/* Whoever is free takes the next tensor; what becomes of it does not depend on who. */
static void adafactor_work(void *ctx, unsigned member, unsigned members)
{
    struct trainer *t = ctx;
    struct factors *f = &t->factors;
    size_t i;

    (void)members;
    while ((i = atomic_fetch_add(&f->next, 1)) < f->count) {
        const size_t at = f->tensor[i].offset;
        adafactor_update(&f->step, &f->tensor[i], t->slice[0].grads + at, t->model->params + at,
                         t->model->second + f->place[i], f->scratch + 2 * f->widest * member);
    }
}

static void update(struct trainer *t, uint64_t number)
{
    if (t->options->optimizer == MODEL_ADAM) {
        t->adam.step = number;
        crew_run(t->crew, adam_work, t);
        return;
    }
    t->factors.step = (struct adafactor_step){number, t->rate, t->clip};
    atomic_store(&t->factors.next, 0);
    crew_run(t->crew, adafactor_work, t);
}

/* Rises in a line, falls with half a cosine (Loshchilov, Hutter, 2017). */
static double rate_at(double highest, double share)
{
    double fall;

    if (share < warm_up)
        return highest * (share / warm_up);
    fall = (share - warm_up) / (1 - warm_up);
    return highest * (last_rate + (1 - last_rate) * 0.5 * (1 + cos(M_PI * fall)));
}

double train_scale(double norm)
{
    return norm > norm_limit ? norm_limit / norm : 1.0;
}

/* One step at `share` of the run; *loss is its mean a token, before the update. */
static int step(struct trainer *t, double share, struct train_progress *p, struct err *e)
{
    double norm = 0, loss = 0;
    int rc = plan(t, &p->tokens, e);

    if (rc)
        return rc;
    crew_run(t->crew, slices_work, t);
    crew_run(t->crew, sum_work, t);
    for (size_t s = 0; s < TRAIN_SLICES; s++)
        loss += t->slice[s].loss;
    for (size_t r = 0; r < RANGES; r++)
        norm += t->squares[r];
    norm = sqrt(norm);
    if (!isfinite(loss) || !isfinite(norm))
        return err_set(e, ERR_NOT_FINITE,
                       "step %llu: the loss is %g, the gradient's norm %g: a lower --rate may help",
                       (unsigned long long)p->step, loss, norm);
    t->rate = (float)rate_at(t->options->rate, share);
    t->clip = (float)train_scale(norm);
    update(t, p->step);
    p->loss = loss * t->scale;
    return 0;
}

/* Where in the run the next step is: by steps or by the clock, whichever is further. */
static double share_of(const struct train_options *o, uint64_t done, double start)
{
    double by_steps = o->steps ? (double)done / (double)o->steps : 0;
    double by_clock = o->minutes > 0 ? (meter_clock() - start) / (60 * o->minutes) : 0;

    return by_steps > by_clock ? by_steps : by_clock;
}

static int check_options(const struct train_options *o, struct err *e)
{
    if (o->steps == 0 && !(o->minutes > 0))
        return err_set(e, ERR_INVALID, "steps or minutes must be limited");
    if (o->batch < 1 || o->batch > 1 << 16)
        return err_set(e, ERR_INVALID, "batch of %llu: must be 1 to 65536",
                       (unsigned long long)o->batch);
    for (size_t i = 0; i < o->keeps; i++) {
        if (o->keep[i] > (i ? o->keep[i - 1] : 0) && (!o->steps || o->keep[i] <= o->steps))
            continue;
        err_set(e, ERR_INVALID, "a checkpoint after step %llu: the steps must rise%s",
                (unsigned long long)o->keep[i], o->steps ? " and be within the run's" : "");
        return err_at_field(e, "checkpoint-steps");
    }
    return shape_check(&o->shape, e);
}

/* Shows the model of this moment to whoever keeps it. Adam's second moment is corrected in a copy:
 * training goes on with the other. */
static int show(const struct trainer *t, void *ctx, uint64_t steps, struct err *e)
{
    struct model now = *t->model;
    struct adam adam = t->adam;
    int rc;

    now.steps = steps;
    if (now.optimizer == MODEL_ADAM) {
        now.second = adam.second = mem_big(t->params, sizeof *now.second);
        if (!now.second)
            return err_set(e, ERR_BUSY, "no memory for a checkpoint");
        memcpy(now.second, t->model->second, t->params * sizeof *now.second);
        adam_correct_second(&adam, t->params);
    }
    rc = t->options->kept(ctx, &now, e);
    free(adam.second);
    return rc;
}

int train_run(struct model *out, const struct passages *ps, const struct train_options *o,
              void (*tell)(void *ctx, const struct train_progress *p), void *ctx, struct err *e)
{
    struct trainer t = {.options = o, .model = out};
    struct train_progress p = {0};
    double start = meter_clock(), share = 0;
    size_t shown = 0;
    int rc = check_options(o, e);

    *out = (struct model){0};
    if (rc)
        return rc;
    rc = trainer_init(&t, ps, e);
    while (!rc && share < 1) {
        p.step++;
        /* the first step of a warm-up that starts at zero would do nothing */
        rc = step(&t, share + 1e-3, &p, e);
        out->loss = out->loss > 0 ? 0.98 * out->loss + 0.02 * p.loss : p.loss;
        share = share_of(o, p.step, start);
        p.share = share < 1 ? share : 1;
        if (tell && !rc)
            tell(ctx, &p);
        if (!rc && shown < o->keeps && o->keep[shown] == p.step) {
            rc = show(&t, ctx, p.step, e);
            shown++;
        }
    }
    if (!rc) {
        out->steps = p.step;
        if (o->optimizer == MODEL_ADAM)
            adam_correct_second(&t.adam, t.params);
    }
    trainer_fini(&t);
    if (rc)
        model_free(out);
    return rc;
}
