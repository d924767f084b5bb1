/* opts.c - see opts.h. */
#include "client/lm/opts.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const struct opts_row *find(const struct opts_row *rows, size_t count, const char *name,
                                   size_t len)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(rows[i].name) == len && memcmp(rows[i].name, name, len) == 0)
            return &rows[i];
    return NULL;
}

static int out_of_range(const struct opts_row *row, const char *value, struct err *e)
{
    err_set(e, ERR_INVALID, "--%s %.60s: must be %s from %.10g to %.10g", row->name, value,
            row->kind == OPTS_COUNT ? "a whole number" : "a number", row->low, row->high);
    return err_at_field(e, row->name);
}

static int store(const struct opts_row *row, const char *value, struct err *e)
{
    char *end;

    errno = 0;
    if (row->kind == OPTS_TEXT) {
        *(const char **)row->out = value;
        return 0;
    }
    if (row->kind == OPTS_COUNT) {
        uint64_t n = strtoull(value, &end, 10);
        if (*value < '0' || *value > '9' || *end || errno || (double)n < row->low ||
            (double)n > row->high)
            return out_of_range(row, value, e);
        *(uint64_t *)row->out = n;
    } else {
        double x = strtod(value, &end);
        if (end == value || *end || errno || !(x >= row->low && x <= row->high))
            return out_of_range(row, value, e);
        *(double *)row->out = x;
    }
    return 0;
}

static bool missing(const struct opts_row *row)
{
    return row->kind == OPTS_TEXT && strstr(row->help, "(required)") &&
           !*(const char *const *)row->out;
}

int opts_parse(const struct opts_row *rows, size_t count, int argc, char *const argv[],
               struct err *e)
{
    for (int i = 0; i < argc; i++) {
        const char *name = argv[i], *equals, *value;
        const struct opts_row *row;
        int rc;
        if (strncmp(name, "--", 2) != 0)
            return err_set(e, ERR_INVALID, "\"%.60s\" is not an option", name);
        equals = strchr(name, '=');
        row = find(rows, count, name + 2, equals ? (size_t)(equals - name - 2) : strlen(name + 2));
        if (!row)
            return err_set(e, ERR_INVALID, "no option %.60s", name);
        value = equals ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (!value)
            return err_set(e, ERR_INVALID, "--%s needs a value", row->name);
        rc = store(row, value, e);
        if (rc)
            return rc;
    }
    for (size_t i = 0; i < count; i++)
        if (missing(&rows[i]))
            return err_set(e, ERR_INVALID, "--%s must be given", rows[i].name);
    return 0;
}

void opts_help(FILE *out, const struct opts_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "  --%-15s %s", rows[i].name, rows[i].help);
        if (rows[i].kind == OPTS_COUNT)
            fprintf(out, " [%" PRIu64 "]", *(const uint64_t *)rows[i].out);
        else if (rows[i].kind == OPTS_NUMBER)
            fprintf(out, " [%g]", *(const double *)rows[i].out);
        else if (*(const char *const *)rows[i].out)
            fprintf(out, " [%s]", *(const char *const *)rows[i].out);
        fputc('\n', out);
    }
}
