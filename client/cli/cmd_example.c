/* cmd_example.c - `ascribe example get|list|delete|encoding`. */
#include "client/cli/args.h"
#include "client/cli/verbs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static json_t *as_json(const struct asc_stored *x)
{
    json_t *o = json_pack("{s:s, s:I, s:f}", "id", x->id, "sequence",
                          (json_int_t)x->sequence, "norm", x->norm);

    if (o)
        json_object_set_new(o, "text", x->text ? json_stringn(x->text, x->text_len) : json_null());
    if (o)
        json_object_set_new(o, "meta", x->meta ? json_loads(x->meta, 0, NULL) : json_null());
    return o;
}

struct example_options {
    const char *after, *out, *filter;
    uint64_t limit;
    bool all;
};

static int get(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    struct asc_stored x;
    struct asc_error e;

    (void)options;
    if (asc_example_get(c, at[0], at[1], &x, &e) != 0)
        return out_error(cli, &e);
    if (cli->json) {
        out_json(as_json(&x));
    } else {
        printf("id        %s\nsequence  %" PRIu64 "\nnorm      %.9g\n", x.id, x.sequence, x.norm);
        if (x.meta)
            printf("meta      %s\n", x.meta);
        if (x.text) {
            putchar('\n');
            term_text(x.text, x.text_len);
            putchar('\n');
        }
    }
    asc_stored_clear(&x);
    return EXIT_OK;
}

static void print_row(const struct asc_stored *x, unsigned columns)
{
    char id[1100], line[8192] = "";
    unsigned used = term_line(x->id, strlen(x->id), columns ? 32 : 0, id, sizeof id);
    unsigned left = 10 + 2 + (used < 24 ? 24 : used) + 2;

    if (x->text)
        term_line(x->text, x->text_len, columns > left + 10 ? columns - left : columns ? 10 : 0,
                  line, sizeof line);
    printf("%10" PRIu64 "  %s%*s  %s\n", x->sequence, id, used < 24 ? (int)(24 - used) : 0, "",
           line);
}

/* One page, or with `all` every page after `after`. */
static int list_pages(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    const struct example_options *o = options;
    unsigned limit = o->all ? 1000 : (unsigned)o->limit;
    unsigned columns = term_columns(STDOUT_FILENO);
    struct asc_page page;
    struct asc_error e;
    char *cursor = o->after ? strdup(o->after) : NULL;
    bool more = true, told = false;

    while (more) {
        if (asc_example_find(c, at[0], o->filter, cursor, limit, &page, &e) != 0) {
            free(cursor);
            return out_error(cli, &e);
        }
        for (size_t i = 0; i < page.count; i++)
            if (cli->json)
                out_json(as_json(&page.examples[i]));
            else
                print_row(&page.examples[i], columns);
        free(cursor);
        cursor = page.next;
        page.next = NULL;
        if (!told)
            out_damage(cli, &page.damage, true);
        told = page.damage.partial; /* each page says it of all */
        asc_page_clear(&page);
        more = o->all && cursor && !session_stopped() && !ferror(stdout);
    }
    if (cursor && !cli->quiet && !o->all)
        fprintf(stderr, cli->json ? "{\"next\":\"%s\"}\n" : "more: --after %s\n", cursor);
    free(cursor);
    return session_stopped() ? EXIT_STOPPED : EXIT_OK;
}

static int delete_all(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    struct asc_error e;

    (void)options;
    for (char *const *id = at + 1; *id; id++) {
        if (asc_example_delete(c, at[0], *id, &e) != 0)
            return out_error(cli, &e);
        out_done(cli, "deleted", *id);
    }
    return EXIT_OK;
}

/* The vector as float32: every value of f16 and bf16 is one exactly. */
static float *widen(const struct asc_encoding *x)
{
    const unsigned char *p = x->data;
    float *out = malloc((size_t)x->dim * sizeof *out + 1);

    for (uint64_t i = 0; out && i < x->dim; i++) {
        uint32_t bits, half;

        if (x->dtype == ASC_F32) {
            memcpy(&out[i], p + 4 * i, 4);
            continue;
        }
        half = (uint32_t)p[2 * i] | (uint32_t)p[2 * i + 1] << 8;
        if (x->dtype == ASC_BF16) {
            bits = half << 16;
            memcpy(&out[i], &bits, 4);
        } else if ((half & 0x7c00) == 0) { /* zero and subnormals: a multiple of 2^-24 */
            out[i] = (float)(half & 0x3ff) * (half & 0x8000 ? -0x1p-24f : 0x1p-24f);
        } else {
            bits = ((half & 0x8000) << 16) | (((half & 0x7fff) << 13) + 0x38000000u);
            memcpy(&out[i], &bits, 4);
        }
    }
    return out;
}

static int encoding(struct cli *cli, struct asc_client *c, char *const *at, void *options)
{
    const struct example_options *o = options;
    const char *id = at[1], *out = o->out;
    struct asc_encoding x;
    struct asc_query q = {.rows = 1, .dtype = ASC_F32};
    struct asc_error e;
    float *values;
    int rc;

    if (asc_example_encoding(c, at[0], id, &x, &e) != 0)
        return out_error(cli, &e);
    values = widen(&x);
    if (!values) {
        asc_encoding_clear(&x);
        return out_input(cli, "no memory for %" PRIu64 " values", x.dim);
    }
    q.dim = x.dim;
    q.vectors = values;
    rc = out ? asc_query_save(&q, out, &e) : 0;
    if (rc != 0)
        rc = out_error(cli, &e);
    else if (cli->json && out)
        out_json(json_pack("{s:s, s:s, s:I, s:I, s:f}", "file", out, "id", id, "dim",
                           (json_int_t)x.dim, "sequence", (json_int_t)x.sequence, "norm", x.norm));
    else if (out)
        printf("%s: the encoding of %s, %" PRIu64 " values\n", out, id, x.dim);
    else
        for (uint64_t i = 0; i < x.dim; i++)
            printf("%.9g\n", (double)values[i]);
    free(values);
    asc_encoding_clear(&x);
    return rc;
}

static const char about[] =
    "  example get CORPUS ID               one example: text, meta, norm\n"
    "  example list CORPUS                 by ingest order (--filter, --after, --limit, --all)\n"
    "  example delete CORPUS ID...         takedown, effective at once\n"
    "  example encoding CORPUS ID          its stored unit vector, a value a line; with --out a\n"
    "                                      .safetensors that `ascribe query` takes";

int cmd_example(struct cli *cli, int argc, char **argv)
{
    static const struct verb verbs[] = {{"get", "CORPUS ID", 0, get},
                                        {"list", "CORPUS", 0, list_pages},
                                        {"delete", "CORPUS ID...", 0, delete_all},
                                        {"encoding", "CORPUS ID", 0, encoding},
                                        {0}};
    struct example_options o = {.limit = 100};
    const struct arg list[] = {
        {"--filter", 0, ARG_TEXT, &o.filter, 0, 0, "EXPR", "list: only those for which it holds"},
        {"--after", 0, ARG_TEXT, &o.after, 0, 0, "CURSOR", "list: where the last page ended"},
        {"--limit", 'n', ARG_COUNT, &o.limit, 1, 1000, "N", "list: examples of one page (100)"},
        {"--all", 0, ARG_FLAG, &o.all, 0, 0, NULL, "list: every page"},
        {"--out", 'o', ARG_TEXT, &o.out, 0, 0, "FILE", "encoding: write it there"},
        {0}};
    const struct args args = {"example get|list|delete|encoding CORPUS [ID...] [options]", about,
                              list, 2, -1};
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    return rc >= 0 ? rc : verbs_run(cli, "example", verbs, count, argv, &o);
}
