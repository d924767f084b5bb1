/* cmd_completion.c - `ascribe completion bash|zsh`: a script for the shell. The script asks
 * `ascribe completion words -- WORD...` what may stand in place of the last word; the answers come
 * from the same tables that parse the command line, so there is no second list to keep. Names of
 * corpora are asked of the server, within a second. */
#include "client/cli/args.h"
#include "client/cli/verbs.h"

#include <stdlib.h>
#include <string.h>

enum { OPTIONS_MAX = 64, WORDS_MAX = 256, ASK_SECONDS = 1 };

static const char bash_script[] =
    "# bash completion of ascribe; made by `ascribe completion bash`.\n"
    "_ascribe() {\n"
    "    local cur=${COMP_WORDS[COMP_CWORD]} line IFS=$'\\n'\n"
    "    [[ $cur == '=' ]] && cur=\n"
    "    COMPREPLY=()\n"
    "    while read -r line; do\n"
    "        case $line in\n"
    "        :files) compopt -o filenames; COMPREPLY+=($(compgen -f -- \"$cur\")) ;;\n"
    "        :folders) compopt -o filenames; COMPREPLY+=($(compgen -d -- \"$cur\")) ;;\n"
    "        *) COMPREPLY+=(\"${line%%$'\\t'*}\") ;;\n"
    "        esac\n"
    "    done < <(\"${COMP_WORDS[0]}\" completion words -- \\\n"
    "        \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null)\n"
    "}\n"
    "complete -F _ascribe ascribe\n";

static const char zsh_script[] =
    "#compdef ascribe\n"
    "# zsh completion of ascribe; made by `ascribe completion zsh`.\n"
    "_ascribe() {\n"
    "    local line\n"
    "    local -a found lines\n"
    "    lines=(\"${(@f)$(${words[1]} completion words -- \\\n"
    "        \"${(@Q)words[2,CURRENT]}\" 2>/dev/null)}\")\n"
    "    compset -P '--*='\n"
    "    for line in $lines; do\n"
    "        case $line in\n"
    "        :files) _files ;;\n"
    "        :folders) _files -/ ;;\n"
    "        *) found+=(\"${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}\") ;;\n"
    "        esac\n"
    "    done\n"
    "    (( $#found )) && _describe ascribe found\n"
    "}\n"
    "if [[ $funcstack[1] == _ascribe ]]; then _ascribe \"$@\"; else compdef _ascribe ascribe; fi\n";

/* Values that are words of a list. */
static const struct {
    const char *option, *words;
} choices[] = {
    {"--dtype", "f32 f16 bf16"},       {"--engine", "auto tiered flat scan"},
    {"--score", "cosine dot"},         {"--precision", "certified probabilistic"},
    {"--scope", "read write admin"},   {"--format", "safetensors npy jsonl bergson"},
    {"--tokens", "sum each"},           {"--raw", "f32 f16 bf16"},
};

/* What is known of the line so far. */
struct line {
    struct survey survey; /* first: tell() gets back from it */
    struct cli *cli;
    const char *verb;
    struct arg options[OPTIONS_MAX + ARGS_GLOBALS]; /* of the verb, then of every verb */
    size_t count;
    const char *takes;        /* "CORPUS FILE" */
    const struct verb *verbs; /* the verb's own, until one of them is given */
    size_t given;             /* of what it takes */
    const struct arg *open;   /* the last word is this option's value */
    bool only_positional;     /* behind "--" */
};

/* ---- answers --------------------------------------------------------------------------------- */

static void answer(const char *word, size_t len, const char *help, const char *begin)
{
    if (strncmp(word, begin, strlen(begin)) == 0 && len >= strlen(begin))
        printf("%.*s\t%s\n", (int)len, word, help);
}

static void answer_corpora(struct cli *cli, const char *begin)
{
    struct asc_corpus *list;
    struct asc_client *c;
    struct asc_error e;
    size_t count;

    cli->retries = 0;
    cli->timeout_s = ASK_SECONDS;
    if (session_open(cli, NULL, NULL, &c) != 0)
        return;
    if (asc_corpus_list(c, &list, &count, &e) == 0) {
        for (size_t i = 0; i < count; i++)
            answer(list[i].name, strlen(list[i].name), "corpus", begin);
        asc_corpora_free(list, count);
    }
    asc_close(c);
}

/* Answers for a word that usage lines write in capitals. */
static void answer_kind(struct line *l, const char *kind, size_t len, const char *begin)
{
    bool own_name = l->verb && strcmp(l->verb, "corpus") == 0 && len == 4 &&
                    strncmp(kind, "NAME", 4) == 0;

    if (own_name || (len >= 6 && strncmp(kind, "CORPUS", 6) == 0))
        answer_corpora(l->cli, begin);
    else if (strncmp(kind, "DIR", 3) == 0)
        puts(":folders");
    else if (strncmp(kind, "FILE", 4) == 0 || (len > 5 && strncmp(kind + len - 5, ".json", 5) == 0))
        puts(":files");
}

static void answer_value(struct line *l, const struct arg *a, const char *begin)
{
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        if (strcmp(choices[i].option, a->name) != 0)
            continue;
        for (const char *w = choices[i].words; *w; w += strspn(w, " ")) {
            size_t len = strcspn(w, " ");
            answer(w, len, a->help, begin);
            w += len;
        }
        return;
    }
    answer_kind(l, a->value ? a->value : "", a->value ? strlen(a->value) : 0, begin);
}

static void answer_options(const struct line *l, const char *begin)
{
    char shorter[3] = "-";

    for (size_t i = 0; i < l->count; i++) {
        const struct arg *a = &l->options[i];

        answer(a->name, strlen(a->name), a->help, begin);
        shorter[1] = a->letter;
        if (a->letter && strcmp(begin, shorter) == 0)
            answer(shorter, 2, a->help, begin);
    }
    answer("--help", 6, "what it takes", begin);
}

static void answer_positional(struct line *l, const char *begin)
{
    const char *at = l->takes ? l->takes : "";
    size_t len = strcspn(at, " ");

    if (!l->verb)
        for (const struct command *c = l->cli->commands; c->name; c++)
            answer(c->name, strlen(c->name), c->summary, begin);
    for (const struct verb *v = l->verbs; v && v->name; v++)
        answer(v->name, strlen(v->name), v->takes, begin);
    if (!l->verb || l->verbs)
        return;
    for (size_t i = 0; i < l->given && at[len]; i++) {
        if (strstr(at, "...") && strcspn(at + len + 1, "[-|") == 0)
            break; /* what follows are options, or another way to use it */
        at += len + 1;
        len = strcspn(at, " ");
    }
    if (len > 2 && *at == '[' && at[1] != '-') { /* "[CORPUS]" */
        at++;
        len--;
    }
    if (*at >= 'a' && *at <= 'z')
        answer(at, strcspn(at, " |"), "", begin);
    else
        answer_kind(l, at, strcspn(at, " |]"), begin);
}

/* ---- reading the line ------------------------------------------------------------------------ */

static void tell(struct survey *s, const struct args *args, const struct verb *verbs)
{
    struct line *l = (struct line *)(void *)s;
    const char *space = strchr(args->usage, ' ');

    l->count = 0;
    while (args->list[l->count].name && l->count < OPTIONS_MAX) {
        l->options[l->count] = args->list[l->count];
        l->count++;
    }
    args_global_list(l->cli, l->options + l->count);
    l->count += ARGS_GLOBALS;
    l->takes = space ? space + 1 : "";
    l->verbs = verbs;
}

static void take_verb(struct line *l, char *word)
{
    char empty[] = "", *argv[] = {word, empty, NULL};

    l->verb = word;
    l->takes = "";
    for (const struct command *c = l->cli->commands; c->name; c++)
        if (strcmp(c->name, word) == 0) {
            l->cli->survey = &l->survey;
            c->run(l->cli, 2, argv);
            l->cli->survey = NULL;
        }
}

static void take_positional(struct line *l, char *word)
{
    if (!l->verb) {
        take_verb(l, word);
    } else if (l->verbs) {
        const struct verb *v = l->verbs;

        while (v->name && strcmp(v->name, word) != 0)
            v++;
        l->takes = v->name ? v->takes : "";
        l->verbs = NULL;
    } else {
        l->given++;
    }
}

/* An option and, when it wants one, its value in the next word: 2 words then, else 1. A value of
 * a global option is kept: it says which server to ask. */
static int take_option(struct line *l, char *word, char *next, bool next_is_last)
{
    for (size_t i = 0; i < l->count; i++) {
        const struct arg *a = &l->options[i];
        size_t len = strlen(a->name);
        bool is_long = strncmp(word, a->name, len) == 0;
        char *value = is_long && word[len] == '=' ? word + len + 1 : next;

        if (!(is_long && (word[len] == '=' || word[len] == '\0')) &&
            !(a->letter && word[1] == a->letter && word[2] == '\0'))
            continue;
        if (a->kind == ARG_FLAG)
            return 1;
        if (value == next && next_is_last)
            l->open = a;
        else if (i >= l->count - ARGS_GLOBALS && a->kind == ARG_TEXT)
            *(const char **)a->to = value;
        return value == next ? 2 : 1;
    }
    return 1;
}

/* bash cuts words at "=" and ":"; this joins them again: {"--engine", "=", "ti"} and the like. */
static int join_words(int count, char **word, char *out[WORDS_MAX])
{
    bool glue = false;
    int n = 0;

    for (int i = 0; i < count && n < WORDS_MAX - 1; i++) {
        bool mark = *word[i] && word[i][strspn(word[i], "=:")] == '\0';
        char *joined = NULL;

        if (n && (glue || mark) && asprintf(&joined, "%s%s", out[n - 1], word[i]) < 0)
            break;
        if (joined) {
            free(out[n - 1]);
            out[n - 1] = joined;
        } else {
            out[n++] = strdup(word[i]);
        }
        glue = mark;
    }
    return n;
}

/* What may stand in place of the last word. */
static void complete_words(struct line *l, int count, char **word)
{
    char *last = word[count - 1], *equals;

    for (int i = 0; i < count - 1;) {
        if (l->only_positional || word[i][0] != '-' || !word[i][1])
            take_positional(l, word[i++]);
        else if (strcmp(word[i], "--") == 0)
            l->only_positional = word[i++] != NULL;
        else
            i += take_option(l, word[i], word[i + 1], i + 1 == count - 1);
    }
    equals = strncmp(last, "--", 2) == 0 ? strchr(last, '=') : NULL;
    if (l->open) {
        answer_value(l, l->open, last);
    } else if (l->only_positional || *last != '-') {
        answer_positional(l, last);
    } else if (!equals) {
        answer_options(l, last);
    } else {
        for (size_t i = 0; i < l->count; i++)
            if (strlen(l->options[i].name) == (size_t)(equals - last) &&
                strncmp(l->options[i].name, last, (size_t)(equals - last)) == 0)
                answer_value(l, &l->options[i], equals + 1);
    }
}

static int words(struct cli *cli, int count, char **word)
{
    struct line l = {.survey = {.tell = tell}, .cli = cli};
    char *joined[WORDS_MAX];
    int n = join_words(count, word, joined);

    args_global_list(cli, l.options);
    l.count = ARGS_GLOBALS;
    if (n)
        complete_words(&l, n, joined);
    for (int i = 0; i < n; i++)
        free(joined[i]);
    return EXIT_OK; /* a shell in the middle of a line wants no complaints */
}

int cmd_completion(struct cli *cli, int argc, char **argv)
{
    static const struct arg list[] = {{0}};
    static const struct args args = {
        "completion bash|zsh",
        "Prints a script that has the shell complete verbs, options, their values, file names and\n"
        "the names of corpora:\n\n"
        "  source <(ascribe completion bash)       in ~/.bashrc\n"
        "  source <(ascribe completion zsh)        in ~/.zshrc, behind compinit\n\n"
        "Names of corpora come from the server, within a second or not at all.",
        list, 1, -1};
    static const struct verb shells[] = {{"bash", "", 0, NULL}, {"zsh", "", 0, NULL}, {0}};
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    if (rc >= 0)
        return rc;
    if (cli->survey) {
        cli->survey->tell(cli->survey, &args, shells);
        return EXIT_OK;
    }
    if (strcmp(argv[1], "words") == 0)
        return words(cli, count - 1, argv + 2);
    if (count != 1 || (strcmp(argv[1], "bash") != 0 && strcmp(argv[1], "zsh") != 0))
        return out_usage("completion", "usage: ascribe %s", args.usage);
    fputs(*argv[1] == 'b' ? bash_script : zsh_script, stdout);
    return EXIT_OK;
}
