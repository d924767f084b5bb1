/* log.h - logfmt lines on stderr: ts=... level=info msg=... key=value ...
 *
 * A line is built on the caller's stack and written with one write(2), so lines of several
 * threads do not mix. Values are quoted and escaped here: nothing a client sends can forge a
 * field or a line. Never logged: bodies, keys, texts of examples. Any thread.
 */
#ifndef SERVER_LOG_H
#define SERVER_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

enum { LOG_LINE_MAX = 2048 };

struct log_line {
    bool on; /* below the level in force: the other calls do nothing */
    unsigned len;
    char text[LOG_LINE_MAX];
};

/* Set once before threads start; LOG_INFO until then. */
void log_set_level(enum log_level level);
bool log_level_from_name(const char *name, enum log_level *out);

/* begin, fields in any number, end (which writes). What does not fit is cut, the line stays
 * whole. */
void log_begin(struct log_line *l, enum log_level level, const char *msg);
/* A line that begins with its time alone and is written whatever the level (server/audit.h). */
void log_stamp(struct log_line *l);
void log_text(struct log_line *l, const char *key, const char *value);
void log_number(struct log_line *l, const char *key, uint64_t value);
void log_ms(struct log_line *l, const char *key, uint64_t nanoseconds);
/* code=... error="..." and the field at fault */
void log_err(struct log_line *l, const struct err *e);
void log_end(struct log_line *l);
/* log_end, to another descriptor. False, with errno: not, or not whole. */
bool log_write(struct log_line *l, int fd);

/* One message with one formatted detail, for the common case: msg=<msg> detail="<formatted>". */
void log_note(enum log_level level, const char *msg, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* A line of exactly this text, whatever the level: the `ready` line that scripts wait for. */
void log_plain(const char *text);

#endif
