/* offline.c - see offline.h. Each verb is one row of a table and one function; a result is one line
 * of JSON on standard output, so that scripts can read it. */
#include "server/offline.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "index/kern.h"
#include "server/codes.h"
#include "server/ingest.h"
#include "server/json.h"
#include "server/upkeep.h"
#include "server/manifest.h"
#include "server/scan.h"
#include "server/sigbus.h"
#include "storage/base/mem.h"
#include "storage/fs.h"
#include "storage/maintain.h"

enum exit_code { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USE = 2, EXIT_DAMAGE = 3 };
enum { EXPORT_STEP = 64 };

struct offline {
    const char *verb;
    const char *store, *to, *from, *base, *corpus, *definition;
    char **files; /* what follows the flags */
    int file_count;
    uint64_t began_ns, shown_ns;
};

struct verb {
    const char *name;
    int (*run)(struct offline *o, struct err *e); /* an exit code, or EXIT_FAILED with *e set */
    const char *use, *help;
};

/* ---- progress, for people -------------------------------------------------------------------- */

static bool show_progress(void *arg, uint64_t done, uint64_t total)
{
    struct offline *o = arg;
    uint64_t now = scan_now();
    double seconds = (double)(now - o->began_ns) * 1e-9;

    if (!isatty(STDERR_FILENO) || (done < total && now - o->shown_ns < 200000000u))
        return true;
    o->shown_ns = now;
    fprintf(stderr, "\r%s %5.1f %%  %.1f of %.1f MiB  %.1f MiB/s ", o->verb,
            total ? 100.0 * (double)done / (double)total : 100.0, (double)done / 0x1p20,
            (double)total / 0x1p20, seconds > 0 ? (double)done / 0x1p20 / seconds : 0.0);
    if (done >= total)
        fputc('\n', stderr);
    return true;
}

static struct maintain_progress progress_of(struct offline *o)
{
    return (struct maintain_progress){.report = show_progress, .arg = o};
}

/* One line to standard output; a full disk or a closed pipe is a failure. */
static int print_line(struct buf *line, struct err *e)
{
    bool failed = line->failed;

    if (!failed) {
        buf_add(line, "\n", 1);
        failed = fwrite(line->data, 1, line->len, stdout) != line->len || fflush(stdout);
    }
    buf_free(line);
    return failed ? err_errno(e, errno ? errno : EIO, "write to standard output") : 0;
}

static int open_store(const struct offline *o, bool write, struct store **out, struct err *e)
{
    struct store_options options = {
        .create = write && o->definition, .read_only = !write, .coder = &codes_coder};

    return store_open(o->store, &options, out, e);
}

/* ---- verify, backup, restore ----------------------------------------------------------------- */

struct told {
    struct findings findings;
};

/* Each finding goes to people at once and into the result. */
static void tell(void *arg, const char *line)
{
    struct told *told = arg;

    fprintf(stderr, "%s\n", line);
    upkeep_finding(&told->findings, line);
}

static int run_verify(struct offline *o, struct err *e)
{
    struct maintain_progress progress = progress_of(o);
    struct verify_report report = {0};
    struct told told = {0};
    struct buf line = {0};
    struct store *s = NULL;
    int code = open_store(o, false, &s, e);

    if (code)
        return EXIT_FAILED;
    code = verify_store(s, tell, &told, &progress, &report, e);
    store_close(s);
    if (!code) {
        upkeep_put_findings(&line, &report, &told.findings);
        code = print_line(&line, e);
    }
    buf_free(&told.findings.lines);
    if (code)
        return EXIT_FAILED;
    return told.findings.count || report.damaged_blocks || report.damaged_ids ||
                   report.ledger_faults
               ? EXIT_DAMAGE
               : EXIT_DONE;
}

/* ---- repair ---------------------------------------------------------------------------------- */

struct repairing {
    struct told told; /* first: findings are told as those of verify are */
    FILE *list;       /* what was lost, a JSON object a line */
    bool failed;
};

/* One line, to the file and to standard output. */
static void tell_lost(void *arg, const char *corpus, const char *id, size_t len, const char *what)
{
    struct repairing *r = arg;
    struct buf line = {0};

    buf_format(&line, "{\"corpus\":\"%s\",\"lost\":\"%s\",\"id\":", corpus, what);
    json_put_text(&line, id, len);
    buf_add_text(&line, "}\n");
    r->failed |= line.failed || fwrite(line.data, 1, line.len, r->list) != line.len ||
                 fwrite(line.data, 1, line.len, stdout) != line.len;
    buf_free(&line);
}

static int put_repaired(const struct repairing *r, const struct repair_report *x, const char *path,
                        struct err *e)
{
    struct buf line = {0};

    buf_format(&line,
               "{\"examples_lost\":%" PRIu64 ",\"texts_lost\":%" PRIu64 ",\"batches_lost\":%" PRIu64
               ",\"chunks_dropped\":%" PRIu64 ",\"records_made_again\":%" PRIu64 ",\"list\":",
               x->examples, x->texts, x->batches, x->chunks, x->records);
    json_put_text(&line, path, strlen(path));
    buf_add_text(&line, ",\"left\":");
    upkeep_put_findings(&line, &x->after, &r->told.findings);
    buf_add_text(&line, "}");
    return print_line(&line, e);
}

/* The text index follows from the texts: a server builds it anew. */
static void drop_text_index(const char *store)
{
    static const char *const names[] = {"text.sqlite", "text.sqlite-wal", "text.sqlite-shm"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *path = fs_join(store, names[i]);

        unlink(path);
        free(path);
    }
}

static int repair(struct offline *o, struct store *s, struct repairing *r, const char *path,
                  struct err *e)
{
    struct maintain_progress progress = progress_of(o);
    struct repair_report report = {0};
    int code;

    for (size_t i = 0; i < store_healed(s); i++)
        fprintf(stderr, "%s\n", store_healed_line(s, i));
    code = repair_store(s, tell_lost, r, tell, &progress, &report, e);
    if (!code && (fflush(r->list) || fsync(fileno(r->list)) || r->failed))
        code = err_errno(e, errno ? errno : EIO, path);
    if (!code)
        code = put_repaired(r, &report, path, e);
    if (code)
        return EXIT_FAILED;
    drop_text_index(o->store);
    return r->told.findings.count || report.after.damaged_blocks ? EXIT_DAMAGE : EXIT_DONE;
}

static int run_repair(struct offline *o, struct err *e)
{
    struct store_options options = {.coder = &codes_coder};
    struct repairing r = {0};
    struct store *s = NULL;
    char *path = o->to ? mem_copy(o->to, strlen(o->to)) : fs_join(o->store, "lost.jsonl");
    int code = EXIT_FAILED;

    if (!store_open(o->store, &options, &s, e)) {
        r.list = fopen(path, "a");
        if (r.list)
            code = repair(o, s, &r, path, e);
        else
            err_errno(e, errno, path);
        store_close(s);
    }
    if (r.list)
        fclose(r.list);
    buf_free(&r.told.findings.lines);
    free(path);
    return code;
}

static int print_path(const char *member, const char *path, struct err *e)
{
    struct buf line = {0};

    buf_format(&line, "{\"%s\":", member);
    json_put_text(&line, path, strlen(path));
    buf_add(&line, "}", 1);
    return print_line(&line, e) ? EXIT_FAILED : EXIT_DONE;
}

static int run_backup(struct offline *o, struct err *e)
{
    struct maintain_progress progress = progress_of(o);
    struct store *s = NULL;
    int code = open_store(o, false, &s, e);

    if (code)
        return EXIT_FAILED;
    code = backup_store_since(s, o->to, o->base, &progress, NULL, e);
    store_close(s);
    return code ? EXIT_FAILED : print_path("backup", o->to, e);
}

static int run_restore(struct offline *o, struct err *e)
{
    struct maintain_progress progress = progress_of(o);

    if (restore_store(o->from, o->store, &progress, e))
        return EXIT_FAILED;
    return print_path("store", o->store, e);
}

/* ---- ingest ---------------------------------------------------------------------------------- */

/* The whole file, with a NUL after it, in `a`. */
static int read_file(const char *path, struct arena *a, unsigned char **out, size_t *out_len,
                     struct err *e)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    unsigned char *bytes = NULL;
    size_t len = 0;
    int code = 0;

    if (!f)
        return err_errno(e, errno, path);
    if (fstat(fileno(f), &st) || !S_ISREG(st.st_mode)) {
        code = err_set(e, ERR_INVALID, "%.200s: not a regular file", path);
    } else {
        len = (size_t)st.st_size;
        bytes = arena_big(a, len + 1, 1);
        if (!bytes)
            code = err_set(e, ERR_BUSY, "no memory for the %zu bytes of %.200s", len, path);
        else if (fread(bytes, 1, len, f) != len)
            code = err_set(e, ERR_IO, "%.200s: could not be read to its end", path);
    }
    fclose(f);
    if (code)
        return code;
    bytes[len] = '\0';
    *out = bytes;
    *out_len = len;
    return 0;
}

/* The corpus, made from --definition when it is given. */
static int open_corpus(const struct offline *o, struct store *s, struct corpus **out,
                       struct err *e)
{
    struct arena own = {0};
    struct corpus_def def;
    unsigned char *text;
    size_t len;
    bool created;
    int code = 0;

    if (!store_name_valid(o->corpus, strlen(o->corpus)))
        return err_set(e, ERR_INVALID, "--corpus %.80s: not a name", o->corpus);
    if (o->definition) {
        code = read_file(o->definition, &own, &text, &len, e);
        if (!code)
            code = manifest_read(o->corpus, text, len, &own, &def, e);
        if (!code)
            code = store_corpus_create(s, &def, &created, out, e);
    } else {
        *out = store_corpus_find(s, o->corpus);
        if (!*out)
            code = err_set(e, ERR_UNKNOWN_CORPUS, "no corpus \"%s\"", o->corpus);
    }
    arena_free(&own);
    return code;
}

/* The batch is named by its content, so a broken run is simply run again. */
static int ingest_file(struct store *s, struct corpus *c, const char *path, struct err *e)
{
    struct arena own = {0};
    struct commit_batch batch = {0}, *group[] = {&batch};
    char name[2 * sizeof batch.content_hash + 2] = "x";
    unsigned char *bytes = NULL;
    struct buf line = {0};
    size_t len = 0;
    int code = read_file(path, &own, &bytes, &len, e);

    if (!code)
        code = ingest_decode(bytes, len, c, NULL, NULL, NULL, &own, &batch, e);
    if (!code) {
        bytes_hex(batch.content_hash, sizeof batch.content_hash, name + 1);
        batch.name = name;
        batch.err = ERR_INIT;
        code = commit_group(s, group, 1, e);
    }
    if (!code && batch.err.code) {
        *e = batch.err;
        code = (int)e->code;
    }
    arena_free(&own);
    if (code) {
        err_wrap(e, "%.100s: ", path);
        return code;
    }
    buf_add_text(&line, "{\"file\":");
    json_put_text(&line, path, strlen(path));
    buf_format(&line,
               ",\"batch\":\"%s\",\"already\":%s,\"examples\":%" PRIu64 ",\"duplicates\":%" PRIu64
               ",\"sequence\":%" PRIu64 "}",
               name, batch.already ? "true" : "false", batch.examples_new, batch.duplicates,
               batch.sequence);
    return print_line(&line, e);
}

static int run_ingest(struct offline *o, struct err *e)
{
    struct store *s = NULL;
    struct corpus *c = NULL;
    int code = open_store(o, true, &s, e);

    if (code)
        return EXIT_FAILED;
    code = open_corpus(o, s, &c, e);
    for (int i = 0; !code && i < o->file_count; i++)
        code = ingest_file(s, c, o->files[i], e);
    if (c)
        corpus_release(c);
    store_close(s);
    return code ? EXIT_FAILED : EXIT_DONE;
}

/* ---- export ---------------------------------------------------------------------------------- */

static int export_step(const struct view *v, uint64_t *after, bool *first, size_t *out_count,
                       struct err *e)
{
    struct arena own = {0};
    struct example *list = NULL;
    size_t count = 0;
    int code = view_page(v, *after, *first, EXPORT_STEP, &own, &list, &count, e);

    for (size_t i = 0; !code && i < count; i++) {
        const struct example *x = &list[i];
        struct buf line = {0};

        buf_add_text(&line, "{\"id\":");
        json_put_text(&line, x->id, x->id_len);
        if (x->text) {
            buf_add_text(&line, ",\"text\":");
            json_put_text(&line, x->text, x->text_len);
        }
        if (x->meta) {
            buf_add_text(&line, ",\"meta\":");
            buf_add(&line, x->meta, x->meta_len);
        }
        buf_add(&line, "}", 1);
        code = print_line(&line, e);
        *after = x->sequence;
        *first = false;
    }
    arena_free(&own);
    *out_count = count;
    return code;
}

/* The lines are those that `examples` of a batch takes. */
static int run_export(struct offline *o, struct err *e)
{
    struct store *s = NULL;
    struct corpus *c = NULL;
    const struct view *v;
    uint64_t after = 0;
    size_t count = EXPORT_STEP;
    bool first = true;
    int code = open_store(o, false, &s, e);

    if (code)
        return EXIT_FAILED;
    code = open_corpus(o, s, &c, e);
    if (!code) {
        v = corpus_view(c);
        while (!code && count == EXPORT_STEP)
            code = export_step(v, &after, &first, &count, e);
        view_release(v);
        corpus_release(c);
    }
    store_close(s);
    return code ? EXIT_FAILED : EXIT_DONE;
}

/* ---- the table ------------------------------------------------------------------------------- */

static const struct verb verbs[] = {
    {"verify", run_verify, "--store DIR",
     "walk everything that is stored and check it; exit code 3 when there is damage"},
    {"repair", run_repair, "--store DIR [--to FILE]",
     "drop what is damaged, make again what follows from the rest, list what was lost (in FILE, "
     "or DIR/lost.jsonl); exit code 3 when damage is left"},
    {"backup", run_backup, "--store DIR --to NEW [--base OLD]",
     "copy the store to a new directory; sealed shards that OLD has are links to its files"},
    {"restore", run_restore, "--from BACKUP --store NEW",
     "make a store from a backup, checked before it appears"},
    {"ingest", run_ingest, "--store DIR --corpus NAME [--definition FILE] FILE...",
     "ingest batch files; safe to run again"},
    {"export", run_export, "--store DIR --corpus NAME",
     "write the live examples as JSON Lines"},
};

static const struct verb *find_verb(const char *word)
{
    for (size_t i = 0; word && i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(verbs[i].name, word) == 0)
            return &verbs[i];
    return NULL;
}

bool offline_is_verb(const char *word)
{
    return find_verb(word) != NULL;
}

void offline_help(FILE *out)
{
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        fprintf(out, "  ascribed %s %s\n      %s\n", verbs[i].name, verbs[i].use, verbs[i].help);
}

static const struct {
    struct option option;
    size_t at; /* of the value in struct offline */
} flags[] = {
    {{"store", required_argument, NULL, 's'}, offsetof(struct offline, store)},
    {{"to", required_argument, NULL, 't'}, offsetof(struct offline, to)},
    {{"from", required_argument, NULL, 'f'}, offsetof(struct offline, from)},
    {{"base", required_argument, NULL, 'b'}, offsetof(struct offline, base)},
    {{"corpus", required_argument, NULL, 'c'}, offsetof(struct offline, corpus)},
    {{"definition", required_argument, NULL, 'd'}, offsetof(struct offline, definition)},
};

enum { FLAGS = sizeof flags / sizeof flags[0] };

static const char **value_of(struct offline *o, size_t flag)
{
    return (const char **)(void *)((char *)o + flags[flag].at);
}

/* The line that tells people how a verb is used is also what is checked: --flag when it is
 * taken, and required unless it stands in brackets. */
static bool flag_taken(const struct verb *v, const char *dashed)
{
    return strstr(v->use, dashed) != NULL;
}

static bool flag_required(const struct verb *v, const char *dashed)
{
    const char *at = strstr(v->use, dashed);

    return at && (at == v->use || at[-1] != '[');
}

static void dash(char out[24], const char *name)
{
    snprintf(out, 24, "--%s", name);
}

/* False, with a line on standard error, when the flags are not those of the verb. */
static bool read_flags(struct offline *o, const struct verb *v, int argc, char **argv)
{
    struct option options[FLAGS + 1] = {0};
    int at = 0, got;

    for (size_t i = 0; i < FLAGS; i++)
        options[i] = flags[i].option;
    optind = 1;
    while ((got = getopt_long(argc, argv, "", options, &at)) != -1) {
        char dashed[24];

        if (got == '?')
            return false; /* getopt said what is wrong */
        dash(dashed, options[at].name);
        if (!flag_taken(v, dashed)) {
            fprintf(stderr, "ascribed %s: %s is not taken here\n", v->name, dashed);
            return false;
        }
        *value_of(o, (size_t)at) = optarg;
    }
    o->files = argv + optind;
    o->file_count = argc - optind;
    for (size_t i = 0; i < FLAGS; i++) {
        char dashed[24];

        dash(dashed, options[i].name);
        if (flag_required(v, dashed) && !*value_of(o, i)) {
            fprintf(stderr, "ascribed %s: %s is missing\n", v->name, dashed);
            return false;
        }
    }
    if ((o->file_count > 0) != flag_taken(v, "FILE...")) {
        fprintf(stderr, "ascribed %s: %s\n", v->name,
                o->file_count ? "takes no files" : "no batch files");
        return false;
    }
    return true;
}

int offline_main(int argc, char **argv)
{
    const struct verb *v = argc > 1 ? find_verb(argv[1]) : NULL;
    struct offline o = {.began_ns = scan_now()};
    struct err e = ERR_INIT;
    int code;

    if (!v || !read_flags(&o, v, argc - 1, argv + 1)) {
        fprintf(stderr, "use:\n");
        offline_help(stderr);
        return EXIT_USE;
    }
    o.verb = v->name;
    if (sodium_init() < 0)
        return EXIT_FAILED;
    kern_init(NULL);
    sigbus_watch(EXIT_DAMAGE);
    code = v->run(&o, &e);
    if (e.code)
        fprintf(stderr, "ascribed %s: %s (%s)\n", v->name, e.text, err_word(e.code));
    return code;
}
