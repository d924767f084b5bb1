/* shared.h - what the tests that encode texts share: one model for each second moment, and texts
 * that neither was trained on. Made once a program, as its group fixture, on one thread of BLAS. */
#ifndef TESTS_UNIT_LM_SHARED_H
#define TESTS_UNIT_LM_SHARED_H

#include "tests/unit/lm/fixture.h"

#include <cblas.h>

#include "client/lm/encoder.h"

enum { P = 6, DIM = 8 * P * P, SEED = 42, SHARED_TEXTS = 40 };

struct shared {
    struct model model, adafactor;
    char *text[SHARED_TEXTS];
};

static inline int shared_set_up(void **state)
{
    struct shared *s = mem_new(1, sizeof *s);

    openblas_set_num_threads(1);
    s->model = fixture_model(MODEL_ADAM);
    s->adafactor = fixture_model(MODEL_ADAFACTOR);
    for (uint32_t i = 0; i < SHARED_TEXTS; i++)
        s->text[i] = fixture_text(1000 + i);
    *state = s;
    return 0;
}

static inline int shared_tear_down(void **state)
{
    struct shared *s = *state;

    for (uint32_t i = 0; i < SHARED_TEXTS; i++)
        free(s->text[i]);
    model_free(&s->model);
    model_free(&s->adafactor);
    free(s);
    return 0;
}

static inline const struct model *shared_model(const struct shared *s, enum encoder_second second)
{
    return second == ENCODER_ADAFACTOR ? &s->adafactor : &s->model;
}

/* The caller ends it with encoder_plan_fini. */
static inline struct encoder_plan shared_plan(const struct shared *s,
                                              enum encoder_second second)
{
    struct encoder_plan plan;
    struct err e = ERR_INIT;

    if (encoder_plan_init(&plan, shared_model(s, second), DIM, second, SEED, &e))
        fail_msg("%s", e.text);
    return plan;
}

#endif
