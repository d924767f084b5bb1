/* log.c - see log.h. */
#include "server/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_name[] = {"debug", "info", "warn", "error"};
static _Atomic int level_in_force = LOG_INFO;

void log_set_level(enum log_level level)
{
    atomic_store(&level_in_force, (int)level);
}

bool log_level_from_name(const char *name, enum log_level *out)
{
    for (int i = LOG_DEBUG; i <= LOG_ERROR; i++)
        if (strcmp(name, level_name[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    return false;
}

/* One byte is kept for the newline. */
static void put(struct log_line *l, const char *text, size_t len)
{
    size_t room = LOG_LINE_MAX - 1 - l->len;

    if (len > room)
        len = room;
    memcpy(l->text + l->len, text, len);
    l->len += (unsigned)len;
}

static bool plain(const char *value)
{
    const unsigned char *p = (const unsigned char *)value;

    if (!*p)
        return false;
    for (; *p; p++)
        if (*p <= ' ' || *p == '"' || *p == '=' || *p == '\\' || *p >= 0x7f)
            return false;
    return true;
}

/* Quotes and backslashes are escaped, control bytes become \xNN; UTF-8 passes. */
static void put_quoted(struct log_line *l, const char *value)
{
    static const char digit[] = "0123456789abcdef";

    put(l, "\"", 1);
    for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
        char escape[4] = {'\\', 'x', digit[*p >> 4], digit[*p & 15]};
        /* the closing quote must still fit, and no escape may be cut in two */
        if (l->len + sizeof escape + 2 > LOG_LINE_MAX)
            break;
        if (*p == '"' || *p == '\\') {
            escape[1] = (char)*p;
            put(l, escape, 2);
        } else if (*p < ' ' || *p == 0x7f) {
            put(l, escape, 4);
        } else {
            put(l, (const char *)p, 1);
        }
    }
    put(l, "\"", 1);
}

void log_stamp(struct log_line *l)
{
    struct timespec now;
    struct tm utc;
    char stamp[64];
    int len;

    l->len = 0;
    l->on = true;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    len = snprintf(stamp, sizeof stamp, "ts=%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ",
                   utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min,
                   utc.tm_sec, now.tv_nsec / 1000000);
    put(l, stamp, len > 0 ? (size_t)len : 0);
}

void log_begin(struct log_line *l, enum log_level level, const char *msg)
{
    l->on = false;
    if ((int)level < atomic_load(&level_in_force))
        return;
    log_stamp(l);
    log_text(l, "level", level_name[level]);
    log_text(l, "msg", msg);
}

void log_text(struct log_line *l, const char *key, const char *value)
{
    /* a field that could not even hold its key is left out whole */
    if (!l->on || l->len + strlen(key) + 8 > LOG_LINE_MAX)
        return;
    put(l, " ", 1);
    put(l, key, strlen(key));
    put(l, "=", 1);
    if (plain(value))
        put(l, value, strlen(value));
    else
        put_quoted(l, value);
}

void log_number(struct log_line *l, const char *key, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    log_text(l, key, text);
}

void log_ms(struct log_line *l, const char *key, uint64_t nanoseconds)
{
    char text[32];

    snprintf(text, sizeof text, "%.3f", (double)nanoseconds / 1e6);
    log_text(l, key, text);
}

void log_err(struct log_line *l, const struct err *e)
{
    log_text(l, "code", err_word(e->code));
    log_text(l, "error", e->text);
    if (e->field[0])
        log_text(l, "field", e->field);
}

bool log_write(struct log_line *l, int fd)
{
    l->text[l->len++] = '\n';
    return write(fd, l->text, l->len) == (ssize_t)l->len;
}

void log_end(struct log_line *l)
{
    /* A log that cannot be written has nobody to tell; the server goes on. */
    if (l->on)
        l->on = log_write(l, STDERR_FILENO);
}

void log_note(enum log_level level, const char *msg, const char *fmt, ...)
{
    struct log_line l;
    char detail[1024];
    va_list args;

    log_begin(&l, level, msg);
    if (!l.on)
        return;
    va_start(args, fmt);
    vsnprintf(detail, sizeof detail, fmt, args);
    va_end(args);
    log_text(&l, "detail", detail);
    log_end(&l);
}

void log_plain(const char *text)
{
    char line[LOG_LINE_MAX];
    int len = snprintf(line, sizeof line, "%s\n", text);

    if (len > 0 && write(STDERR_FILENO, line, (size_t)len < sizeof line ? (size_t)len
                                                                        : sizeof line - 1) < 0)
        return;
}
