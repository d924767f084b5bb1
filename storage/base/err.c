/* err.c - the error table and the few ways to fill a struct err. */
#include "storage/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct row {
    const char *word;
    int status;
    bool retryable;
    const char *meaning;
};

static const struct row table[ERR_COUNT] = {
    [ERR_OK] = {"ok", 200, false, "no error"},
#define ERR_ROW(name, word, status, retry, meaning) [ERR_##name] = {word, status, retry, meaning},
    ERR_LIST(ERR_ROW)
#undef ERR_ROW
};

void err_clear(struct err *e)
{
    *e = ERR_INIT;
}

/* Texts quote what clients sent: whatever that was, it stays one printable line. */
static void one_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

int err_set(struct err *e, enum err_code code, const char *fmt, ...)
{
    va_list args;

    err_clear(e);
    e->code = code;
    va_start(args, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, args);
    va_end(args);
    one_line(e->text);
    return (int)code;
}

int err_at_field(struct err *e, const char *field)
{
    snprintf(e->field, sizeof e->field, "%s", field);
    return (int)e->code;
}

int err_at_index(struct err *e, int64_t index)
{
    e->index = index;
    return (int)e->code;
}

int err_at_limit(struct err *e, int64_t limit)
{
    e->limit = limit;
    return (int)e->code;
}

void err_wrap(struct err *e, const char *fmt, ...)
{
    char inner[ERR_TEXT_MAX];
    va_list args;
    int used;

    if (e->code == ERR_OK)
        return;
    memcpy(inner, e->text, sizeof inner);
    va_start(args, fmt);
    used = vsnprintf(e->text, sizeof e->text, fmt, args);
    va_end(args);
    if (used < 0)
        used = 0;
    if ((size_t)used < sizeof e->text)
        snprintf(e->text + used, sizeof e->text - (size_t)used, "%s", inner);
    one_line(e->text);
}

int err_errno(struct err *e, int errno_value, const char *what)
{
    enum err_code code = ERR_IO;

    if (errno_value == ENOSPC || errno_value == EDQUOT)
        code = ERR_FULL;
    else if (errno_value == ENOMEM)
        code = ERR_BUSY;
    return err_set(e, code, "%s: %s", what, strerror(errno_value));
}

const char *err_word(enum err_code code)
{
    return table[code].word;
}

int err_status(enum err_code code)
{
    return table[code].status;
}

bool err_retryable(enum err_code code)
{
    return table[code].retryable;
}

const char *err_meaning(enum err_code code)
{
    return table[code].meaning;
}
