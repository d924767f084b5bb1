/* cmd_eval.c - `ascribe eval`: how well a corpus answers queries whose right answers are known. The
 * options, what must fit together before anything is asked, and the table.
 */
#include "client/cli/args.h"
#include "client/cli/eval.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS_MAX = 1000, LABEL_COLUMNS = 24 };

struct options {
    const char *corpus, *gold, *queries, *tensor, *task, *engine, *score, *filter, *out, *buckets;
    uint64_t k, resamples, seed;
    bool search;
};

/* One line of the table. */
struct group {
    struct rank_summary summary;
    size_t without; /* queries without gold, not in the summary */
};

/* --- Figures ---------------------------------------------------------------------------------- */

/* The queries with gold of one bucket; of all when it is SIZE_MAX. */
static bool summarise(const struct eval *ev, const struct options *o, size_t bucket,
                      struct group *out)
{
    struct rank_score *list = calloc(ev->gold->count, sizeof *list);
    size_t count = 0;
    bool good;

    out->without = 0;
    for (size_t i = 0; list && i < ev->gold->count; i++) {
        if (bucket != SIZE_MAX && ev->gold->list[i].bucket != bucket)
            continue;
        if (gold_right_count(&ev->gold->list[i]) == 0)
            out->without++;
        else
            list[count++] = ev->scores[i];
    }
    good = list && rank_summarise(list, count, (unsigned)o->resamples, o->seed, &out->summary);
    free(list);
    return good;
}

static json_t *number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *group_json(const struct group *g)
{
    json_t *o = json_pack("{s:I, s:I}", "queries", (json_int_t)g->summary.count, "without_gold",
                          (json_int_t)g->without);

    for (enum rank_figure f = 0; o && f < RANK_FIGURES; f++) {
        const struct rank_span *s = &g->summary.of[f];

        json_object_set_new(o, rank_name(f),
                            json_pack("{s:o, s:o, s:o}", "mean", number(s->mean), "low",
                                      number(s->low), "high", number(s->high)));
    }
    return o;
}

/* --- The answer as JSON ----------------------------------------------------------------------- */

static json_t *run_json(const struct eval *ev, const struct options *o)
{
    const bool words = o->search;

    return json_pack("{s:s, s:s, s:s?, s:s?, s:s?, s:s?, s:s?, s:I, s:I, s:I, s:I, s:I, s:b, s:I,"
                     " s:s?}",
                     "corpus", o->corpus, "method", words ? "search" : "query", "task", o->task,
                     "score", words ? NULL : o->score ? o->score : "cosine", "filter", o->filter,
                     "engine", words ? NULL : ev->engine_used, "exact", words ? NULL : ev->exact,
                     "k", (json_int_t)o->k, "bootstrap", (json_int_t)o->resamples, "seed",
                     (json_int_t)o->seed, "examples", (json_int_t)ev->examples, "generation",
                     (json_int_t)ev->generation, "changed", (int)ev->changed, "missing",
                     (json_int_t)ev->missing, "lists", o->out);
}

static void print_json(const struct eval *ev, const struct options *o, const struct group *groups)
{
    json_t *out = run_json(ev, o), *list;

    json_object_set_new(out, "overall", group_json(&groups[0]));
    if (o->buckets) {
        list = json_array();
        for (size_t i = 0; i < json_array_size(ev->gold->buckets); i++) {
            json_t *g = group_json(&groups[1 + i]);

            json_object_set(g, "value", json_array_get(ev->gold->buckets, i));
            json_array_append_new(list, g);
        }
        json_object_set_new(out, "buckets", json_pack("{s:s, s:o}", "field", o->buckets, "groups",
                                                      list));
    }
    out_json(out);
}

/* --- The answer as a table -------------------------------------------------------------------- */

/* The name of a line; gives the columns it takes. */
static unsigned label(const struct eval *ev, size_t line, char *out, size_t cap)
{
    const json_t *v = line ? json_array_get(ev->gold->buckets, line - 1) : NULL;
    char *text = v && !json_is_string(v) ? json_dumps(v, JSON_ENCODE_ANY) : NULL;
    const char *from = !line ? "all" : text ? text : json_string_value(v);
    unsigned columns;

    from = from ? from : "";
    columns = term_line(from, strlen(from), LABEL_COLUMNS, out, cap);
    free(text);
    return columns;
}

static void print_span(const struct rank_span *s, bool interval, bool last)
{
    char text[40];

    if (!isfinite(s->mean))
        snprintf(text, sizeof text, "-");
    else if (!interval)
        snprintf(text, sizeof text, "%.3f", s->mean);
    else
        snprintf(text, sizeof text, "%.3f [%.3f %.3f]", s->mean, s->low, s->high);
    printf("  %-*s", last ? 0 : interval ? 19 : 12, text);
}

static void print_line(const struct eval *ev, const struct options *o, size_t line,
                       const struct group *g, unsigned width)
{
    char name[200], n[32];
    unsigned used = label(ev, line, name, sizeof name);

    printf("%s%*s  %8s", name, (int)(width - used), "", out_count(g->summary.count, n));
    for (int f = 0; f < RANK_FIGURES; f++)
        print_span(&g->summary.of[f], o->resamples > 0, f + 1 == RANK_FIGURES);
    putchar('\n');
}

static void print_head(const struct eval *ev, const struct options *o, const struct group *all)
{
    char a[32], b[32];

    printf("%s: %s queries %s, lists of %" PRIu64 ", %s examples", o->corpus,
           out_count(ev->gold->count, a), o->search ? "by words" : "by gradients", o->k,
           out_count(ev->examples, b));
    if (!o->search)
        printf(", engine %s, %s", ev->engine_used, ev->exact);
    if (o->task)
        printf(", task %s", o->task);
    if (o->score)
        printf(", score %s", o->score);
    putchar('\n');
    if (all->without > 0)
        printf("%s of the queries have no gold and are not counted\n", out_count(all->without, a));
    if (o->resamples > 0)
        printf("means and 95 %% intervals of %s resamples, seed %" PRIu64 "\n",
               out_count(o->resamples, a), o->seed);
    putchar('\n');
}

static void print_table(const struct eval *ev, const struct options *o, const struct group *groups)
{
    size_t lines = 1 + json_array_size(ev->gold->buckets);
    unsigned width = o->buckets ? (unsigned)strlen(o->buckets) : 3;
    char name[200];

    if (width > LABEL_COLUMNS)
        width = LABEL_COLUMNS;
    for (size_t i = 0; i < lines; i++) {
        unsigned used = label(ev, i, name, sizeof name);

        width = used > width ? used : width;
    }
    print_head(ev, o, &groups[0]);
    printf("%-*.*s  %8s", (int)width, (int)width, o->buckets ? o->buckets : "", "queries");
    for (enum rank_figure f = 0; f < RANK_FIGURES; f++)
        printf("  %-*s", f + 1 == RANK_FIGURES ? 0 : o->resamples > 0 ? 19 : 12, rank_name(f));
    putchar('\n');
    for (size_t i = 0; i < lines; i++)
        print_line(ev, o, i, &groups[i], width);
}

static int report(const struct eval *ev, const struct options *o)
{
    size_t count = 1 + json_array_size(ev->gold->buckets);
    struct group *groups = calloc(count, sizeof *groups);
    bool good = groups && summarise(ev, o, SIZE_MAX, &groups[0]);

    for (size_t i = 1; good && i < count; i++)
        good = summarise(ev, o, i - 1, &groups[i]);
    if (good && ev->cli->json)
        print_json(ev, o, groups);
    else if (good)
        print_table(ev, o, groups);
    free(groups);
    if (ev->changed)
        fputs("ascribe: note: the corpus changed while it was asked\n", stderr);
    if (ev->missing > 0)
        fprintf(stderr, "ascribe: note: up to %" PRIu64 " texts were not yet indexed\n",
                ev->missing);
    return good ? EXIT_OK : out_input(ev->cli, "no memory for the figures");
}

/* --- What must fit together ------------------------------------------------------------------- */

static int check(const struct cli *cli, const struct options *o, const struct gold *g,
                 const struct asc_matrix *m)
{
    if (m && asc_matrix_rows(m) != g->count)
        return out_input(cli, "%s has %" PRIu64 " rows, %s has %zu lines: one line a row is needed",
                         o->queries, asc_matrix_rows(m), o->gold, g->count);
    if (g->without == g->count)
        return out_input(cli, "%s: no query has gold: there is nothing to count", o->gold);
    if (json_array_size(g->buckets) > BUCKETS_MAX)
        return out_input(cli, "%s: \"%s\" has %zu different values; at most %d buckets are made",
                         o->gold, o->buckets, json_array_size(g->buckets), BUCKETS_MAX);
    return EXIT_OK;
}

static int run_lists(struct eval *ev, const struct options *o)
{
    struct pair_file lists;
    char why[600];
    int rc;

    if (o->out) {
        if (!pair_open(&lists, o->out, why, sizeof why))
            return out_input(ev->cli, "%s", why);
        ev->lists = &lists;
    }
    rc = eval_run(ev);
    if (o->out && !pair_close(&lists, rc == EXIT_OK) && rc == EXIT_OK)
        rc = out_input(ev->cli, "%s: could not be written whole", o->out);
    return rc == EXIT_OK ? report(ev, o) : rc;
}

static int run(struct cli *cli, const struct options *o)
{
    struct gold_needs needs = {.text = o->search, .prompt = o->out && !o->search,
                               .target = o->out != NULL, .bucket = o->buckets};
    struct eval ev = {.cli = cli, .corpus = o->corpus, .queries_path = o->queries,
                      .task = o->task, .engine = o->engine, .score = o->score,
                      .filter = o->filter, .k = (uint32_t)o->k};
    struct asc_matrix *m = NULL;
    struct asc_error e;
    struct gold gold;
    char why[600];
    int rc = EXIT_OK;

    if (!gold_open(&gold, o->gold, &needs, why, sizeof why))
        rc = out_input(cli, "%s", why);
    else if (o->queries && asc_matrix_open(o->queries, o->tensor, &m, &e) != 0)
        rc = out_error(cli, &e);
    else
        rc = check(cli, o, &gold, m);
    if (rc == EXIT_OK) {
        ev.gold = &gold;
        ev.matrix = m;
        rc = run_lists(&ev, o);
        eval_clear(&ev);
    }
    asc_matrix_close(m);
    gold_close(&gold);
    return rc;
}

static int check_options(const struct options *o)
{
    size_t len = strlen(o->corpus);

    if (len < 1 || len > ASC_NAME_MAX ||
        strspn(o->corpus, "abcdefghijklmnopqrstuvwxyz0123456789_-") != len)
        return out_usage("eval", "\"%s\" is no name of a corpus", o->corpus);
    if (!o->gold)
        return out_usage("eval", "--gold FILE is missing: the right answers");
    if (!o->queries == !o->search)
        return out_usage("eval", "either --queries FILE or --search");
    if (o->search && (o->task || o->engine || o->score || o->tensor))
        return out_usage("eval", "--search takes no --task, --engine, --score or --tensor");
    return EXIT_OK;
}

static const char about[] =
    "Asks the corpus each query and counts how high the right examples stand: MRR (1 / rank of\n"
    "the first right one, 0 if none is in the list of -k), Recall@10 (1 if any of the first ten\n"
    "is right), Precision@10; means with 95 % bootstrap intervals. gold.jsonl has one object a\n"
    "query, in the order of the rows of FILE: {\"id\":\"q1\",\"gold\":[\"id\",...]}, \"text\" for\n"
    "--search, \"prompt\" and \"target\" for --out, and any further fields.";

int cmd_eval(struct cli *cli, int argc, char **argv)
{
    struct options o = {.k = 100, .resamples = 1000, .seed = 1};
    const struct arg list[] = {
        {"--gold", 0, ARG_TEXT, &o.gold, 0, 0, "FILE", "the right answers, JSON Lines"},
        {"--queries", 0, ARG_TEXT, &o.queries, 0, 0, "FILE",
         "query gradients, a row each: .safetensors or .npy"},
        {"--tensor", 0, ARG_TEXT, &o.tensor, 0, 0, "NAME", "which tensor of a .safetensors"},
        {"--task", 0, ARG_TEXT, &o.task, 0, 0, "NAME", "through this task's Hessian"},
        {"--engine", 0, ARG_TEXT, &o.engine, 0, 0, "NAME", "auto, tiered, flat or scan"},
        {"--score", 0, ARG_TEXT, &o.score, 0, 0, "NAME", "cosine, or dot: not normalised"},
        {"--filter", 0, ARG_TEXT, &o.filter, 0, 0, "EXPR", "only examples for which it holds"},
        {"--search", 0, ARG_FLAG, &o.search, 0, 0, NULL, "ask by words (BM25), not by gradients"},
        {"--k", 'k', ARG_COUNT, &o.k, RANK_DEPTH, 10000, "N", "length of the lists (100)"},
        {"--out", 'o', ARG_TEXT, &o.out, 0, 0, "FILE",
         "the lists, as JSON Lines for the PAIR viewer"},
        {"--buckets", 0, ARG_TEXT, &o.buckets, 0, 0, "FIELD", "also for each value of this field"},
        {"--bootstrap", 0, ARG_COUNT, &o.resamples, 0, 1000000, "N",
         "resamples for the intervals (1000; 0: none)"},
        {"--seed", 0, ARG_COUNT, &o.seed, 0, INT64_MAX, "N", "of the resamples (1)"},
        {0}};
    const struct args args = {"eval CORPUS --gold FILE (--queries FILE | --search) [options]",
                              about, list, 1, 1};
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    if (rc >= 0)
        return rc;
    o.corpus = argv[1];
    rc = check_options(&o);
    return rc == EXIT_OK ? run(cli, &o) : rc;
}
