/* encoder.c - see encoder.h.
 *
 *            spawn            hello answered            an answer
 *   (down)  ------>  starting  ------------->  ready  <----------+
 *      ^                |                        |  |            |
 *      |  died, hung,   |                        |  +-- asks ----+
 *      +-- no sense ----+------------------------+
 *
 * Down after a start that failed, or for more than a second: whoever asks is refused at once, with
 * the reason. Down for less: they wait. The lock guards the queue and what people are told; the
 * rest is the loop's. */
#include "server/encoder.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api.h"
#include "server/config.h"
#include "server/encoder_about.h"
#include "server/encoder_command.h"
#include "server/encoder_process.h"
#include "server/folders.h"
#include "server/json.h"
#include "server/limits.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/pool.h"
#include "server/runtime.h"
#include "server/server.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

enum { WORDS_PER_TURN = 20 };
static const uint64_t PAUSE_FIRST_NS = UINT64_C(100000000), PAUSE_MOST_NS = UINT64_C(30000000000);
/* Who asks waits for a pause up to this. */
static const uint64_t PATIENCE_NS = UINT64_C(1000000000);
static const uint64_t QUIT_NS = UINT64_C(500000000);

enum state { STATE_STARTING, STATE_READY, STATE_FAILED };

struct encoder {
    struct runtime *rt;
    struct arena arena; /* of the words */
    char **words;
    uint64_t timeout_ns;

    pthread_mutex_t lock; /* guards the next group */
    struct encoder_call *first, *last;
    size_t waiting; /* in the queue or on the way into it */
    enum state state;
    struct encoder_about about;
    uint64_t restarts;
    char error[ERR_TEXT_MAX]; /* of the last failure; empty once ready */

    struct encoder_process *process; /* NULL: down */
    struct encoder_frames frames;
    bool greeted, asked;  /* hello was answered; an answer is owed */
    uint64_t id;          /* of the last question; never used twice */
    uint64_t asked_ns;
    struct encoder_call *current; /* NULL: hello, or nobody waits any more */
    struct err fault;     /* why the process must go */
    unsigned failures;    /* in a row, without an answer between */
    uint64_t started_before, restart_at;
    bool quitting;
    uint64_t quit_ns;
    unsigned words_said;  /* lines logged in this turn */
    uint64_t words_lost;
    char last_words[128]; /* of standard error */
};

struct encoder *encoder_new(struct runtime *rt)
{
    struct encoder *en;
    struct err e = ERR_INIT;
    size_t count;
    int code;

    if (!rt->config->encoder)
        return NULL;
    en = mem_new(1, sizeof *en);
    en->rt = rt;
    en->fault = ERR_INIT;
    en->timeout_ns = rt->config->encoder_timeout_ms * 1000000;
    code = encoder_command_split(rt->config->encoder, &en->arena, &en->words, &count, &e);
    require(!code); /* checked with the settings */
    pthread_mutex_init(&en->lock, NULL);
    return en;
}

void encoder_free(struct encoder *en)
{
    if (!en)
        return;
    require(!en->process && !en->first);
    encoder_frames_free(&en->frames);
    pthread_mutex_destroy(&en->lock);
    arena_free(&en->arena);
    free(en);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static int lacks_verb(const struct encoder_about *a, const char *verb, struct err *e)
{
    return err_set(e, ERR_ENCODER, "the encoder %.64s has no verb %s", a->name, verb);
}

static void enter_queue(void *call)
{
    struct encoder_call *c = call;
    struct encoder *en = c->job->rt->encoder;

    pthread_mutex_lock(&en->lock);
    if (en->first)
        en->last->next = c;
    else
        en->first = c;
    en->last = c;
    /* inside the lock: once the loop has taken the call it may end, and the server with it */
    server_wake(en->rt->server);
    pthread_mutex_unlock(&en->lock);
}

int encoder_ask(struct encoder *en, struct encoder_call *c, struct err *e)
{
    int code = 0;

    if (!en)
        return err_set(e, ERR_NO_ENCODER, "the server was started without --encoder");
    if (c->members.failed)
        return err_set(e, ERR_BUSY, "no memory for the question");
    pthread_mutex_lock(&en->lock);
    if (en->state == STATE_FAILED) {
        code = err_set(e, ERR_ENCODER, "%s; it is being started again", en->error);
    } else if (en->state == STATE_READY && !encoder_has_verb(&en->about, c->verb)) {
        code = lacks_verb(&en->about, c->verb, e);
    } else if (en->waiting == LIMIT_ENCODER_QUEUE) {
        code = err_set(e, ERR_BUSY, "%u requests wait for the encoder already",
                       LIMIT_ENCODER_QUEUE);
        err_at_limit(e, LIMIT_ENCODER_QUEUE);
    } else {
        en->waiting++;
    }
    pthread_mutex_unlock(&en->lock);
    if (code)
        return code;
    c->err = ERR_INIT;
    c->next = NULL;
    c->job->park_arg = c;
    c->job->park = enter_queue;
    return 0;
}

void encoder_call_free(struct encoder_call *c)
{
    buf_free(&c->members);
    encoder_answer_free(&c->answer);
}

/* ---- answering ------------------------------------------------------------------------------- */

/* The call is not ours afterwards. */
static void give_back(struct encoder *en, struct encoder_call *c)
{
    metrics_add(en->rt->metrics, METRIC_ENCODER_REQUESTS, 1);
    if (c->err.code)
        metrics_add(en->rt->metrics, METRIC_ENCODER_FAILURES, 1);
    pool_resume(en->rt->pool, c->job);
}

/* The first of the queue, or the first whose client has gone. NULL: none. */
static struct encoder_call *take(struct encoder *en, bool gone_only)
{
    struct encoder_call *c, *before = NULL;

    pthread_mutex_lock(&en->lock);
    c = en->first;
    while (c && gone_only && !api_ended(c->job)) {
        before = c;
        c = c->next;
    }
    if (c) {
        if (before)
            before->next = c->next;
        else
            en->first = c->next;
        if (en->last == c)
            en->last = before;
        en->waiting--;
    }
    metrics_set(en->rt->metrics, METRIC_ENCODER_QUEUE, en->waiting);
    pthread_mutex_unlock(&en->lock);
    return c;
}

/* Nobody waits for these any more: what they asked need not be asked, what was asked stays owed. */
static void let_go(struct encoder *en)
{
    struct encoder_call *c;

    while ((c = take(en, true)))
        pool_resume(en->rt->pool, c->job);
    if (en->current && api_ended(en->current->job)) {
        c = en->current;
        en->current = NULL;
        pool_resume(en->rt->pool, c->job);
    }
}

static void refuse_all(struct encoder *en, const struct err *why)
{
    struct encoder_call *c;

    while ((c = take(en, false))) {
        c->err = *why;
        give_back(en, c);
    }
}

/* ---- failing --------------------------------------------------------------------------------- */

static uint64_t pause_of(unsigned failures)
{
    uint64_t pause = PAUSE_FIRST_NS;

    while (--failures && pause < PAUSE_MOST_NS)
        pause *= 2;
    return pause < PAUSE_MOST_NS ? pause : PAUSE_MOST_NS;
}

static void set_state(struct encoder *en, enum state state, const char *error)
{
    pthread_mutex_lock(&en->lock);
    en->state = state;
    snprintf(en->error, sizeof en->error, "%s", error); /* fail has logged it whole */
    folders_hide(en->error, en->rt->config->store);
    pthread_mutex_unlock(&en->lock);
    metrics_set(en->rt->metrics, METRIC_ENCODER_READY, state == STATE_READY);
}

/* Down: what was asked has failed, what waits has too unless it will not be long. */
static void fail(struct encoder *en, struct err *why)
{
    struct encoder_call *c = en->current;
    uint64_t pause = pause_of(++en->failures);
    bool long_down = !en->greeted || pause > PATIENCE_NS;

    if (en->last_words[0] && why->code == ERR_ENCODER) {
        size_t len = strlen(why->text);
        snprintf(why->text + len, sizeof why->text - len, "; its last words: %s", en->last_words);
    }
    log_note(LOG_WARN, "encoder failed", "%s; next start in %llu ms", why->text,
             (unsigned long long)(pause / 1000000));
    if (en->process)
        encoder_process_kill(en->process);
    en->process = NULL;
    encoder_frames_free(&en->frames);
    en->fault = ERR_INIT;
    en->current = NULL;
    en->asked = en->greeted = false;
    en->restart_at = server_now() + pause;
    set_state(en, long_down ? STATE_FAILED : STATE_STARTING, why->text);
    if (c) {
        c->err = *why;
        give_back(en, c);
    }
    if (long_down)
        refuse_all(en, why);
}

/* From inside the process's own events, where it cannot be killed: the next turn does. */
static bool condemn(struct encoder *en, const struct err *why)
{
    en->fault = *why;
    err_wrap(&en->fault, "the encoder makes no sense: ");
    server_wake(en->rt->server);
    return false;
}

/* ---- the process's events -------------------------------------------------------------------- */

static int greet(struct encoder *en, const struct encoder_answer *answer, struct err *e)
{
    struct encoder_about about = {0};
    int code = 0;

    if (!answer->ok)
        code = err_set(e, ERR_ENCODER, "it refused hello: %.150s", answer->error);
    if (!code)
        code = encoder_about_read(answer->head, &about, e);
    if (code)
        return code;
    pthread_mutex_lock(&en->lock);
    en->about = about;
    pthread_mutex_unlock(&en->lock);
    set_state(en, STATE_READY, "");
    en->greeted = true;
    log_note(LOG_INFO, "encoder ready", "%s, %zu dimensions, model %s", about.name, about.dim,
             about.model);
    return 0;
}

static void deliver(struct encoder *en, struct encoder_answer *answer)
{
    struct encoder_call *c = en->current;

    en->current = NULL;
    en->failures = 0;
    if (!c) {
        encoder_answer_free(answer);
        return;
    }
    if (!answer->ok)
        err_set(&c->err, ERR_ENCODER, "the encoder refused: %.200s", answer->error);
    c->answer = *answer;
    give_back(en, c);
}

static int answered(struct encoder *en, struct err *e)
{
    struct encoder_answer answer;
    int code = 0;

    encoder_frames_take(&en->frames, &answer);
    if (answer.id != en->id) {
        code = err_set(e, ERR_ENCODER, "it answered request %llu, but %llu was asked",
                       (unsigned long long)answer.id, (unsigned long long)en->id);
        encoder_answer_free(&answer);
        return code;
    }
    en->asked = false;
    metrics_add(en->rt->metrics, METRIC_ENCODER_NS, server_now() - en->asked_ns);
    if (en->greeted) {
        deliver(en, &answer);
        server_wake(en->rt->server); /* the next one may be asked */
        return 0;
    }
    code = greet(en, &answer, e);
    encoder_answer_free(&answer);
    if (!code)
        server_wake(en->rt->server);
    return code;
}

static bool said(void *arg, const void *bytes, size_t len)
{
    struct encoder *en = arg;
    const unsigned char *p = bytes;
    struct err e = ERR_INIT;

    while (len) {
        size_t used;
        bool whole;

        if (!en->asked) {
            size_t shown = bytes_utf8_error(p, len < 60 ? len : 60);
            err_set(&e, ERR_ENCODER, "it spoke unasked: \"%.*s\"", (int)shown, (const char *)p);
            return condemn(en, &e);
        }
        if (encoder_frames_feed(&en->frames, p, len, &used, &whole, &e) ||
            (whole && answered(en, &e)))
            return condemn(en, &e);
        p += used;
        len -= used;
    }
    return true;
}

static void complained(void *arg, const char *line, size_t len)
{
    struct encoder *en = arg;
    size_t kept = len < sizeof en->last_words - 1 ? len : sizeof en->last_words - 1;

    kept = bytes_utf8_error(line, kept);
    memcpy(en->last_words, line, kept);
    en->last_words[kept] = '\0';
    if (++en->words_said > WORDS_PER_TURN)
        en->words_lost++;
    else
        log_note(LOG_INFO, "encoder says", "%.*s", (int)len, line);
}

static const struct encoder_events events = {.said = said, .complained = complained};

/* ---- turns ----------------------------------------------------------------------------------- */

static void ask(struct encoder *en, const char *verb, const struct buf *members)
{
    struct buf line = {0};

    buf_format(&line, "{\"id\":%llu,\"verb\":\"%s\"", (unsigned long long)++en->id, verb);
    if (members)
        buf_add(&line, members->data, members->len);
    buf_add_text(&line, "}\n");
    en->asked = true;
    en->asked_ns = server_now();
    if (line.failed) {
        buf_free(&line);
        err_set(&en->fault, ERR_BUSY, "no memory for a question");
        return;
    }
    encoder_process_write(en->process, &line);
}

static void start(struct encoder *en)
{
    struct err e = ERR_INIT;

    en->last_words[0] = '\0';
    if (en->started_before++) {
        metrics_add(en->rt->metrics, METRIC_ENCODER_RESTARTS, 1);
        pthread_mutex_lock(&en->lock);
        en->restarts++;
        pthread_mutex_unlock(&en->lock);
    }
    if (encoder_process_start(en->rt->server, en->words, &events, en, &en->process, &e))
        fail(en, &e);
    else
        ask(en, "hello", NULL);
}

/* Is there a reason to end it? */
static void watch(struct encoder *en, uint64_t now)
{
    char why[128];
    struct err e = ERR_INIT;

    if (!encoder_process_lives(en->process, now, why, sizeof why)) {
        err_set(&e, ERR_ENCODER, "the encoder %s%s", why,
                encoder_frames_begun(&en->frames) ? " in the middle of an answer" : "");
        fail(en, &e);
    } else if (en->fault.code) {
        e = en->fault;
        fail(en, &e);
    } else if (en->asked && now > en->asked_ns + en->timeout_ns) {
        err_set(&e, ERR_ENCODER_TIMEOUT, "the encoder did not %s within %llu ms",
                en->greeted ? "answer" : "say hello",
                (unsigned long long)(en->timeout_ns / 1000000));
        err_at_limit(&e, (int64_t)(en->timeout_ns / 1000000));
        fail(en, &e);
    }
}

static void ask_next(struct encoder *en)
{
    struct encoder_call *c;

    while (en->process && en->greeted && !en->asked && !en->fault.code && (c = take(en, false))) {
        if (!encoder_has_verb(&en->about, c->verb)) {
            lacks_verb(&en->about, c->verb, &c->err);
            give_back(en, c);
            continue;
        }
        en->current = c;
        ask(en, c->verb, &c->members);
    }
}

void encoder_turn(struct encoder *en)
{
    uint64_t now = server_now();

    if (!en || en->quitting)
        return;
    if (en->words_lost)
        log_note(LOG_WARN, "encoder says", "and %llu lines more",
                 (unsigned long long)en->words_lost);
    en->words_said = 0;
    en->words_lost = 0;
    let_go(en);
    if (en->process)
        watch(en, now);
    if (!en->process && now >= en->restart_at)
        start(en);
    ask_next(en);
}

bool encoder_stop(struct encoder *en)
{
    char why[128];
    uint64_t now = server_now();

    if (!en || !en->process) {
        if (en)
            en->quitting = true;
        return true;
    }
    if (!en->quitting) {
        en->quitting = true;
        en->quit_ns = now;
        encoder_process_quit(en->process);
    }
    if (encoder_process_lives(en->process, now, why, sizeof why) && now < en->quit_ns + QUIT_NS)
        return false;
    encoder_process_kill(en->process);
    en->process = NULL;
    return true;
}

/* ---- telling --------------------------------------------------------------------------------- */

static void put_member(struct buf *out, const char *name, const char *text)
{
    buf_format(out, ",\"%s\":", name);
    if (text[0])
        json_put_text(out, text, strlen(text));
    else
        buf_add_text(out, "null");
}

void encoder_describe(struct encoder *en, struct buf *out)
{
    static const char *const names[] = {"starting", "ready", "failed"};
    static const struct encoder_about nobody;
    const struct encoder_about *a = en ? &en->about : &nobody;

    if (en)
        pthread_mutex_lock(&en->lock);
    buf_format(out, "{\"state\":\"%s\"", en ? names[en->state] : "none");
    put_member(out, "name", a->name);
    put_member(out, "model", a->model);
    if (a->dim)
        buf_format(out, ",\"dim\":%zu", a->dim);
    else
        buf_add_text(out, ",\"dim\":null");
    put_member(out, "fingerprint", a->fingerprint);
    buf_add_text(out, ",\"verbs\":[");
    for (size_t i = 0; i < a->verb_count; i++) {
        buf_add_text(out, i ? "," : "");
        json_put_text(out, a->verbs[i], strlen(a->verbs[i]));
    }
    buf_format(out, "],\"waiting\":%zu,\"restarts\":%llu", en ? en->waiting : 0,
               en ? (unsigned long long)en->restarts : 0);
    put_member(out, "error", en ? en->error : "");
    buf_add_text(out, "}\n");
    if (en)
        pthread_mutex_unlock(&en->lock);
}

size_t encoder_dim(struct encoder *en)
{
    size_t dim;

    if (!en)
        return 0;
    pthread_mutex_lock(&en->lock);
    dim = en->about.dim;
    pthread_mutex_unlock(&en->lock);
    return dim;
}
