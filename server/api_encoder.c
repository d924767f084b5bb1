/* api_encoder.c - /v1/encoder: its state; continue a prompt; a prompt and its target as a gradient.
 *
 * Work comes in two parts, before the encoder is asked and after it has answered; between them the
 * job is parked. What the encoder answers is checked like anything else from outside. */
#include "server/api.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "index/kern.h"
#include "server/encoder.h"
#include "server/json.h"
#include "server/limits.h"
#include "server/metrics.h"
#include "server/runtime.h"
#include "server/safetensors.h"
#include "server/scan.h"

enum { TOKENS_DEFAULT = 8 };

struct asking {
    struct encoder_call call;
    json_t *body;
    const char *prompt, *target;
    uint64_t tokens;
    uint64_t began_ns;
};

int encoder_get_reply(struct job *j)
{
    encoder_describe(j->rt->encoder, &j->reply_body);
    return 0;
}

/* ---- asking ---------------------------------------------------------------------------------- */

static int need(const char *name, const char *text, struct err *e)
{
    if (text)
        return 0;
    err_set(e, ERR_INVALID, "member %s: missing", name);
    return err_at_field(e, name);
}

static int read_prompt(struct job *j, struct asking *a, const char *const members[])
{
    int code = json_read_object(j->body, j->body_len, JSON_CONTROL, &a->body, &j->err);

    if (!code)
        code = json_only(a->body, members, &j->err);
    if (!code)
        code = json_get_text(a->body, "prompt", LIMIT_PROMPT_BYTES, &a->prompt, &j->err);
    return code ? code : need("prompt", a->prompt, &j->err);
}

static struct asking *begin(struct job *j, const char *verb)
{
    struct asking *a = arena_new(&j->arena, 1, sizeof *a);

    a->call.job = j;
    a->call.verb = verb;
    a->began_ns = scan_now();
    j->state = a;
    return a;
}

static void put_text(struct asking *a, const char *name, const char *text)
{
    buf_format(&a->call.members, ",\"%s\":", name);
    json_put_text(&a->call.members, text, strlen(text));
}

/* What became of it. */
static int answered(struct job *j, const struct asking *a)
{
    if (!job_stopped(j) && a->call.err.code)
        j->err = a->call.err;
    return (int)j->err.code;
}

void encoder_finish(struct job *j)
{
    struct asking *a = j->state;

    if (!a)
        return;
    json_decref(a->body);
    encoder_call_free(&a->call);
}

static double took_ms(const struct asking *a)
{
    return (double)(scan_now() - a->began_ns) * 1e-6;
}

int api_encoder_fault(struct job *j, int code)
{
    if (!code)
        return 0;
    j->err.code = ERR_ENCODER; /* whatever it is, it is not the client's doing */
    j->err.field[0] = '\0';
    j->err.index = j->err.limit = -1;
    err_wrap(&j->err, "the encoder's answer: ");
    metrics_add(j->rt->metrics, METRIC_ENCODER_FAILURES, 1);
    return (int)j->err.code;
}

/* ---- POST /v1/encoder/continue --------------------------------------------------------------- */

static int ask_to_continue(struct job *j)
{
    static const char *const members[] = {"prompt", "tokens", NULL};
    struct asking *a = begin(j, "continue");
    int code = read_prompt(j, a, members);

    a->tokens = TOKENS_DEFAULT;
    if (!code)
        code = json_get_number(a->body, "tokens", 1, LIMIT_CONTINUE_TOKENS, &a->tokens, &j->err);
    if (code)
        return code;
    put_text(a, "prompt", a->prompt);
    buf_format(&a->call.members, ",\"tokens\":%llu", (unsigned long long)a->tokens);
    return encoder_ask(j->rt->encoder, &a->call, &j->err);
}

static int put_continuation(struct job *j, const struct asking *a)
{
    const json_t *output = json_object_get(a->call.answer.head, "output");
    struct buf *b = &j->reply_body;

    if (!json_is_string(output))
        return api_encoder_fault(j, err_set(&j->err, ERR_ENCODER, "no member output, a text"));
    buf_add_text(b, "{\"prompt\":");
    json_put_text(b, a->prompt, strlen(a->prompt));
    buf_add_text(b, ",\"output\":");
    json_put_text(b, json_string_value(output), json_string_length(output));
    buf_format(b, ",\"took_ms\":%.3f}\n", took_ms(a));
    return 0;
}

int encoder_continue_work(struct job *j)
{
    struct asking *a = j->state;
    int code;

    if (!a)
        return ask_to_continue(j);
    code = answered(j, a);
    if (!code)
        code = put_continuation(j, a);
    return code ? code : api_body_done(j);
}

/* ---- POST /v1/encoder/encode ----------------------------------------------------------------- */

static int ask_to_encode(struct job *j)
{
    static const char *const members[] = {"prompt", "target", NULL};
    struct asking *a = begin(j, "encode");
    int code = read_prompt(j, a, members);

    if (!code)
        code = json_get_text(a->body, "target", LIMIT_PROMPT_BYTES, &a->target, &j->err);
    if (!code)
        code = need("target", a->target, &j->err);
    if (!code && !a->target[0]) {
        err_set(&j->err, ERR_INVALID, "member target: empty, so it has no gradient");
        code = err_at_field(&j->err, "target");
    }
    if (code)
        return code;
    put_text(a, "prompt", a->prompt);
    put_text(a, "target", a->target);
    return encoder_ask(j->rt->encoder, &a->call, &j->err);
}

/* Finite and not zero: so nobody is sent to look for the fault in a query. */
static int check_gradient(const unsigned char *data, size_t dim, struct err *e)
{
    const float *g = (const float *)(const void *)data; /* the kernels need no alignment */
    size_t bad = kern->first_bad_f32(g, dim);

    if (bad < dim)
        return err_set(e, ERR_ENCODER, "gradient: element %zu is NaN or infinite", bad);
    if (kern->dot_f32(g, g, dim) == 0.0)
        return err_set(e, ERR_ENCODER, "gradient: all zeros, without direction");
    return 0;
}

static int read_gradient(struct job *j, const struct asking *a, const unsigned char **out,
                         size_t *out_dim)
{
    static const char *const names[] = {"gradient", NULL};
    const struct buf *body = &a->call.answer.body;
    const struct safetensor *t = NULL;
    size_t dim = encoder_dim(j->rt->encoder);
    struct safetensors st;
    int code = safetensors_read(body->data, body->len, &j->arena, &st, &j->err);

    if (!code)
        code = safetensors_only(&st, names, &j->err);
    if (!code)
        code = safetensors_find(&st, "gradient", &t, &j->err);
    if (!code && (strcmp(t->dtype, "F32") != 0 || t->rank != 1))
        code = err_set(&j->err, ERR_ENCODER, "gradient: %s of rank %zu, not a vector of F32",
                       t->dtype, t->rank);
    if (!code && t->shape[0] != dim)
        code = err_set(&j->err, ERR_ENCODER, "gradient: %llu elements, but its hello said %zu",
                       (unsigned long long)t->shape[0], dim);
    if (!code)
        code = check_gradient(t->data, dim, &j->err);
    if (!code) {
        *out = t->data;
        *out_dim = dim;
    }
    return code;
}

static int put_gradient(struct job *j, const struct asking *a)
{
    const json_t *loss = json_object_get(a->call.answer.head, "loss");
    const unsigned char *data = NULL;
    size_t dim = 0;
    char loss_text[40], took_text[40];
    struct safetensors_note notes[] = {{"loss", loss_text, 0},
                                       {"prompt", a->prompt, strlen(a->prompt)},
                                       {"target", a->target, strlen(a->target)},
                                       {"took_ms", took_text, 0}};
    struct safetensors_spec spec = {.name = "queries", .dtype = "F32", .rank = 2};

    if (api_encoder_fault(j, read_gradient(j, a, &data, &dim)))
        return (int)j->err.code;
    notes[0].value_len = (size_t)snprintf(loss_text, sizeof loss_text, "%.9g",
                                          json_is_number(loss) ? json_number_value(loss) : NAN);
    notes[3].value_len = (size_t)snprintf(took_text, sizeof took_text, "%.3f", took_ms(a));
    spec.shape[0] = 1;
    spec.shape[1] = dim;
    spec.bytes = dim * sizeof(float);
    safetensors_header(&j->reply_body, &spec, 1, notes, sizeof notes / sizeof *notes);
    buf_add(&j->reply_body, data, spec.bytes);
    return 0;
}

int encoder_encode_work(struct job *j)
{
    struct asking *a = j->state;
    int code;

    if (!a)
        return ask_to_encode(j);
    code = answered(j, a);
    if (!code)
        code = put_gradient(j, a);
    return code ? code : api_body_done(j);
}

int encoder_encode_reply(struct job *j)
{
    j->reply_type = "application/vnd.safetensors";
    return 0;
}
