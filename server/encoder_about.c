/* encoder_about.c - see encoder_about.h. */
#include "server/encoder_about.h"

#include <stdio.h>
#include <string.h>

#include "server/encoder_wire.h"
#include "server/limits.h"

static int read_text(const json_t *head, const char *name, char *out, size_t size, bool need,
                     struct err *e)
{
    const json_t *value = json_object_get(head, name);

    if (!need && (!value || json_is_null(value)))
        return 0;
    if (!json_is_string(value) || json_string_length(value) >= size ||
        strlen(json_string_value(value)) != json_string_length(value))
        return err_set(e, ERR_ENCODER, "its hello needs %s, a text of up to %zu bytes", name,
                       size - 1);
    snprintf(out, size, "%s", json_string_value(value));
    return 0;
}

static int read_verbs(const json_t *head, struct encoder_about *a, struct err *e)
{
    const json_t *verbs = json_object_get(head, "verbs");

    for (size_t i = 0; i < json_array_size(verbs) && a->verb_count < ENCODER_VERBS; i++) {
        const char *verb = json_string_value(json_array_get(verbs, i));

        if (verb && strlen(verb) < sizeof a->verbs[0])
            snprintf(a->verbs[a->verb_count++], sizeof a->verbs[0], "%s", verb);
    }
    if (a->verb_count)
        return 0;
    return err_set(e, ERR_ENCODER, "its hello needs verbs, a list of texts");
}

int encoder_about_read(const json_t *head, struct encoder_about *a, struct err *e)
{
    uint64_t dim = 0;
    int code = read_text(head, "name", a->name, sizeof a->name, true, e);

    if (!code)
        code = read_text(head, "model", a->model, sizeof a->model, true, e);
    if (!code)
        code = read_text(head, "fingerprint", a->fingerprint, sizeof a->fingerprint, false, e);
    if (!code)
        code = read_verbs(head, a, e);
    if (!code && (!encoder_whole(json_object_get(head, "dim"), &dim) || dim < 1 ||
                  dim > LIMIT_DIM))
        code = err_set(e, ERR_ENCODER, "its hello needs dim, a whole number from 1 to %u",
                       LIMIT_DIM);
    a->dim = (size_t)dim;
    return code;
}

bool encoder_has_verb(const struct encoder_about *a, const char *verb)
{
    for (size_t i = 0; i < a->verb_count; i++)
        if (strcmp(a->verbs[i], verb) == 0)
            return true;
    return false;
}
