/* out.c - results, errors, numbers for people. */
#include "client/cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static int code_of(const struct asc_error *e)
{
    switch (e->status) {
    case ASC_OK:
        return EXIT_OK;
    case ASC_ARGUMENT:
        return EXIT_USAGE;
    case ASC_REFUSED:
        return EXIT_REFUSED;
    case ASC_NETWORK:
        return EXIT_UNREACHABLE;
    case ASC_SERVER:
    case ASC_PROTOCOL:
        return EXIT_SERVER;
    case ASC_ABORTED:
        return EXIT_STOPPED;
    case ASC_INPUT:
    case ASC_MEMORY:
        break;
    }
    return EXIT_INPUT;
}

static void error_as_json(const struct asc_error *e)
{
    json_t *o = json_pack("{s:s, s:s, s:s}", "status", asc_status_name(e->status), "code", e->code,
                          "detail", e->detail);
    char *text;

    if (o && e->http_status)
        json_object_set_new(o, "http_status", json_integer(e->http_status));
    if (o && e->field[0])
        json_object_set_new(o, "field", json_string(e->field));
    if (o && e->index >= 0)
        json_object_set_new(o, "index", json_integer(e->index));
    if (o && e->limit >= 0)
        json_object_set_new(o, "limit", json_integer(e->limit));
    if (o && e->request_id[0])
        json_object_set_new(o, "request_id", json_string(e->request_id));
    o = json_pack("{s:o}", "error", o);
    text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    fprintf(stderr, "%s\n", text ? text : "{\"error\":{}}");
    free(text);
    json_decref(o);
}

/* What to do about the errors that everyone meets first. */
static const char *hint(const struct asc_error *e)
{
    if (strcmp(e->code, "unauthorized") == 0)
        return "give a key with --key-file, ASCRIBE_KEY, or the store's directory with --store";
    if (strcmp(e->code, "forbidden") == 0)
        return "this needs a key of a wider scope (ascribe key create)";
    if (strcmp(e->code, "unreachable") == 0)
        return "is ascribed running there? --server or ASCRIBE_SERVER says where it is";
    return NULL;
}

int out_error(const struct cli *cli, const struct asc_error *e)
{
    const char *more = hint(e);

    if (cli->json) {
        error_as_json(e);
        return code_of(e);
    }
    fprintf(stderr, "ascribe: %s: %s", e->code, e->detail);
    if (e->field[0] && !strstr(e->detail, e->field))
        fprintf(stderr, "; field %s", e->field);
    if (e->index >= 0)
        fprintf(stderr, "; index %" PRId64, e->index);
    if (e->limit >= 0)
        fprintf(stderr, "; limit %" PRId64, e->limit);
    if (e->attempts > 1)
        fprintf(stderr, "; %u attempts", e->attempts);
    if (e->request_id[0])
        fprintf(stderr, "; request %s", e->request_id);
    fputc('\n', stderr);
    if (more)
        fprintf(stderr, "ascribe: hint: %s\n", more);
    return code_of(e);
}

int out_usage(const char *verb, const char *fmt, ...)
{
    va_list args;

    fputs("ascribe: ", stderr);
    if (verb)
        fprintf(stderr, "%s: ", verb);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, " (ascribe %s%s--help)\n", verb ? verb : "", verb ? " " : "");
    return EXIT_USAGE;
}

int out_input(const struct cli *cli, const char *fmt, ...)
{
    struct asc_error e = {.status = ASC_INPUT, .code = "input", .index = -1, .limit = -1};
    va_list args;

    va_start(args, fmt);
    vsnprintf(e.detail, sizeof e.detail, fmt, args);
    va_end(args);
    return out_error(cli, &e);
}

void out_json(json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

    if (text)
        puts(text);
    else
        fputs("ascribe: no memory for the result\n", stderr);
    free(text);
    json_decref(value);
}

const char *out_count(uint64_t n, char buf[32])
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%" PRIu64, n), to = 0;

    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            buf[to++] = ',';
        buf[to++] = digits[i];
    }
    buf[to] = '\0';
    return buf;
}

const char *out_bytes(double n, char buf[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    unsigned u = 0;

    for (; n >= 1023.95 && u < 5; u++)
        n /= 1024;
    snprintf(buf, 32, u == 0 || n >= 99.95 ? "%.0f %s" : "%.1f %s", n, units[u]);
    return buf;
}

const char *out_duration(double seconds, char buf[32])
{
    uint64_t s;

    if (!(seconds >= 0) || seconds > 1e9) { /* NaN too */
        snprintf(buf, 32, "--:--");
        return buf;
    }
    s = (uint64_t)(seconds + 0.5);
    if (s >= 3600)
        snprintf(buf, 32, "%" PRIu64 ":%02u:%02u", s / 3600, (unsigned)(s / 60 % 60),
                 (unsigned)(s % 60));
    else
        snprintf(buf, 32, "%u:%02u", (unsigned)(s / 60), (unsigned)(s % 60));
    return buf;
}

static void print_value(const json_t *v)
{
    char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY), line[1024];

    if (json_is_string(v))
        term_line(json_string_value(v), json_string_length(v), 0, line, sizeof line);
    else
        term_line(text ? text : "", text ? strlen(text) : 0, 0, line, sizeof line);
    puts(line);
    free(text);
}

static void print_members(const json_t *o, const char *prefix)
{
    const char *name;
    const json_t *v;
    char full[160];
    void *at;

    /* json_object_foreach wants a mutable object only for its type */
    for (at = json_object_iter((json_t *)(uintptr_t)o); at;
         at = json_object_iter_next((json_t *)(uintptr_t)o, at)) {
        name = json_object_iter_key(at);
        v = json_object_iter_value(at);
        snprintf(full, sizeof full, "%s%s%s", prefix, *prefix ? "." : "", name);
        if (json_is_object(v) && json_object_size(v) > 0 && strlen(full) < 100) {
            print_members(v, full);
            continue;
        }
        printf("%-28s ", full);
        print_value(v);
    }
}

void out_object(const json_t *o)
{
    print_members(o, "");
}

int out_answer(const struct cli *cli, char *text)
{
    json_t *o = json_loads(text, 0, NULL);

    asc_free(text);
    if (!json_is_object(o)) {
        struct asc_error e = {.status = ASC_PROTOCOL, .code = "bad_answer", .index = -1,
                              .limit = -1, .detail = "the answer is not a JSON object"};

        json_decref(o);
        return out_error(cli, &e);
    }
    if (cli->json) {
        out_json(o);
        return EXIT_OK;
    }
    out_object(o);
    json_decref(o);
    return EXIT_OK;
}

enum { IDS_SHOWN = 8 };

static void damage_as_json(const struct asc_damage *d)
{
    json_t *ids = json_array(), *o;
    char *text;

    for (size_t i = 0; i < d->id_count; i++)
        json_array_append_new(ids, json_string(d->ids[i]));
    o = json_pack("{s:b, s:{s:I, s:I, s:o}}", "partial", 1, "damaged", "examples",
                  (json_int_t)d->examples, "chunks", (json_int_t)d->chunks, "ids", ids);
    text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    fprintf(stderr, "%s\n", text ? text : "{\"partial\":true}");
    free(text);
    json_decref(o);
}

void out_damage(const struct cli *cli, const struct asc_damage *d, bool as_json)
{
    char n[32], id[1100];

    if (!d->partial)
        return;
    if (cli->json) {
        if (as_json)
            damage_as_json(d);
        return;
    }
    fprintf(stderr, "ascribe: partial: %s examples are damaged and left out",
            out_count(d->examples, n));
    for (size_t i = 0; i < d->id_count && i < IDS_SHOWN; i++) {
        term_line(d->ids[i], strlen(d->ids[i]), 0, id, sizeof id);
        fprintf(stderr, "%s %s", i ? "," : ":", id);
    }
    fputs(d->examples > IDS_SHOWN ? ", ...\n" : "\n", stderr);
    fputs("ascribe: hint: ascribed repair mends the store and says what is lost\n", stderr);
}

int out_done(const struct cli *cli, const char *what, const char *name)
{
    if (cli->json)
        out_json(json_pack("{s:s}", what, name));
    else
        printf("%s: %s\n", name, what);
    return EXIT_OK;
}

char *out_read_file(const struct cli *cli, const char *path, size_t most)
{
    FILE *f = fopen(path, "re");
    char *text = malloc(most + 2);
    size_t len = 0;

    if (!f || !text) {
        out_input(cli, "%s: %s", path, strerror(errno));
    } else {
        len = fread(text, 1, most + 1, f);
        if (ferror(f))
            out_input(cli, "%s: %s", path, strerror(errno));
        else if (len > most)
            out_input(cli, "%s: more than %zu bytes", path, most);
        else if (memchr(text, '\0', len))
            out_input(cli, "%s: not a text file", path);
        else
            goto good;
    }
    if (f)
        fclose(f);
    free(text);
    return NULL;
good:
    fclose(f);
    text[len] = '\0';
    return text;
}
