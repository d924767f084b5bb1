/* cmd_key.c - `ascribe key create|list|rotate|revoke`. A new key goes alone to standard output, so
 * that `ascribe key create > file` makes a key file; words about it go to standard error. */
#include "client/cli/args.h"
#include "client/cli/verbs.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct key_options {
    const char *scope, *label, *corpus, *expires, *overlap;
    uint64_t rate;
};

/* "90d", "12h", "30m", "10s", "2w": whole numbers with a unit. */
static bool read_duration(const char *text, uint64_t *out)
{
    static const struct {
        char unit;
        uint64_t seconds;
    } row[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
    char *end;
    unsigned long long n;

    if (*text < '0' || *text > '9' || strlen(text) > 12)
        return false;
    n = strtoull(text, &end, 10);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        if (end[0] == row[i].unit && end[1] == '\0') {
            *out = n * row[i].seconds;
            return true;
        }
    return false;
}

/* "2027-01-31": seconds from now to its beginning, UTC. False too when that is past. */
static bool read_date(const char *text, uint64_t *out)
{
    struct tm tm = {0};
    const char *end = strptime(text, "%Y-%m-%d", &tm);
    time_t when = timegm(&tm), now = time(NULL);

    if (!end || *end || when <= now)
        return false;
    *out = (uint64_t)(when - now);
    return true;
}

static json_t *as_json(const struct asc_key *k)
{
    json_t *o = json_pack("{s:s, s:s, s:s?, s:s?, s:s, s:s?, s:s?}", "id", k->id, "scope", k->scope,
                          "corpus", k->corpus[0] ? k->corpus : NULL, "label", k->label, "created",
                          k->created, "expires", k->expires[0] ? k->expires : NULL, "last_used",
                          k->last_used[0] ? k->last_used : NULL);

    if (o)
        json_object_set_new(o, "rate", k->rate ? json_integer((json_int_t)k->rate) : json_null());
    return o;
}

static int show_secret(struct cli *cli, struct asc_key *k, const char *replaced, uint64_t overlap)
{
    char room[32], rest[96] = "";

    if (cli->json) {
        json_t *o = as_json(k);
        json_object_set_new(o, "key", json_string(k->secret));
        if (replaced)
            json_object_set_new(o, "replaces", json_string(replaced));
        out_json(o);
    } else {
        puts(k->secret);
        if (k->corpus[0])
            snprintf(rest, sizeof rest, ", corpus %s", k->corpus);
        fprintf(stderr, "ascribe: key %s, scope %s%s%s%s; it is shown only this once\n", k->id,
                k->scope, rest, k->expires[0] ? ", until " : "", k->expires);
        if (replaced && overlap)
            fprintf(stderr, "ascribe: key %s works for another %s\n", replaced,
                    out_duration((double)overlap, room));
        else if (replaced)
            fprintf(stderr, "ascribe: key %s has ended\n", replaced);
    }
    asc_key_clear(k);
    return EXIT_OK;
}

static int create(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    const struct key_options *o = options;
    struct asc_key_grant grant = {
        .scope = o->scope, .label = o->label, .corpus = o->corpus, .rate = o->rate};
    struct asc_key k;
    struct asc_error e;

    (void)at;
    if (o->expires && !read_duration(o->expires, &grant.expires_s) &&
        !read_date(o->expires, &grant.expires_s))
        return out_usage("key", "--expires %s: a time like 90d or 12h, or a day to come like "
                                "2030-01-31", o->expires);
    if (o->expires && grant.expires_s == 0)
        return out_usage("key", "--expires %s: such a key would never work", o->expires);
    if (asc_key_create(c, &grant, &k, &e) != 0)
        return out_error(cli, &e);
    return show_secret(cli, &k, NULL, 0);
}

static int rotate(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    const struct key_options *o = options;
    uint64_t overlap;
    struct asc_key k;
    struct asc_error e;

    if (!read_duration(o->overlap, &overlap))
        return out_usage("key", "--overlap %s: a time like 7d, 12h or 0s", o->overlap);
    if (asc_key_rotate(c, at[0], overlap, &k, &e) != 0)
        return out_error(cli, &e);
    return show_secret(cli, &k, at[0], overlap);
}

static void show_row(const struct asc_key *k)
{
    char label[512];

    term_line(k->label ? k->label : "", k->label ? strlen(k->label) : 0, 0, label, sizeof label);
    printf("%-16s %-6s %-16s %-20s %-20s %-20s %s\n", k->id, k->scope,
           k->corpus[0] ? k->corpus : "*", k->created, k->expires[0] ? k->expires : "-",
           k->last_used[0] ? k->last_used : "-", label);
}

static int list_all(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    struct asc_key *list;
    struct asc_error e;
    size_t count;

    (void)at;
    (void)options;
    if (asc_key_list(c, &list, &count, &e) != 0)
        return out_error(cli, &e);
    if (!cli->json && count > 0)
        printf("%-16s %-6s %-16s %-20s %-20s %-20s %s\n", "id", "scope", "corpus", "created",
               "expires", "last used", "label");
    for (size_t i = 0; i < count; i++)
        if (cli->json)
            out_json(as_json(&list[i]));
        else
            show_row(&list[i]);
    asc_keys_free(list, count);
    return EXIT_OK;
}

static int revoke(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    struct asc_error e;

    (void)options;
    if (asc_key_revoke(c, at[0], &e) != 0)
        return out_error(cli, &e);
    return out_done(cli, "revoked", at[0]);
}

int cmd_key(struct cli *cli, int argc, char **argv)
{
    static const struct verb verbs[] = {{"create", "", 0, create},
                                        {"list", "", 0, list_all},
                                        {"rotate", "ID", 0, rotate},
                                        {"revoke", "ID", 0, revoke},
                                        {0}};
    struct key_options o = {.scope = "read", .overlap = "1d"};
    const struct arg list[] = {
        {"--scope", 0, ARG_TEXT, &o.scope, 0, 0, "SCOPE", "read (default), write or admin"},
        {"--label", 0, ARG_TEXT, &o.label, 0, 0, "TEXT", "what it is for"},
        {"--corpus", 0, ARG_TEXT, &o.corpus, 0, 0, "CORPUS", "for this one alone (read or write)"},
        {"--expires", 0, ARG_TEXT, &o.expires, 0, 0, "TIME",
         "90d, 12h ... or a day 2030-01-31 (never)"},
        {"--rate", 0, ARG_COUNT, &o.rate, 1, 1000000, "N",
         "requests a second (as the server has it)"},
        {"--overlap", 0, ARG_TEXT, &o.overlap, 0, 0, "TIME",
         "rotate: the old key works so long (1d)"},
        {0}};
    const struct args args = {"key create|list|rotate|revoke [ID] [options]",
                              "  key create        a new key on standard output, shown this once\n"
                              "  key list          ids, scopes, ends, last use and labels\n"
                              "  key rotate ID     another with the same rights; the old one ends\n"
                              "  key revoke ID     effective at once",
                              list, 1, 2};
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    return rc >= 0 ? rc : verbs_run(cli, "key", verbs, count, argv, &o);
}
