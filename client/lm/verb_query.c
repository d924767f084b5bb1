/* verb_query.c - `ascribe-lm query`: prompts and their targets into query gradients. A target that
 * is not given is the model's own greedy continuation: "why did it say that?" */
#include "client/lm/verb.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/lm/ckpt.h"
#include "client/lm/encoder.h"
#include "client/lm/generate.h"
#include "client/lm/opts.h"
#include "client/lm/tensorfile.h"
#include "storage/base/mem.h"

enum { PROMPTS_MAX = 4096 };

struct prompt {
    char *text, *target; /* owned; target NULL until it is known */
    bool generated;
};

struct prompts {
    struct prompt *list; /* owned */
    size_t count;
};

static void prompts_free(struct prompts *ps)
{
    for (size_t i = 0; i < ps->count; i++) {
        free(ps->list[i].text);
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

static int add_line(struct prompts *ps, const char *line, size_t len, struct err *e)
{
    json_error_t why;
    json_t *object = json_loadb(line, len, JSON_REJECT_DUPLICATES, &why);
    json_t *text = json_object_get(object, "prompt"), *target = json_object_get(object, "target");
    int rc;

    if (!object)
        return err_set(e, ERR_BAD_JSON, "%s", why.text);
    if (!json_is_string(text) || (target && !json_is_null(target) && !json_is_string(target)))
        rc = err_set(e, ERR_BAD_JSON, "\"prompt\" must be a string, \"target\" a string or absent");
    else
        rc = add_prompt(ps, json_string_value(text), json_string_value(target), e);
    json_decref(object);
    return rc;
}

static int read_prompts(struct prompts *ps, const char *path, struct err *e)
{
    FILE *file = fopen(path, "re");
    size_t room = 0, number = 0;
    char *line = NULL;
    ssize_t len;
    int rc = 0;

    if (!file)
        return err_errno(e, errno, path);
    while (!rc && (len = getline(&line, &room, file)) >= 0) {
        number++;
        if (len == 0 || line[0] == '\n')
            continue;
        rc = add_line(ps, line, (size_t)len, e);
        if (rc)
            err_wrap(e, "%s, line %zu: ", path, number);
    }
    if (!rc && ps->count == 0)
        rc = err_set(e, ERR_INVALID, "%s: no prompts in it", path);
    free(line);
    fclose(file);
    return rc;
}

/* The model's own words, up to the end of the sentence. */
static int continue_prompt(const struct model *m, struct prompt *p, uint32_t tokens, struct err *e)
{
    const struct generate_options o = {.tokens = tokens, .sentence = true};
    struct buf text = {0};
    int rc = generate_text(m, p->text, strlen(p->text), &o, &text, e);

    if (!rc && text.len == 0)
        rc = err_set(e, ERR_ZERO_GRADIENT,
                     "prompt \"%.80s\": the model has nothing to add; give a target", p->text);
    if (!rc) {
        p->target = mem_copy(text.data, text.len);
        p->generated = true;
    }
    buf_free(&text);
    return rc;
}

static void print_prompt(const struct prompt *p, double loss)
{
    json_t *object = json_pack("{s:s, s:s, s:b, s:f}", "prompt", p->text, "target", p->target,
                               "generated", (int)p->generated, "loss", loss);
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

static int answer(const struct model *m, struct prompts *ps, uint32_t tokens, uint32_t dim,
                  enum encoder_second second, uint64_t seed, const char *out, struct err *e)
{
    struct encoder_plan plan;
    int rc = encoder_plan_init(&plan, m, dim, second, seed, e);

    if (rc)
        return rc;
    for (size_t i = 0; i < ps->count && !rc; i++)
        if (!ps->list[i].target)
            rc = continue_prompt(m, &ps->list[i], tokens, e);
    if (!rc)
        rc = encode_prompts(&plan, ps, out, e);
    encoder_plan_fini(&plan);
    return rc;
}

int verb_query(int argc, char *const argv[], struct err *e)
{
    const char *path = NULL, *prompt = NULL, *target = NULL, *file = NULL, *out = NULL;
    const char *second_name = "adam";
    uint64_t tokens = 16, dim = 16384, seed = 1;
    enum encoder_second second;
    const struct opts_row rows[] = {
        {"model", OPTS_TEXT, &path, 0, 0, "checkpoint (required)"},
        {"prompt", OPTS_TEXT, &prompt, 0, 0, "what the model was given"},
        {"target", OPTS_TEXT, &target, 0, 0, "what it said, or should have; default: what it says"},
        {"prompts", OPTS_TEXT, &file, 0, 0, "JSON Lines with prompt and target instead"},
        {"out", OPTS_TEXT, &out, 0, 0, "safetensors file with `queries`, one row a prompt"},
        {"tokens", OPTS_COUNT, &tokens, 1, 1024, "of a continuation, at most"},
        {"dim", OPTS_COUNT, &dim, 1, ENCODER_DIM_MAX, "as in encode"},
        {"second-moment", OPTS_TEXT, &second_name, 0, 0, "as in encode"},
        {"seed", OPTS_COUNT, &seed, 0, 1.8e19, "as in encode"},
    };
    const size_t count = sizeof rows / sizeof rows[0];
    struct prompts ps = {0};
    struct model m;
    int rc;

    if (argc > 0 && strcmp(argv[0], "--help") == 0) {
        opts_help(stdout, rows, count);
        return 0;
    }
    rc = opts_parse(rows, count, argc, argv, e);
    if (!rc && !prompt == !file)
        rc = err_set(e, ERR_INVALID, "give either --prompt or --prompts");
    if (!rc)
        rc = encoder_second_parse(second_name, &second, e);
    if (!rc)
        rc = file ? read_prompts(&ps, file, e) : add_prompt(&ps, prompt, target, e);
    if (!rc)
        rc = ckpt_load(&m, path, e);
    if (!rc) {
        rc = answer(&m, &ps, (uint32_t)tokens, (uint32_t)dim, second, seed, out, e);
        model_free(&m);
    }
    prompts_free(&ps);
    return rc;
}
