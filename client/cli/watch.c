/* watch.c - see watch.h. inotify only wakes us sooner: what there is to do is always found by
 * reading the directory, which is right on network file systems and after any event was lost.
 */
#include "client/cli/watch.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/source.h"

enum {
    LOOK_MS = 2000,  /* between two looks when nothing wakes us */
    SETTLE_S = 5,    /* a file that is not whole may still grow for so long after its last change */
    AWAY_MS = 5000,  /* between two tries while the server is away */
    PATH_ROOM = 4200,
};

enum fate { FATE_NEW, FATE_STORED, FATE_BAD };

/* One thing to store, by the name of its first file. */
struct drop {
    char *name; /* owned */
    off_t size;
    struct timespec changed;
    enum fate fate;
};

struct looker {
    struct cli *cli;
    const struct watch *w;
    struct asc_client *client; /* owned */
    struct drop *drops;        /* owned; ascending by name: what the last look saw */
    size_t count;
    int events; /* inotify, or -1 */
    bool away, status, stop;
    int code; /* of the last file that could not be stored */
    uint64_t files, examples, duplicates, bad, waiting;
};

/* --- What is there ---------------------------------------------------------------------------- */

static bool path_of(const char *folder, const char *name, char *out)
{
    return (size_t)snprintf(out, PATH_ROOM, "%s/%s", folder, name) < PATH_ROOM;
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n > m && strcmp(text + n - m, end) == 0;
}

/* NAME.jsonl of NAME.npy. */
static void partner(const char *name, char *out)
{
    snprintf(out, PATH_ROOM, "%.*s.jsonl", (int)(strlen(name) - 4), name);
}

static int by_name(const void *a, const void *b)
{
    const struct drop *x = a, *y = b;

    return strcmp(x->name, y->name);
}

/* Adds a file to the list when it is one to store, with what the last look knew of it. */
static bool consider(struct looker *l, const char *name, struct drop **list, size_t *count)
{
    char path[PATH_ROOM], other[PATH_ROOM];
    struct drop key, *more;
    const struct drop *old;
    struct stat st;
    bool pair = ends_in(name, ".npy");

    if (name[0] == '.' || (!pair && !ends_in(name, ".safetensors")) || strlen(name) > 255)
        return true;
    partner(name, other);
    if (pair && (!path_of(l->w->folder, other, path) || stat(path, &st) != 0))
        return true; /* its examples are not there yet */
    if (!path_of(l->w->folder, name, path) || stat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return true;
    more = realloc(*list, (*count + 1) * sizeof *more);
    key = (struct drop){.name = strdup(name), .size = st.st_size, .changed = st.st_mtim};
    if (more)
        *list = more;
    if (!more || !key.name) {
        free(key.name);
        return false;
    }
    old = l->count ? bsearch(&key, l->drops, l->count, sizeof key, by_name) : NULL;
    if (old && old->size == key.size && old->changed.tv_sec == key.changed.tv_sec &&
        old->changed.tv_nsec == key.changed.tv_nsec)
        key.fate = old->fate;
    (*list)[(*count)++] = key;
    return true;
}

static void drop_all(struct drop *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(list[i].name);
    free(list);
}

/* Reads the directory. A directory that is away for a moment (a network) is tried again. */
static int see(struct looker *l)
{
    DIR *d = opendir(l->w->folder);
    struct drop *list = NULL;
    const struct dirent *entry;
    size_t count = 0;
    bool ok = true;

    if (!d)
        return out_input(l->cli, "%s: %s", l->w->folder, strerror(errno));
    while (ok && (entry = readdir(d)))
        ok = consider(l, entry->d_name, &list, &count);
    closedir(d);
    if (!ok) {
        drop_all(list, count);
        return out_input(l->cli, "no memory for the list of %s", l->w->folder);
    }
    if (count > 0)
        qsort(list, count, sizeof *list, by_name);
    drop_all(l->drops, l->count);
    l->drops = list;
    l->count = count;
    return EXIT_OK;
}

/* --- One of them ------------------------------------------------------------------------------ */

static void clear_status(struct looker *l)
{
    if (l->status)
        fputs("\r\033[K", stderr);
    l->status = false;
}

static void show_status(struct looker *l)
{
    char a[32], b[32];

    if (l->cli->quiet || !isatty(STDERR_FILENO))
        return;
    fprintf(stderr, "\r\033[Kwatching %.40s: %s files, %s examples", l->w->folder,
            out_count(l->files, a), out_count(l->examples, b));
    if (l->waiting)
        fprintf(stderr, ", %s waiting", out_count(l->waiting, a));
    if (l->bad)
        fprintf(stderr, ", %s refused", out_count(l->bad, a));
    fputs(l->away ? ", server away" : "", stderr);
    l->status = true;
}

static bool open_drop(struct looker *l, const struct drop *x, struct source *s, char *paths[2],
                      char *why, size_t cap)
{
    char other[PATH_ROOM];

    if (!path_of(l->w->folder, x->name, paths[0])) {
        snprintf(why, cap, "%s: too long a path", x->name);
        return false;
    }
    if (!ends_in(x->name, ".npy")) {
        *paths[1] = '\0';
        return source_open_files(s, paths, 1, why, cap);
    }
    partner(x->name, other);
    if (!path_of(l->w->folder, other, paths[1])) {
        snprintf(why, cap, "%.300s: too long a path", other);
        return false;
    }
    return source_open_pair(s, &(struct source_pair){.gradients = paths[0], .examples = paths[1],
                                                     .rows_per_batch = l->w->rows_per_batch},
                            why, cap);
}

static void said_bad(struct looker *l, struct drop *x, int code)
{
    x->fate = FATE_BAD;
    l->bad++;
    l->code = code;
}

/* Whether a failure is of this one file; else of the server or the whole run. */
static bool is_of_file(const struct asc_error *e)
{
    static const char *const fatal[] = {"unauthorized", "forbidden", "unknown_corpus"};

    if (e->status != ASC_REFUSED)
        return e->status == ASC_INPUT || e->status == ASC_ARGUMENT;
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
        if (strcmp(e->code, fatal[i]) == 0)
            return false;
    return true;
}

static void failed(struct looker *l, struct drop *x, const struct asc_error *e)
{
    if (e->status == ASC_ABORTED) {
        l->stop = true;
        return;
    }
    if (is_of_file(e)) {
        clear_status(l);
        said_bad(l, x, out_error(l->cli, e));
    } else if (e->status == ASC_REFUSED || e->status == ASC_MEMORY) {
        clear_status(l);
        l->code = out_error(l->cli, e);
        l->stop = true;
    } else {
        if (!l->away) { /* said once, then waited for */
            clear_status(l);
            out_error(l->cli, e);
        }
        l->away = true;
    }
}

/* Files that are stored go where they are wanted; that this fails is no harm to what is stored. */
static void move_away(struct looker *l, const struct drop *x)
{
    char names[2][PATH_ROOM], from[PATH_ROOM], to[PATH_ROOM];
    int count = ends_in(x->name, ".npy") ? 2 : 1;

    snprintf(names[0], PATH_ROOM, "%s", x->name);
    partner(x->name, names[1]);
    for (int i = 0; i < count; i++)
        if (!path_of(l->w->folder, names[i], from) || !path_of(l->w->done, names[i], to) ||
            rename(from, to) != 0) {
            clear_status(l);
            l->code = out_input(l->cli, "%s: stored, but could not be moved to %s: %s", names[i],
                                l->w->done, strerror(errno));
            return;
        }
}

static void stored(struct looker *l, struct drop *x, const struct asc_ingested *sum,
                   uint64_t batches)
{
    char n[32];

    x->fate = FATE_STORED;
    l->files++;
    l->examples += sum->examples;
    l->duplicates += sum->duplicates;
    clear_status(l);
    if (l->cli->json) {
        out_json(json_pack("{s:s, s:s, s:I, s:I, s:I, s:b}", "event", "stored", "file", x->name,
                           "batches", (json_int_t)batches, "examples", (json_int_t)sum->examples,
                           "duplicates", (json_int_t)sum->duplicates, "resent", sum->resent));
    } else {
        printf("%s: %s examples", x->name, out_count(sum->examples, n));
        if (sum->duplicates)
            printf(", %s duplicates left out", out_count(sum->duplicates, n));
        puts(sum->resent ? " (stood already)" : "");
    }
    fflush(stdout);
    if (l->w->done)
        move_away(l, x);
}

static void send_drop(struct looker *l, struct drop *x, struct source *s)
{
    struct asc_ingested sum = {.resent = true}, one;
    uint64_t batches = 0;
    struct asc_error e;
    char why[600];
    struct unit u;
    int got, rc = 0;

    while ((got = source_next(s, &u, why, sizeof why)) > 0) {
        rc = source_send(s, &u, l->client, l->w->corpus, &one, &e);
        source_unit_free(&u);
        if (rc != 0) {
            failed(l, x, &e);
            return;
        }
        l->away = false;
        sum.examples += one.examples;
        sum.duplicates += one.duplicates;
        sum.resent = sum.resent && one.resent;
        batches++;
    }
    if (got < 0) {
        clear_status(l);
        said_bad(l, x, out_input(l->cli, "%s", why));
    } else {
        stored(l, x, &sum, batches);
    }
}

/* A file that is not whole is left alone while it may still be growing. */
static bool may_grow(const struct drop *x)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec - x->changed.tv_sec < SETTLE_S && now.tv_sec >= x->changed.tv_sec;
}

static void take_drop(struct looker *l, struct drop *x)
{
    char path[2][PATH_ROOM], why[600], *paths[2] = {path[0], path[1]};
    struct source s;

    if (!open_drop(l, x, &s, paths, why, sizeof why)) {
        if (may_grow(x))
            return;
        clear_status(l);
        said_bad(l, x, out_input(l->cli, "%s", why));
        return;
    }
    if (s.dim != l->w->dim) {
        clear_status(l);
        said_bad(l, x, out_input(l->cli, "%s: gradients of dim %" PRIu64 "; corpus %s has %" PRIu64,
                                 x->name, s.dim, l->w->corpus, l->w->dim));
    } else {
        send_drop(l, x, &s);
    }
    source_close(&s);
}

/* --- The loop --------------------------------------------------------------------------------- */

static void wait_for_more(struct looker *l)
{
    struct pollfd fd = {.fd = l->events, .events = POLLIN};
    char events[4096];

    if (poll(&fd, l->events >= 0, l->away ? AWAY_MS : l->waiting ? LOOK_MS / 4 : LOOK_MS) > 0)
        while (read(l->events, events, sizeof events) > 0)
            continue; /* what happened is seen by looking */
}

static bool told_to_end(const struct looker *l)
{
    char path[PATH_ROOM];

    return l->w->until && path_of(l->w->folder, l->w->until, path) && access(path, F_OK) == 0;
}

static int loop(struct looker *l)
{
    while (!session_stopped() && !l->stop) {
        bool last = told_to_end(l); /* asked first: what was there before it is in the look */
        int rc = see(l);

        if (rc != EXIT_OK)
            return rc;
        l->away = false;
        for (size_t i = 0; i < l->count && !session_stopped() && !l->stop && !l->away; i++)
            if (l->drops[i].fate == FATE_NEW)
                take_drop(l, &l->drops[i]);
        l->waiting = 0;
        for (size_t i = 0; i < l->count; i++)
            l->waiting += l->drops[i].fate == FATE_NEW;
        if (last && l->waiting == 0)
            break;
        show_status(l);
        if (!session_stopped() && !l->stop)
            wait_for_more(l);
    }
    return l->code;
}

static void report(struct looker *l)
{
    char a[32], b[32], c[32];

    clear_status(l);
    if (l->cli->json) {
        out_json(json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "event", "end", "corpus",
                           l->w->corpus, "files", (json_int_t)l->files, "examples",
                           (json_int_t)l->examples, "duplicates", (json_int_t)l->duplicates,
                           "refused", (json_int_t)l->bad, "waiting", (json_int_t)l->waiting));
        return;
    }
    printf("%s: %s examples of %s files", l->w->corpus, out_count(l->examples, a),
           out_count(l->files, b));
    if (l->duplicates)
        printf(", %s duplicates left out", out_count(l->duplicates, c));
    if (l->bad)
        printf(", %s files refused", out_count(l->bad, c));
    if (l->waiting)
        printf(", %s files left", out_count(l->waiting, c));
    putchar('\n');
}

int watch_run(struct cli *cli, const struct watch *w)
{
    struct looker l = {.cli = cli, .w = w};
    struct stat st;
    int rc;

    if (stat(w->folder, &st) != 0 || !S_ISDIR(st.st_mode))
        return out_input(cli, "%s: not a directory", w->folder);
    if (w->done && (stat(w->done, &st) != 0 || !S_ISDIR(st.st_mode)))
        return out_input(cli, "%s: not a directory", w->done);
    rc = session_open(cli, NULL, NULL, &l.client);
    if (rc != EXIT_OK)
        return rc;
    l.events = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (l.events >= 0)
        inotify_add_watch(l.events, w->folder, IN_MOVED_TO | IN_CLOSE_WRITE);
    rc = loop(&l);
    report(&l);
    if (l.events >= 0)
        close(l.events);
    drop_all(l.drops, l.count);
    asc_close(l.client);
    return rc;
}
