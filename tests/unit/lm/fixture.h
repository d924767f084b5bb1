/* fixture.h - what the tests of the language model share: a small seeded corpus and a model trained
 * on it for a moment. */
#ifndef TESTS_UNIT_LM_FIXTURE_H
#define TESTS_UNIT_LM_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/lm/ckpt.h"
#include "client/lm/passages.h"
#include "client/lm/rng.h"
#include "client/lm/train.h"
#include "storage/base/mem.h"

/* Facts made of a few words: enough regularity to learn something in ten steps. */
static inline char *fixture_text(uint32_t number)
{
    static const char *const city[] = {"Arda", "Belm", "Corin", "Dunmar", "Elst", "Farrow"};
    static const char *const kind[] = {"the capital of", "a port in", "a river of", "a hill near"};
    static const char *const land[] = {"Norland", "Ostria", "Pell", "Quend", "Rhovan"};
    char text[256];
    struct rng r;
    int len = 0;

    rng_init(&r, 99, RNG_SAMPLE, number);
    for (uint32_t s = 0, some = 1 + rng_below(&r, 3); s < some; s++) {
        const char *c = city[rng_below(&r, 6)];
        const char *k = kind[rng_below(&r, 4)];
        const char *l = land[rng_below(&r, 5)];
        len += snprintf(text + len, sizeof text - (size_t)len, "%s%s: %s %s.", s ? " " : "", c, k, l);
    }
    return mem_copy(text, (size_t)len);
}

static inline struct passages fixture_passages(size_t count)
{
    struct passages ps = {.list = mem_new(count, sizeof *ps.list), .count = count};

    for (size_t i = 0; i < count; i++) {
        struct passage *p = &ps.list[i];
        char id[16], line[512];
        snprintf(id, sizeof id, "p%05zu", i);
        p->id = mem_copy(id, strlen(id));
        p->text = fixture_text((uint32_t)i);
        p->text_len = strlen(p->text);
        p->line_len = (size_t)snprintf(line, sizeof line, "{\"id\":\"%s\",\"text\":\"%s\"}", id,
                                       p->text);
        p->line = mem_copy(line, p->line_len);
    }
    return ps;
}

static inline struct train_options fixture_options(void)
{
    return (struct train_options){
        .shape = {.vocab = 320, .context = 24, .layers = 2, .width = 32, .heads = 2},
        .steps = 10,
        .batch = 10,
        .rate = 1e-2,
        .seed = 5,
        .threads = 1,
    };
}

static inline struct model fixture_model(enum model_optimizer optimizer)
{
    struct train_options o = fixture_options();
    struct passages ps = fixture_passages(200);
    struct err e = ERR_INIT;
    struct model m;

    o.optimizer = optimizer;
    if (train_run(&m, &ps, &o, NULL, NULL, &e))
        fail_msg("%s", e.text);
    passages_free(&ps);
    return m;
}

/* A folder of this test's own under /tmp; the caller removes it with fixture_remove. */
static inline char *fixture_folder(void)
{
    char name[] = "/tmp/ascribe-lm-test-XXXXXX";

    assert_non_null(mkdtemp(name));
    return mem_copy(name, strlen(name));
}

static inline void fixture_remove(char *folder)
{
    char command[256];

    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
    free(folder);
}

static inline char *fixture_path(const char *folder, const char *name)
{
    char path[512];
    int len = snprintf(path, sizeof path, "%s/%s", folder, name);

    return mem_copy(path, (size_t)len);
}

/* The whole file; the caller frees it. */
static inline unsigned char *fixture_read(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    unsigned char *bytes;
    long size;

    if (!f)
        fail_msg("%s cannot be read", path);
    fseek(f, 0, SEEK_END);
    size = ftell(f);
    rewind(f);
    bytes = mem_new((size_t)size + 1, 1);
    *len = fread(bytes, 1, (size_t)size, f);
    assert_int_equal(*len, size);
    fclose(f);
    return bytes;
}

static inline void fixture_write(const char *path, const void *bytes, size_t len)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

#endif
