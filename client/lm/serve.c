/* serve.c - see serve.h. */
#include "client/lm/serve.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "client/lm/explain.h"
#include "client/lm/generate.h"
#include "client/lm/tensorfile.h"
#include "storage/base/mem.h"

struct answer {
    json_t *head;    /* of the verb's own members, owned; NULL: none */
    struct buf body; /* owned */
};

struct serving {
    const struct encoder_plan *plan;
    struct encoder encoder;
    FILE *out;
};

/* ---- what came in ---------------------------------------------------------------------------- */

/* A line without its newline into `line`. False at the end of the input. */
static bool read_line(FILE *in, struct buf *line, struct err *e)
{
    char part[65536];

    line->len = 0;
    while (fgets(part, sizeof part, in)) {
        size_t n = strlen(part); /* a NUL byte cuts its line, which then is no JSON */

        buf_add(line, part, n);
        if (line->failed || line->len > SERVE_LINE_MAX) {
            err_set(e, ERR_TOO_LARGE, "a request of more than %d bytes", SERVE_LINE_MAX);
            return false;
        }
        if (n && part[n - 1] == '\n')
            break;
    }
    return line->len > 0;
}

static int text_of(const json_t *request, const char *name, const char **out, size_t *out_len,
                   struct err *e)
{
    const json_t *value = json_object_get(request, name);

    if (!json_is_string(value))
        return err_set(e, ERR_INVALID, "%s: missing, or no text", name);
    *out = json_string_value(value);
    *out_len = json_string_length(value);
    return 0;
}

/* The value of a letter of base64 (RFC 4648, section 4), or 64. */
static unsigned letter(char c)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(letters, c) : NULL;

    return at ? (unsigned)(at - letters) : 64;
}

/* Exactly `size` bytes; false when the text is anything else. */
static bool decode(const char *text, size_t len, unsigned char *out, size_t size)
{
    const size_t letters = (size * 8 + 5) / 6;
    uint32_t bits = 0, held = 0;
    size_t done = 0;

    if (len != (size + 2) / 3 * 4)
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned value = letter(text[i]);

        if (i >= letters) {
            if (text[i] != '=')
                return false;
            continue;
        }
        if (value == 64)
            return false;
        bits = bits << 6 | value;
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[done++] = (unsigned char)(bits >> held);
        }
    }
    return done == size;
}

static int read_vector(const struct serving *s, const json_t *request, float **out, struct err *e)
{
    const size_t dim = s->plan->dim;
    unsigned char *bytes = mem_big(dim, sizeof(float));
    float *vector = mem_big(dim, sizeof *vector);
    const char *text = NULL;
    size_t len = 0;
    int rc = bytes && vector ? text_of(request, "vector", &text, &len, e)
                             : err_set(e, ERR_BUSY, "no memory for a vector of %zu elements", dim);

    if (!rc && !decode(text, len, bytes, dim * sizeof *vector))
        rc = err_set(e, ERR_INVALID, "vector: not the base64 of %zu float32", dim);
    for (size_t i = 0; i < dim && !rc; i++) {
        uint32_t word = bytes_get_le32(bytes + 4 * i);
        memcpy(&vector[i], &word, sizeof word);
    }
    free(bytes);
    if (rc)
        free(vector);
    else
        *out = vector;
    return rc;
}

/* ---- the verbs ------------------------------------------------------------------------------- */

static int hello(struct serving *s, const json_t *request, struct answer *a, struct err *e)
{
    char model[64];

    (void)request;
    (void)e;
    snprintf(model, sizeof model, "ascribe-lm/%d:%s", ENCODER_VERSION,
             s->plan->model->fingerprint);
    a->head = json_pack("{s:s, s:s, s:i, s:n, s:[s,s,s]}", "name", "ascribe-lm " ASCRIBE_VERSION,
                        "model", model, "dim", (int)s->plan->dim, "fingerprint", "verbs", "encode",
                        "continue", "explain");
    return 0;
}

static int encode(struct serving *s, const json_t *request, struct answer *a, struct err *e)
{
    const size_t dim = s->plan->dim, bytes = dim * sizeof(float);
    const struct tensorfile_tensor t = {
        .name = "gradient", .dtype = "F32", .shape = {dim}, .dims = 1, .bytes = bytes};
    struct encoder_text text = {0};
    double loss = 0;
    float *row = mem_big(dim, sizeof *row);
    int rc = row ? 0 : err_set(e, ERR_BUSY, "no memory for a gradient");

    if (!rc)
        rc = text_of(request, "prompt", &text.given, &text.given_len, e);
    if (!rc)
        rc = text_of(request, "target", &text.text, &text.text_len, e);
    if (!rc)
        rc = encoder_run(&s->encoder, &text, 1, row, &loss, e);
    if (!rc) {
        tensorfile_header(&a->body, NULL, 0, &t, 1);
        buf_add(&a->body, row, bytes);
        a->head = json_pack("{s:f, s:i}", "loss", loss, "tokens",
                            (int)pack_weight(&s->encoder.pack));
    }
    free(row);
    return rc;
}

static int go_on(struct serving *s, const json_t *request, struct answer *a, struct err *e)
{
    const json_t *tokens = json_object_get(request, "tokens");
    struct generate_options o = {.clause = true};
    struct buf text = {0};
    const char *prompt = NULL;
    size_t len = 0;
    int rc = text_of(request, "prompt", &prompt, &len, e);

    if (!rc && (json_integer_value(tokens) < 1 || json_integer_value(tokens) > 65536))
        rc = err_set(e, ERR_INVALID, "tokens: must be a whole number from 1 to 65536");
    if (!rc) {
        o.tokens = (uint32_t)json_integer_value(tokens);
        rc = generate_text(s->plan->model, prompt, len, &o, &text, e);
    }
    if (!rc)
        a->head = json_pack("{s:s%}", "output", text.len ? (const char *)text.data : "", text.len);
    buf_free(&text);
    return rc;
}

static void put_tokens(const struct explain_token *tokens, size_t count, struct buf *out)
{
    const struct tensorfile_tensor t[] = {
        {.name = "spans", .dtype = "I64", .shape = {count, 2}, .dims = 2, .bytes = count * 16},
        {.name = "shares", .dtype = "F32", .shape = {count}, .dims = 1, .bytes = count * 4}};
    unsigned char word[16];

    tensorfile_header(out, NULL, 0, t, 2);
    for (size_t i = 0; i < count; i++) {
        bytes_put_le64(word, tokens[i].from);
        bytes_put_le64(word + 8, tokens[i].to);
        buf_add(out, word, sizeof word);
    }
    for (size_t i = 0; i < count; i++) {
        const float share = (float)tokens[i].share;
        uint32_t bits;

        memcpy(&bits, &share, sizeof bits);
        bytes_put_le32(word, bits);
        buf_add(out, word, sizeof bits);
    }
}

static int explain(struct serving *s, const json_t *request, struct answer *a, struct err *e)
{
    struct explain_token *tokens = NULL;
    float *vector = NULL;
    const char *text = NULL;
    size_t len = 0, count = 0;
    int rc = text_of(request, "text", &text, &len, e);

    if (!rc)
        rc = read_vector(s, request, &vector, e);
    if (!rc)
        rc = explain_text(&s->encoder, text, len, vector, &tokens, &count, e);
    if (!rc)
        put_tokens(tokens, count, &a->body);
    free(vector);
    free(tokens);
    return rc;
}

static const struct {
    const char *name;
    int (*run)(struct serving *s, const json_t *request, struct answer *a, struct err *e);
} verbs[] = {{"hello", hello}, {"encode", encode}, {"continue", go_on}, {"explain", explain}};

static int run_verb(struct serving *s, const json_t *request, struct answer *a, struct err *e)
{
    const char *verb = json_string_value(json_object_get(request, "verb"));

    for (size_t i = 0; verb && i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(verbs[i].name, verb) == 0)
            return verbs[i].run(s, request, a, e);
    return err_set(e, ERR_INVALID, "no verb \"%.40s\"", verb ? verb : "");
}

/* ---- what goes out --------------------------------------------------------------------------- */

static int write_answer(struct serving *s, const json_t *request, struct answer *a,
                        const struct err *why, struct err *e)
{
    json_t *id = json_object_get(request, "id");
    json_t *head = a->head ? json_incref(a->head) : json_object();
    char *line;
    bool written;

    if (json_is_integer(id))
        json_object_set(head, "id", id);
    json_object_set_new(head, "ok", json_boolean(!why->code));
    json_object_set_new(head, "bytes", json_integer((json_int_t)a->body.len));
    if (why->code)
        json_object_set_new(head, "error",
                            json_stringn(why->text, bytes_utf8_error(why->text, /* a cut one */
                                                                     strlen(why->text))));
    line = json_dumps(head, JSON_COMPACT);
    json_decref(head);
    written = line && fputs(line, s->out) >= 0 && putc('\n', s->out) != EOF &&
              fwrite(a->body.data, 1, a->body.len, s->out) == a->body.len &&
              fflush(s->out) == 0;
    free(line);
    return written ? 0 : err_errno(e, errno, "an answer");
}

static int serve_line(struct serving *s, const struct buf *line, struct err *e)
{
    struct answer a = {0};
    struct err why = ERR_INIT;
    json_error_t where;
    json_t *request =
        json_loadb((const char *)line->data, line->len, JSON_REJECT_DUPLICATES, &where);
    int rc;

    if (request)
        run_verb(s, request, &a, &why);
    else
        err_set(&why, ERR_BAD_JSON, "not a request: %s", where.text);
    if (!why.code && a.body.failed)
        err_set(&why, ERR_BUSY, "no memory for the answer");
    if (why.code)
        buf_free(&a.body);
    rc = write_answer(s, request, &a, &why, e);
    json_decref(a.head);
    json_decref(request);
    buf_free(&a.body);
    return rc;
}

int serve_run(const struct encoder_plan *plan, FILE *in, FILE *out, struct err *e)
{
    struct serving s = {.plan = plan, .out = out};
    struct buf line = {0};
    int rc = encoder_init(&s.encoder, plan, e);

    while (!rc && read_line(in, &line, e))
        rc = serve_line(&s, &line, e);
    if (!rc)
        rc = (int)e->code;
    buf_free(&line);
    encoder_fini(&s.encoder);
    return rc;
}
