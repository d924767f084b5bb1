/* config.c - see config.h. */
#include "server/config.h"

#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "server/encoder_command.h"
#include "server/limits.h"

enum type { TEXT, LIST, FLAG, COUNT, BYTES, LEVEL };
enum source { BY_DEFAULT, BY_FILE, BY_ENVIRONMENT, BY_FLAG };

struct setting {
    const char *name;
    enum type type;
    size_t offset;
    uint64_t fallback, min, max; /* numbers */
    const char *argument;        /* in --help */
    const char *help;
};

#define AT(member) offsetof(struct config, member)
#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define GIB (KIB * MIB)
#define DAY_MS UINT64_C(86400000)

static const struct setting settings[] = {
    {"store", TEXT, AT(store), 0, 0, 0, "DIR", "the store's directory (required)"},
    {"create", FLAG, AT(create), 0, 0, 1, NULL, "make the store when DIR is missing or empty"},
    {"listen", LIST, AT(listen), 0, 0, 0, "ADDRESS",
     "HOST:PORT or unix:PATH; may be repeated; port 0 picks one (127.0.0.1:7171)"},
    {"behind-tls-proxy", FLAG, AT(behind_tls_proxy), 0, 0, 1, NULL,
     "allow an address that is not loopback: a proxy in front speaks TLS"},
    {"config", TEXT, AT(file), 0, 0, 0, "FILE", "read settings from FILE: lines NAME = VALUE"},
    {"log-level", LEVEL, AT(log_level), LOG_INFO, 0, 0, "LEVEL",
     "debug, info, warn or error (info)"},
    {"audit", TEXT, AT(audit), 0, 0, 0, "FILE",
     "where it says who did what: a file, log or off (log)"},
    {"no-landlock", FLAG, AT(no_landlock), 0, 0, 1, NULL,
     "keep rights that the process needs no longer once it has opened its store"},
    {"rate", COUNT, AT(rate), 0, 0, LIMIT_KEY_RATE, "N",
     "requests a second of one key that has no rate of its own; 0: no limit"},
    {"rate-burst", COUNT, AT(rate_burst), 0, 0, LIMIT_KEY_RATE, "N",
     "how many of those may come at once; 0: twice the rate"},
    {"threads", COUNT, AT(threads), 0, 0, 1024, "N", "reader threads; 0: one per processor"},
    {"memory", BYTES, AT(memory), 1 * GIB, 0, UINT64_C(1) << 50, "BYTES",
     "resident indexes of engine flat"},
    {"body-limit", BYTES, AT(body_limit), LIMIT_BODY_DEFAULT, 4 * KIB, 64 * GIB, "BYTES",
     "largest tensor body of one request"},
    {"body-budget", BYTES, AT(body_budget), LIMIT_BUDGET_DEFAULT, 8 * KIB, UINT64_C(1) << 50,
     "BYTES", "all request bodies, and large replies, in flight together"},
    {"connections", COUNT, AT(connections), LIMIT_CONNECTIONS, 1, 65536, "N", "open connections"},
    {"read-queue", COUNT, AT(read_queue), LIMIT_READ_QUEUE, 1, 65536, "N",
     "requests that may wait for a reader"},
    {"deadline-ms", COUNT, AT(deadline_ms), LIMIT_DEADLINE_MS, 1, DAY_MS, "MS",
     "one request's work, from the end of its body"},
    {"head-ms", COUNT, AT(head_ms), LIMIT_HEAD_MS, 10, DAY_MS, "MS",
     "from a request's first byte to the end of its head"},
    {"idle-ms", COUNT, AT(idle_ms), LIMIT_IDLE_MS, 10, DAY_MS, "MS",
     "a connection that says nothing"},
    {"write-ms", COUNT, AT(write_ms), LIMIT_HEAD_MS * 3, 10, DAY_MS, "MS",
     "a client that takes none of its reply"},
    {"drain-ms", COUNT, AT(drain_ms), LIMIT_DRAIN_MS, 0, DAY_MS, "MS",
     "running requests, after SIGTERM"},
    {"encoder", TEXT, AT(encoder), 0, 0, 0, "COMMAND",
     "a program that turns prompts into gradients (docs/encoder.md)"},
    {"encoder-timeout-ms", COUNT, AT(encoder_timeout_ms), LIMIT_ENCODER_TIMEOUT_MS, 10, DAY_MS,
     "MS", "one answer of the encoder, or its start"},
    {"scrub-mib-s", COUNT, AT(scrub_mib_s), LIMIT_SCRUB_MIB_S, 0, 1 << 20, "N",
     "MiB a second at which stored rows are read again and checked; 0: never"},
    {"recheck-s", COUNT, AT(recheck_s), LIMIT_RECHECK_S, 0, 7 * 24 * 60 * 60, "S",
     "for so long what was found right is not summed again when it is read; 0: never again"},
    {"shard-bytes", BYTES, AT(shard_bytes), 0, 0, UINT64_C(1) << 46, "BYTES",
     "largest shard; 0: 16G"},
    {"chunk-bytes", BYTES, AT(chunk_bytes), 0, 0, 4 * GIB, "BYTES",
     "encodings in one chunk; 0: 32M"},
    {"new-admin-key", FLAG, AT(new_admin_key), 0, 0, 1, NULL,
     "write a new DIR/admin.key and withdraw the old one"},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

/* While loading: where each value came from, so that the stronger source wins. */
struct loading {
    struct config *c;
    enum source source[SETTINGS];
    enum source from;
    struct err *err;
};

static const char *const source_name[] = {"default", "the file", "the environment", "the flag"};

bool config_bytes(const char *text, uint64_t *out)
{
    static const char units[] = "KMGT";
    size_t digits = strspn(text, "0123456789");
    const char *unit = text + digits, *found;
    unsigned long long n;
    unsigned shift = 0;

    if (digits == 0 || digits > 19)
        return false;
    n = strtoull(text, NULL, 10);
    if (*unit) {
        found = strchr(units, *unit >= 'a' ? *unit - 'a' + 'A' : *unit);
        if (!found || !*found)
            return false;
        shift = 10 * (unsigned)(found - units + 1);
        unit++;
        if (*unit == 'i')
            unit++;
        if (*unit == 'B')
            unit++;
    }
    if (*unit || (shift && n >> (64 - shift)))
        return false;
    *out = (uint64_t)n << shift;
    return true;
}

static int refuse(struct loading *l, const struct setting *s, const char *value, const char *want)
{
    err_set(l->err, ERR_INVALID, "%s: \"%.80s\" (from %s): must be %s", s->name, value,
            source_name[l->from], want);
    return err_at_field(l->err, s->name);
}

static bool truth(const char *text, bool *out)
{
    static const char *const yes[] = {"true", "yes", "on", "1"};
    static const char *const no[] = {"false", "no", "off", "0"};

    for (size_t i = 0; i < 4; i++) {
        if (strcasecmp(text, yes[i]) == 0)
            return *out = true;
        if (strcasecmp(text, no[i]) == 0) {
            *out = false;
            return true;
        }
    }
    return false;
}

static int set_number(struct loading *l, const struct setting *s, const char *value)
{
    uint64_t n;
    bool plain = value[strspn(value, "0123456789")] == '\0';

    if (!config_bytes(value, &n) || (s->type == COUNT && !plain) || n < s->min || n > s->max) {
        char want[96];
        snprintf(want, sizeof want, "a %s from %llu to %llu",
                 s->type == BYTES ? "size (K, M, G, T)" : "whole number",
                 (unsigned long long)s->min, (unsigned long long)s->max);
        return refuse(l, s, value, want);
    }
    *(uint64_t *)((char *)l->c + s->offset) = n;
    return 0;
}

/* One address or several with commas; the first of a stronger source replaces what stood. */
static int set_list(struct loading *l, const struct setting *s, const char *value, bool fresh)
{
    struct config *c = l->c;

    if (fresh)
        c->listen_count = 0;
    while (*value) {
        size_t len = strcspn(value, ", ");
        if (len && c->listen_count == CONFIG_LISTEN_MAX)
            return refuse(l, s, value, "at most 8 addresses");
        if (len)
            c->listen[c->listen_count++] = arena_copy(&c->arena, value, len);
        value += len + (value[len] != '\0');
    }
    return c->listen_count ? 0 : refuse(l, s, value, "an address");
}

static int set(struct loading *l, size_t i, const char *value)
{
    const struct setting *s = &settings[i];
    void *at = (char *)l->c + s->offset;
    bool fresh = l->source[i] != l->from;

    if (l->source[i] > l->from)
        return 0;
    l->source[i] = l->from;
    switch (s->type) {
    case TEXT:
        if (!*value)
            return refuse(l, s, value, "not empty");
        *(const char **)at = arena_copy(&l->c->arena, value, strlen(value));
        return 0;
    case LIST:
        return set_list(l, s, value, fresh);
    case FLAG:
        return truth(value, at) ? 0 : refuse(l, s, value, "true or false");
    case LEVEL:
        if (log_level_from_name(value, at))
            return 0;
        return refuse(l, s, value, "debug, info, warn or error");
    default:
        return set_number(l, s, value);
    }
}

static int find(const char *name, size_t len)
{
    for (int i = 0; i < SETTINGS; i++)
        if (strlen(settings[i].name) == len && strncmp(settings[i].name, name, len) == 0)
            return i;
    return -1;
}

static int unknown(struct loading *l, const char *name)
{
    err_set(l->err, ERR_INVALID, "%s: no such setting (in %s); --help lists them", name,
            source_name[l->from]);
    return err_at_field(l->err, name);
}

static int load_flags(struct loading *l, int argc, char **argv, enum config_result *out)
{
    l->from = BY_FLAG;
    for (int a = 1; a < argc; a++) {
        const char *word = argv[a], *equals = strchr(word, '='), *value;
        int i;

        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            *out = CONFIG_HELP;
            return 0;
        }
        if (strcmp(word, "--version") == 0) {
            *out = CONFIG_VERSION;
            return 0;
        }
        if (strncmp(word, "--", 2) != 0)
            return unknown(l, word);
        i = find(word + 2, equals ? (size_t)(equals - word - 2) : strlen(word + 2));
        if (i < 0)
            return unknown(l, word);
        if (equals)
            value = equals + 1;
        else if (settings[i].type == FLAG)
            value = "true";
        else if (a + 1 < argc)
            value = argv[++a];
        else
            return refuse(l, &settings[i], "", "followed by a value");
        if (set(l, (size_t)i, value))
            return (int)l->err->code;
    }
    return 0;
}

static int load_environment(struct loading *l)
{
    l->from = BY_ENVIRONMENT;
    for (size_t i = 0; i < SETTINGS; i++) {
        char name[64] = "ASCRIBE_";
        size_t n = strlen(name);
        const char *value;

        for (const char *p = settings[i].name; *p; p++)
            name[n++] = *p == '-' ? '_' : (char)(*p - 'a' + 'A');
        name[n] = '\0';
        value = getenv(name);
        if (value && *value && set(l, i, value))
            return (int)l->err->code;
    }
    return 0;
}

static int file_line(void *arg, const char *section, const char *name, const char *value)
{
    struct loading *l = arg;
    int i = find(name, strlen(name));

    (void)section; /* sections are for the reader's eye */
    if (l->err->code)
        return 0;
    if (i < 0)
        unknown(l, name);
    else if (strcmp(name, "config") == 0)
        refuse(l, &settings[i], value, "given by flag or environment");
    else
        set(l, (size_t)i, value);
    return l->err->code == ERR_OK;
}

static int load_file(struct loading *l)
{
    int rc;

    if (!l->c->file)
        return 0;
    l->from = BY_FILE;
    rc = ini_parse(l->c->file, file_line, l);
    if (l->err->code)
        return (int)l->err->code;
    if (rc < 0)
        err_set(l->err, ERR_INVALID, "config: %s: %s", l->c->file, strerror(errno));
    else if (rc > 0)
        err_set(l->err, ERR_INVALID, "config: %s: line %d is not NAME = VALUE", l->c->file, rc);
    return rc ? err_at_field(l->err, "config") : 0;
}

static void load_defaults(struct config *c)
{
    for (size_t i = 0; i < SETTINGS; i++)
        if (settings[i].type == COUNT || settings[i].type == BYTES)
            *(uint64_t *)((char *)c + settings[i].offset) = settings[i].fallback;
    c->log_level = LOG_INFO;
    c->audit = "log";
    c->listen[0] = "127.0.0.1:7171";
    c->listen_count = 1;
}

static int check_encoder(struct config *c, struct err *e)
{
    char **words;
    size_t count;

    if (!c->encoder || !encoder_command_split(c->encoder, &c->arena, &words, &count, e))
        return 0;
    err_wrap(e, "encoder: ");
    return err_at_field(e, "encoder");
}

static int check_together(struct config *c, struct err *e)
{
    long processors;

    if (!c->store) {
        err_set(e, ERR_INVALID, "store: where is it? (--store DIR)");
        return err_at_field(e, "store");
    }
    if (c->body_budget < 2 * c->body_limit) {
        /* one chunked body may hold twice its length while it grows */
        err_set(e, ERR_INVALID, "body-budget: %llu is less than twice body-limit (%llu)",
                (unsigned long long)c->body_budget, (unsigned long long)c->body_limit);
        return err_at_field(e, "body-budget");
    }
    if (check_encoder(c, e))
        return (int)e->code;
    if (c->threads == 0) {
        processors = sysconf(_SC_NPROCESSORS_ONLN);
        c->threads = processors > 0 ? (uint64_t)processors : 1;
    }
    return 0;
}

int config_load(struct config *c, int argc, char **argv, enum config_result *out, struct err *e)
{
    struct loading l = {.c = c, .err = e};

    memset(c, 0, sizeof *c);
    load_defaults(c);
    *out = CONFIG_RUN;
    if (load_flags(&l, argc, argv, out) || *out != CONFIG_RUN)
        return (int)e->code;
    if (load_environment(&l) || load_file(&l))
        return (int)e->code;
    return check_together(c, e);
}

void config_free(struct config *c)
{
    arena_free(&c->arena);
}

static void help_number(FILE *out, const struct setting *s)
{
    static const char *const unit[] = {"", "K", "M", "G", "T"};
    uint64_t n = s->fallback;
    unsigned u = 0;

    while (s->type == BYTES && u < 4 && n && n % 1024 == 0) {
        n /= 1024;
        u++;
    }
    if (s->fallback)
        fprintf(out, " (%llu%s)", (unsigned long long)n, unit[u]);
}

void config_help(FILE *out)
{
    for (size_t i = 0; i < SETTINGS; i++) {
        const struct setting *s = &settings[i];
        char left[48];

        snprintf(left, sizeof left, "--%s%s%s", s->name, s->argument ? " " : "",
                 s->argument ? s->argument : "");
        fprintf(out, "  %-22s %s", left, s->help);
        if (s->type == COUNT || s->type == BYTES)
            help_number(out, s);
        fputc('\n', out);
    }
}
