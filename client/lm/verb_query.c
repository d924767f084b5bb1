/* verb_query.c - `ascribe-lm query`: prompts and their targets into query gradients. A target that
 * is not given is the model's own greedy continuation: "why did it say that?" */
#include "client/lm/verb.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/lm/ckpt.h"
#include "client/lm/definition.h"
#include "client/lm/encoder.h"
#include "client/lm/generate.h"
#include "client/lm/jsonl.h"
#include "client/lm/opts.h"
#include "client/lm/tensorfile.h"
#include "storage/base/mem.h"

enum { PROMPTS_MAX = 4096, PROMPT_LINE_MAX = 1 << 20 };

struct prompt {
    char *text;
    char *continuation; /* the model's own, perhaps empty; NULL until it is known */
    char *target;       /* NULL until it is known; all three owned */
    bool generated;     /* the target is the continuation */
};

struct prompts {
    struct prompt *list; /* owned */
    size_t count;
};

static void prompts_free(struct prompts *ps)
{
    for (size_t i = 0; i < ps->count; i++) {
        free(ps->list[i].text);
        free(ps->list[i].continuation);
        free(ps->list[i].target);
    }
    free(ps->list);
}

static int add_prompt(struct prompts *ps, const char *text, const char *target, struct err *e)
{
    if (ps->count == PROMPTS_MAX)
        return err_set(e, ERR_TOO_LARGE, "more than %d prompts", PROMPTS_MAX);
    if (!ps->list)
        ps->list = mem_new(PROMPTS_MAX, sizeof *ps->list);
    ps->list[ps->count++] = (struct prompt){
        .text = mem_copy(text, strlen(text)),
        .target = target ? mem_copy(target, strlen(target)) : NULL,
    };
    return 0;
}

static int add_line(void *ctx, size_t number, json_t *object, struct err *e)
{
    json_t *text = json_object_get(object, "prompt"), *target = json_object_get(object, "target");

    (void)number;
    if (!json_is_string(text) || (target && !json_is_null(target) && !json_is_string(target)))
        return err_set(e, ERR_BAD_JSON,
                       "\"prompt\" must be a string, \"target\" a string or absent");
    return add_prompt(ctx, json_string_value(text), json_string_value(target), e);
}

static int read_prompts(struct prompts *ps, const char *path, struct err *e)
{
    int rc = jsonl_read(path, PROMPT_LINE_MAX, add_line, ps, e);

    if (!rc && ps->count == 0)
        rc = err_set(e, ERR_INVALID, "%s: no prompts in it", path);
    return rc;
}

/* The model's own words, up to the end of the clause; the target, when none was given. */
static int continue_prompt(const struct model *m, struct prompt *p, uint32_t tokens, struct err *e)
{
    const struct generate_options o = {.tokens = tokens, .clause = true};
    struct buf text = {0};
    int rc = generate_text(m, p->text, strlen(p->text), &o, &text, e);

    if (!rc)
        p->continuation = mem_copy(text.len ? (const void *)text.data : "", text.len);
    if (!rc && !p->target && text.len == 0)
        rc = err_set(e, ERR_ZERO_GRADIENT,
                     "prompt \"%.80s\": the model has nothing to add; give a target", p->text);
    if (!rc && !p->target) {
        p->target = mem_copy(text.data, text.len);
        p->generated = true;
    }
    buf_free(&text);
    return rc;
}

static void print_prompt(const struct prompt *p, double loss)
{
    json_t *object = json_pack("{s:s, s:s, s:s, s:b, s:f}", "prompt", p->text, "continuation",
                               p->continuation, "target", p->target, "generated",
                               (int)p->generated, "loss", loss);
    char *line = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;

    puts(line ? line : "{}"); /* not reached: all texts came as UTF-8 */
    free(line);
    json_decref(object);
}

static int write_queries(const char *path, const struct encoder_plan *plan, size_t count,
                         const float *rows, struct err *e)
{
    const struct tensorfile_tensor t = {.name = "queries",
                                        .dtype = "F32",
                                        .shape = {count, plan->dim},
                                        .dims = 2,
                                        .bytes = count * plan->dim * sizeof *rows,
                                        .data = rows};

    return tensorfile_write(path, NULL, 0, &t, 1, e);
}

static int encode_prompts(const struct encoder_plan *plan, const struct prompts *ps,
                          const char *out, struct err *e)
{
    struct encoder_text *texts = mem_new(ps->count, sizeof *texts);
    double *losses = mem_new(ps->count, sizeof *losses);
    float *rows = mem_big(ps->count * plan->dim, sizeof *rows);
    struct encoder en;
    int rc = encoder_init(&en, plan, e);

    for (size_t i = 0; i < ps->count; i++)
        texts[i] = (struct encoder_text){ps->list[i].text, strlen(ps->list[i].text),
                                         ps->list[i].target, strlen(ps->list[i].target)};
    if (!rc && !rows)
        rc = err_set(e, ERR_BUSY, "no memory for %zu queries", ps->count);
    /* one at a time: a query's numbers then never depend on what else was asked */
    for (size_t i = 0; i < ps->count && !rc; i++) {
        rc = encoder_run(&en, &texts[i], 1, rows + i * plan->dim, &losses[i], e);
        if (rc)
            err_wrap(e, "prompt \"%.80s\": ", ps->list[i].text);
    }
    if (!rc && out)
        rc = write_queries(out, plan, ps->count, rows, e);
    for (size_t i = 0; i < ps->count && !rc; i++)
        print_prompt(&ps->list[i], losses[i]);
    encoder_fini(&en);
    free(texts);
    free(losses);
    free(rows);
    return rc;
}

struct request { /* what the command line asks for */
    const char *model, *prompt, *target, *prompts, *like, *out;
    uint64_t tokens, dim, seed;
    enum encoder_second second;
};

static int answer(const struct model *m, struct prompts *ps, const struct request *r,
                  const struct definition *like, struct err *e)
{
    struct encoder_plan plan;
    int rc = definition_plan(like, &plan, m, r->dim, r->seed, r->second, e);

    if (rc)
        return rc;
    for (size_t i = 0; i < ps->count && !rc; i++)
        rc = continue_prompt(m, &ps->list[i], (uint32_t)r->tokens, e);
    if (!rc)
        rc = encode_prompts(&plan, ps, r->out, e);
    encoder_plan_fini(&plan);
    return rc;
}

static int run(struct request *r, struct err *e)
{
    struct definition like;
    struct prompts ps = {0};
    struct model m = {0};
    int rc = definition_take(&like, r->like, &r->dim, &r->seed, &r->second, e);

    if (!rc)
        rc = r->prompts ? read_prompts(&ps, r->prompts, e)
                        : add_prompt(&ps, r->prompt, r->target, e);
    if (!rc)
        rc = ckpt_load(&m, r->model, e);
    if (!rc)
        rc = answer(&m, &ps, r, &like, e);
    model_free(&m);
    prompts_free(&ps);
    definition_free(&like);
    return rc;
}

int verb_query(int argc, char *const argv[], struct err *e)
{
    const char *second = "auto";
    struct request r = {.tokens = 8, .dim = 16384, .seed = 1};
    const struct opts_row rows[] = {
        {"model", OPTS_TEXT, &r.model, 0, 0, "checkpoint (required)"},
        {"prompt", OPTS_TEXT, &r.prompt, 0, 0, "what the model was given"},
        {"target", OPTS_TEXT, &r.target, 0, 0, "what it said; default: what it says"},
        {"prompts", OPTS_TEXT, &r.prompts, 0, 0, "JSON Lines with prompt and target instead"},
        {"out", OPTS_TEXT, &r.out, 0, 0, "safetensors file with `queries`, one row a prompt"},
        {"like", OPTS_TEXT, &r.like, 0, 0, "a corpus.json: takes the next three from it"},
        {"dim", OPTS_COUNT, &r.dim, 1, ENCODER_DIM_MAX, "as in encode"},
        {"second-moment", OPTS_TEXT, &second, 0, 0, "as in encode"},
        {"seed", OPTS_COUNT, &r.seed, 0, 9e18, "as in encode"},
        {"tokens", OPTS_COUNT, &r.tokens, 1, 1024, "of a continuation, at most"},
    };
    const size_t count = sizeof rows / sizeof rows[0];
    int rc;

    if (argc > 0 && strcmp(argv[0], "--help") == 0) {
        opts_help(stdout, rows, count);
        return 0;
    }
    rc = opts_parse(rows, count, argc, argv, e);
    if (!rc && !r.prompt == !r.prompts)
        rc = err_set(e, ERR_INVALID, "give either --prompt or --prompts");
    if (!rc && r.target && !r.prompt)
        rc = err_set(e, ERR_INVALID, "--target goes with --prompt");
    if (!rc)
        rc = encoder_second_parse(second, &r.second, e);
    return rc ? rc : run(&r, e);
}
