/* args.c - reading the command line by tables. No state of its own. */
#include "client/cli/args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void args_global_list(struct cli *cli, struct arg out[ARGS_GLOBALS])
{
    const struct arg list[ARGS_GLOBALS] = {
        {"--server", 's', ARG_TEXT, &cli->server, 0, 0, "URL",
         "http://HOST:PORT or unix:PATH (ASCRIBE_SERVER; http://127.0.0.1:7171)"},
        {"--key-file", 0, ARG_TEXT, &cli->key_file, 0, 0, "FILE",
         "a file with the key (else ASCRIBE_KEY, else STORE/admin.key)"},
        {"--store", 0, ARG_TEXT, &cli->store, 0, 0, "DIR",
         "a store on this machine, for its admin.key (ASCRIBE_STORE)"},
        {"--retries", 0, ARG_COUNT, &cli->retries, 0, 1000, "N",
         "further attempts when the server is busy or away (2; ingest 8)"},
        {"--timeout", 0, ARG_COUNT, &cli->timeout_s, 1, 86400, "SECONDS",
         "an attempt in which no byte moves for so long has failed (90)"},
        {"--json", 0, ARG_FLAG, &cli->json, 0, 0, NULL, "results and errors as JSON"},
        {"--quiet", 'q', ARG_FLAG, &cli->quiet, 0, 0, NULL, "no progress"},
    };

    memcpy(out, list, sizeof list);
}

static void print_one(const struct arg *a)
{
    char left[40];

    snprintf(left, sizeof left, "%c%c%s %s%s%s", a->letter ? '-' : ' ', a->letter ? a->letter : ' ',
             a->letter ? "," : " ", a->name, a->value ? " " : "", a->value ? a->value : "");
    printf("  %-26s %s\n", left, a->help);
}

void args_print_globals(void)
{
    struct cli none = {0};
    struct arg list[ARGS_GLOBALS];

    args_global_list(&none, list);
    for (int i = 0; i < ARGS_GLOBALS; i++)
        print_one(&list[i]);
}

static void print_help(const struct args *args)
{
    printf("usage: ascribe %s\n\n%s\n", args->usage, args->about);
    if (args->list->name)
        printf("\noptions\n");
    for (const struct arg *a = args->list; a->name; a++)
        print_one(a);
    printf("\noptions of every verb\n");
    args_print_globals();
}

static bool parse_count(const char *text, uint64_t *out)
{
    char *end;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

/* Gives -1 when fine, else the exit code. */
static int assign(const char *verb, const struct arg *a, const char *value)
{
    uint64_t n;

    if (a->kind == ARG_FLAG) {
        *(bool *)a->to = true;
        return -1;
    }
    if (a->kind == ARG_TEXT) {
        *(const char **)a->to = value;
        return -1;
    }
    if (!parse_count(value, &n) || n < a->min || n > a->max)
        return out_usage(verb, "%s takes a number from %llu to %llu, not \"%s\"", a->name,
                         (unsigned long long)a->min, (unsigned long long)a->max, value);
    *(uint64_t *)a->to = n;
    return -1;
}

/* The row that an argument names; *value is what came after "=" or the letter, or NULL. */
static const struct arg *match(const struct arg *list, size_t count, const char *text,
                               const char **value)
{
    for (size_t i = 0; i < count && list[i].name; i++) {
        size_t len = strlen(list[i].name);

        *value = NULL;
        if (strncmp(text, list[i].name, len) == 0 && (text[len] == '\0' || text[len] == '=')) {
            if (text[len] == '=')
                *value = text + len + 1;
            return &list[i];
        }
        if (list[i].letter && text[0] == '-' && text[1] == list[i].letter &&
            (text[2] == '\0' || list[i].kind != ARG_FLAG)) {
            if (text[2])
                *value = text + 2;
            return &list[i];
        }
    }
    return NULL;
}

/* Takes the option at argv[*at] (and its value); moves *at past it. -1 when fine. */
static int take_option(struct cli *cli, const char *verb, const struct arg *list, int argc,
                       char **argv, int *at)
{
    const char *text = argv[*at], *value;
    struct arg global[ARGS_GLOBALS];
    const struct arg *a = list ? match(list, SIZE_MAX, text, &value) : NULL;

    args_global_list(cli, global);
    if (!a)
        a = match(global, ARGS_GLOBALS, text, &value);
    if (!a)
        return out_usage(verb, "there is no option %s", text);
    ++*at;
    if (a->kind == ARG_FLAG && value)
        return out_usage(verb, "%s takes no value", a->name);
    if (a->kind != ARG_FLAG && !value) {
        if (*at >= argc)
            return out_usage(verb, "%s needs a value", a->name);
        value = argv[(*at)++];
    }
    return assign(verb, a, value);
}

static bool wants_help(const char *text)
{
    return strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0;
}

int args_globals(struct cli *cli, int argc, char **argv)
{
    int at = 1;

    while (at < argc && argv[at][0] == '-' && !wants_help(argv[at]) &&
           strcmp(argv[at], "--version") != 0)
        if (take_option(cli, NULL, NULL, argc, argv, &at) >= 0)
            return -1;
    return at;
}

/* Tells the verb's tables: now, or by verbs_run when the usage line names verbs of its own. */
static int survey_parse(struct survey *s, const struct args *args, int *out_count)
{
    const char *second = strchr(args->usage, ' ');

    *out_count = 1;
    if (second && second[1 + strcspn(second + 1, " |")] == '|' && second[1] >= 'a') {
        s->args = args;
        return -1;
    }
    s->tell(s, args, NULL);
    return EXIT_OK;
}

int args_parse(struct cli *cli, const struct args *args, int argc, char **argv, int *out_count)
{
    bool only_positional = false;
    char verb[32];
    int count = 0;

    if (cli->survey)
        return survey_parse(cli->survey, args, out_count);
    snprintf(verb, sizeof verb, "%.*s", (int)strcspn(args->usage, " "), args->usage);
    for (int at = 1; at < argc;) {
        int rc;

        if (only_positional || argv[at][0] != '-' || argv[at][1] == '\0') {
            argv[1 + count++] = argv[at++];
        } else if (strcmp(argv[at], "--") == 0) {
            only_positional = true;
            at++;
        } else if (wants_help(argv[at])) {
            print_help(args);
            return EXIT_OK;
        } else {
            rc = take_option(cli, verb, args->list, argc, argv, &at);
            if (rc >= 0)
                return rc;
        }
    }
    if (count < args->least || (args->most >= 0 && count > args->most))
        return out_usage(verb, "usage: ascribe %s", args->usage);
    *out_count = count;
    return -1;
}
