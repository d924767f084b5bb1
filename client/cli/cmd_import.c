/* cmd_import.c - `ascribe import bergson DIR`: what another program stored, into a corpus. A
 * directory is one store, or several side by side (shards), which become one corpus in the order of
 * their names. Everything is opened and checked before the first row is sent.
 */
#include "client/cli/args.h"
#include "client/cli/import.h"
#include "client/cli/send.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { STORES_MAX = 1000, BLOCKS_MAX = 1024 };

struct store {
    struct bergson bergson;
    struct texts texts;
    struct import import;
};

struct run {
    struct cli *cli;
    const char *folder, *corpus;
    const char *dtype, *model, *examples, *tokens;
    struct texts_columns columns;
    bool encoded, leave_out_bad, unfinished, no_texts;
    uint64_t rows, jobs;
    struct store *stores; /* owned */
    size_t count;
    struct sent sent; /* of all stores */
};

static bool exists(const char *folder, const char *name, char *out, size_t cap)
{
    struct stat st;

    return (size_t)snprintf(out, cap, "%s/%s", folder, name) < cap && stat(out, &st) == 0;
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    while (n > 1 && text[n - 1] == '/')
        n--;
    return n > m && strncmp(text + n - m, end, m) == 0;
}

/* --- Opening ---------------------------------------------------------------------------------- */

static int open_store(struct run *r, const char *folder)
{
    struct store *more = realloc(r->stores, (r->count + 1) * sizeof *more), *s;
    uint64_t first = 0;
    char why[5000], texts[4200];
    bool has_texts;

    if (!more || r->count == STORES_MAX)
        return out_input(r->cli, "%s: no memory, or more than %d stores", folder, STORES_MAX);
    r->stores = more;
    s = &more[r->count];
    *s = (struct store){.texts.lines.fd = -1};
    if (r->count > 0)
        first = more[r->count - 1].import.first + more[r->count - 1].bergson.items;
    s->import = (struct import){.first = first};
    r->count++;
    if (!bergson_open(&s->bergson, folder, why, sizeof why))
        return out_input(r->cli, "%s", why);
    if (r->count > 1 && !json_equal(s->bergson.blocks, r->stores[0].bergson.blocks))
        return out_input(r->cli, "%s: other modules, or in another order, than %s", folder,
                         r->stores[0].bergson.path);
    has_texts = !r->no_texts && exists(folder, "data.hf", texts, sizeof texts);
    if (!texts_open(&s->texts, has_texts && !r->examples ? texts : NULL, r->examples, first,
                    s->bergson.items, &r->columns, why, sizeof why))
        return out_input(r->cli, "%s%s", why,
                         has_texts && !r->examples
                             ? " (--no-texts goes without, --examples FILE.jsonl with others)"
                             : "");
    return EXIT_OK;
}

static int is_store(const struct dirent *d)
{
    return d->d_name[0] != '.' && !ends_in(d->d_name, ".hf");
}

/* A directory of stores, each with an info.json of its own. */
static int open_stores(struct run *r)
{
    struct dirent **list;
    int count = scandir(r->folder, &list, is_store, alphasort), rc = EXIT_OK;
    char path[4200], info[4400];

    if (count < 0)
        return out_input(r->cli, "%s: %s", r->folder, strerror(errno));
    for (int i = 0; i < count; i++) {
        if (rc == EXIT_OK && exists(r->folder, list[i]->d_name, path, sizeof path) &&
            exists(path, "info.json", info, sizeof info))
            rc = ends_in(path, ".part") && !r->unfinished
                     ? out_input(r->cli, "%s: a build that has not finished; --unfinished takes "
                                 "what is there", path)
                     : open_store(r, path);
        free(list[i]);
    }
    free(list);
    if (rc == EXIT_OK && r->count == 0)
        rc = out_input(r->cli, "%s: there is no info.json in it, nor in a directory below: not a "
                       "bergson store", r->folder);
    if (rc == EXIT_OK && r->count > 1 && r->examples)
        rc = out_input(r->cli, "%s has %zu stores; --examples goes with one", r->folder, r->count);
    return rc;
}

static int open_all(struct run *r)
{
    char info[4200];

    if (ends_in(r->folder, ".part") && !r->unfinished)
        return out_input(r->cli, "%s: a build that has not finished; --unfinished takes what is "
                         "there", r->folder);
    if (exists(r->folder, "info.json", info, sizeof info))
        return open_store(r, r->folder);
    return open_stores(r);
}

static void close_all(struct run *r)
{
    for (size_t i = 0; i < r->count; i++) {
        import_close(&r->stores[i].import);
        texts_close(&r->stores[i].texts);
        bergson_close(&r->stores[i].bergson);
    }
    free(r->stores);
}

/* --- The corpus ------------------------------------------------------------------------------- */

static char *definition(const struct run *r)
{
    const struct bergson *b = &r->stores[0].bergson;
    enum asc_dtype t = bergson_dtype(b, b->offsets && strcmp(r->tokens, "sum") == 0);
    const char *dtype = r->dtype ? r->dtype : t == ASC_F16 ? "f16" : t == ASC_BF16 ? "bf16" : "f32";
    json_t *o = json_pack("{s:I, s:s, s:b, s:{s:s}}", "dim", (json_int_t)b->dim, "dtype", dtype,
                          "encoded", r->encoded, "projection", "kind", "bergson");
    char *text;

    if (json_array_size(b->blocks) <= BLOCKS_MAX)
        json_object_set(o, "blocks", b->blocks);
    if (r->model)
        json_object_set_new(o, "model", json_string(r->model));
    text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return text;
}

/* An existing corpus must have the same modules, or one block for all. */
static int check_corpus(const struct run *r, const struct asc_corpus *info)
{
    const struct bergson *b = &r->stores[0].bergson;
    json_t *manifest = json_loads(info->manifest ? info->manifest : "{}", 0, NULL);
    json_t *blocks = json_object_get(manifest, "blocks");
    int rc = EXIT_OK;

    if (info->dim != b->dim)
        rc = out_input(r->cli, "the store's rows have dim %" PRIu64 "; corpus %s has %" PRIu64,
                       b->dim, r->corpus, info->dim);
    else if (json_array_size(blocks) > 1 && !json_equal(blocks, b->blocks))
        rc = out_input(r->cli, "corpus %s has other blocks than the store has modules", r->corpus);
    json_decref(manifest);
    return rc;
}

static int prepare(const struct run *r)
{
    struct asc_corpus info = {0};
    struct asc_client *c;
    struct asc_error e;
    char *text;
    int rc = session_open(r->cli, NULL, NULL, &c);

    if (rc != 0)
        return rc;
    rc = asc_corpus_get(c, r->corpus, &info, &e);
    if (rc == ASC_REFUSED && strcmp(e.code, "unknown_corpus") == 0) {
        text = definition(r);
        rc = text ? asc_corpus_create(c, r->corpus, text, &info, NULL, &e) : ASC_MEMORY;
        free(text);
    }
    rc = rc != 0 ? out_error(r->cli, &e) : check_corpus(r, &info);
    asc_corpus_clear(&info);
    asc_close(c);
    return rc;
}

/* The name of the directory as a corpus's: lower case, other characters as '-'. */
static const char *corpus_name(const char *folder, char out[ASC_NAME_MAX + 1])
{
    char *full = realpath(folder, NULL);
    const char *from = full ? full : folder;
    size_t n = 0;

    from = strrchr(from, '/') ? strrchr(from, '/') + 1 : from;
    for (; *from && n < ASC_NAME_MAX; from++) {
        char c = (char)tolower((unsigned char)*from);

        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
            out[n++] = c;
        else if (n > 0)
            out[n++] = c == '_' ? '_' : '-';
    }
    out[n] = '\0';
    free(full);
    return n > 0 ? out : NULL;
}

/* --- Sending, and what is said ---------------------------------------------------------------- */

static int send_store(struct run *r, struct store *s)
{
    struct source source;
    struct sent sent;
    int rc;

    s->import.store = &s->bergson;
    s->import.texts = &s->texts;
    s->import.tokens = s->bergson.offsets && strcmp(r->tokens, "each") == 0 ? IMPORT_EACH
                                                                            : IMPORT_SUM;
    s->import.leave_out_bad = r->leave_out_bad;
    s->import.rows_per_batch = r->rows;
    import_open(&s->import, &source);
    rc = send_all(r->cli, "import", r->corpus, &source, r->jobs, &sent);
    source_close(&source);
    r->sent.batches += sent.batches;
    r->sent.resent += sent.resent;
    r->sent.examples += sent.examples;
    r->sent.duplicates += sent.duplicates;
    r->sent.bytes += sent.bytes;
    r->sent.seconds += sent.seconds;
    if (sent.sequence > r->sent.sequence)
        r->sent.sequence = sent.sequence;
    return rc;
}

static void tell(const char *what, const struct ranges *x, const char *path)
{
    char list[400], n[32];

    if (x->total == 0)
        return;
    ranges_text(x, list, sizeof list);
    printf("%s: %s %s left out: %s\n", path, out_count(x->total, n), what, list);
}

static void report(const struct run *r)
{
    json_t *o, *zero, *bad;

    if (!r->cli->json) {
        send_print(r->corpus, &r->sent);
        for (size_t i = 0; i < r->count; i++) {
            tell("zero rows", &r->stores[i].import.zero, r->stores[i].bergson.path);
            tell("rows that are not finite", &r->stores[i].import.bad, r->stores[i].bergson.path);
        }
        return;
    }
    o = send_json(r->corpus, &r->sent);
    zero = json_array();
    bad = json_array();
    for (size_t i = 0; i < r->count; i++) {
        json_t *a = ranges_json(&r->stores[i].import.zero);
        json_t *b = ranges_json(&r->stores[i].import.bad);

        json_array_extend(zero, a);
        json_array_extend(bad, b);
        json_decref(a);
        json_decref(b);
    }
    json_object_set_new(o, "stores", json_integer((json_int_t)r->count));
    json_object_set_new(o, "zero_rows", zero);
    json_object_set_new(o, "bad_rows", bad);
    out_json(o);
}

static const char about[] =
    "Stores the gradients of a bergson store, with the texts beside them (data.hf, or\n"
    "--examples). DIR has an info.json, or directories in it have (shards). CORPUS is made when\n"
    "it is not there, a block for each module; without CORPUS it is called as DIR is. Rows that\n"
    "are zero (a document without tokens to predict, or a row never written) are left out and\n"
    "listed. A run that broke is simply run again.";

int cmd_import(struct cli *cli, int argc, char **argv)
{
    struct run r = {.cli = cli, .tokens = "sum", .jobs = 2};
    const struct arg list[] = {
        {"--examples", 0, ARG_TEXT, &r.examples, 0, 0, "FILE", "JSON Lines instead of data.hf"},
        {"--no-texts", 0, ARG_FLAG, &r.no_texts, 0, 0, NULL, "do not read data.hf"},
        {"--text-column", 0, ARG_TEXT, &r.columns.text, 0, 0, "NAME", "which column (text)"},
        {"--id-column", 0, ARG_TEXT, &r.columns.id, 0, 0, "NAME", "ids; else the rows' numbers"},
        {"--id-prefix", 0, ARG_TEXT, &r.columns.prefix, 0, 0, "TEXT", "in front of every id"},
        {"--tokens", 0, ARG_TEXT, &r.tokens, 0, 0, "HOW",
         "of a store of tokens: sum over an example's, or each"},
        {"--leave-out-bad", 0, ARG_FLAG, &r.leave_out_bad, 0, 0, NULL,
         "go on without rows that are not finite"},
        {"--unfinished", 0, ARG_FLAG, &r.unfinished, 0, 0, NULL, "take a .part directory"},
        {"--dtype", 0, ARG_TEXT, &r.dtype, 0, 0, "TYPE", "of a new corpus (as the store has)"},
        {"--encoded", 0, ARG_FLAG, &r.encoded, 0, 0, NULL,
         "of a new corpus: the store is preconditioned already"},
        {"--model", 0, ARG_TEXT, &r.model, 0, 0, "TEXT", "of a new corpus; recorded"},
        {"--rows-per-batch", 0, ARG_COUNT, &r.rows, 1, 65536, "N",
         "rows a batch (for about 32 MiB)"},
        {"--jobs", 'j', ARG_COUNT, &r.jobs, 1, SEND_WORKERS_MAX, "N",
         "batches in flight (2; 1 keeps the rows in order)"},
        {0}};
    const struct args args = {"import bergson DIR [CORPUS] [options]", about, list, 2, 3};
    char name[ASC_NAME_MAX + 1];
    int count, rc = args_parse(cli, &args, argc, argv, &count);

    if (rc >= 0)
        return rc;
    if (strcmp(argv[1], "bergson") != 0)
        return out_usage("import", "\"%s\" is not known; bergson is (for .npy, safetensors and raw "
                         "arrays: ascribe ingest)", argv[1]);
    if (strcmp(r.tokens, "sum") != 0 && strcmp(r.tokens, "each") != 0)
        return out_usage("import", "--tokens takes sum or each, not \"%s\"", r.tokens);
    if (cli->retries == UINT64_MAX)
        cli->retries = 8; /* as ingest */
    r.folder = argv[2];
    r.corpus = count > 2 ? argv[3] : corpus_name(argv[2], name);
    if (!r.corpus)
        return out_usage("import", "%s gives no name for a corpus; say one", argv[2]);
    rc = open_all(&r);
    if (rc == EXIT_OK)
        rc = prepare(&r);
    for (size_t i = 0; rc == EXIT_OK && i < r.count; i++)
        rc = send_store(&r, &r.stores[i]);
    if (rc == EXIT_OK)
        report(&r);
    close_all(&r);
    return rc;
}
