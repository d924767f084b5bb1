/* verb_generate.c - `ascribe-lm generate`: a prompt and what the model makes of it. */
#include "client/lm/verb.h"

#include <stdio.h>
#include <string.h>

#include "client/lm/ckpt.h"
#include "client/lm/generate.h"
#include "client/lm/opts.h"

int verb_generate(int argc, char *const argv[], struct err *e)
{
    const char *path = NULL, *prompt = NULL;
    uint64_t tokens = 32, seed = 1;
    struct generate_options o = {0};
    const struct opts_row rows[] = {
        {"model", OPTS_TEXT, &path, 0, 0, "checkpoint (required)"},
        {"prompt", OPTS_TEXT, &prompt, 0, 0, "text to continue (required)"},
        {"tokens", OPTS_COUNT, &tokens, 1, 65536, "new tokens at most"},
        {"temperature", OPTS_NUMBER, &o.temperature, 0, 100, "0 = always the most likely"},
        {"seed", OPTS_COUNT, &seed, 0, 1.8e19, "of the draws"},
    };
    const size_t count = sizeof rows / sizeof rows[0];
    struct buf text = {0};
    struct model m;
    int rc;

    if (argc > 0 && strcmp(argv[0], "--help") == 0) {
        opts_help(stdout, rows, count);
        return 0;
    }
    rc = opts_parse(rows, count, argc, argv, e);
    if (!rc)
        rc = ckpt_load(&m, path, e);
    if (rc)
        return rc;
    o.tokens = (uint32_t)tokens;
    o.seed = seed;
    rc = generate_text(&m, prompt, strlen(prompt), &o, &text, e);
    if (!rc)
        printf("%s%.*s\n", prompt, (int)text.len, text.data ? (const char *)text.data : "");
    buf_free(&text);
    model_free(&m);
    return rc;
}
