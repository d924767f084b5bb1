/* encoder_command.c - see encoder_command.h. The rules are those of POSIX, Shell Command Language,
 * 2.2 (Quoting), for the characters that quote. */
#include "server/encoder_command.h"

#include <string.h>

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* One word from *at on into `to`; false when a quote or a backslash has no end. */
static bool take_word(const char **at, char *to)
{
    const char *p = *at;
    char quote = '\0';

    for (; *p && (quote || !blank(*p)); p++) {
        if (quote ? *p == quote : *p == '\'' || *p == '"') {
            quote = quote ? '\0' : *p;
        } else if (*p == '\\' && quote != '\'') {
            if (!p[1])
                return false;
            if (quote && !strchr("\"\\$`", p[1]))
                *to++ = '\\';
            *to++ = *++p;
        } else {
            *to++ = *p;
        }
    }
    *to = '\0';
    *at = p;
    return !quote;
}

int encoder_command_split(const char *text, struct arena *a, char ***out, size_t *out_count,
                          struct err *e)
{
    char **words = arena_new(a, ENCODER_WORDS_MAX + 1, sizeof *words);
    size_t count = 0;
    const char *at = text;

    for (;;) {
        while (blank(*at))
            at++;
        if (!*at)
            break;
        if (count == ENCODER_WORDS_MAX)
            return err_set(e, ERR_INVALID, "more than %d words", ENCODER_WORDS_MAX);
        words[count] = arena_new(a, strlen(at) + 1, 1);
        if (!take_word(&at, words[count++]))
            return err_set(e, ERR_INVALID, "a quote or backslash without its end");
    }
    if (!count || !words[0][0])
        return err_set(e, ERR_INVALID, "no program is named");
    *out = words;
    *out_count = count;
    return 0;
}
