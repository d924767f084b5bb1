/* power.c - power cuts (S4 to S6): the trace is recorded once, call by call; then the disk is made
 * up as it may have been at any moment, and the store on it is opened and compared.
 *
 * The model is as hostile as POSIX allows. Bytes are sure once their file was synced (or written
 * through O_DSYNC); names once their directory was. Of all else any part may be there: nothing,
 * everything, a random choice, single sectors of a write, a file's new length without its bytes. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/base/bytes.h"
#include "storage/base/mem.h"
#include "storage/fs.h"
#include "tests/fault/fault.h"
#include "tests/fault/trace.h"

/* ---- The disk -------------------------------------------------------------------------------- */

/* A change that is not sure yet, or sure before older ones are. */
struct change {
    bool sure, is_size;
    uint64_t at, len;
    const unsigned char *bytes; /* in the log */
};

struct entry {
    char *name;
    size_t node; /* 0: gone (the root is nobody's entry) */
    char *also_gone; /* a rename takes another name away in the same step; or NULL */
};

struct list {
    struct entry *v;
    size_t count, cap;
};

struct node {
    uint64_t file; /* inode number; 0: a directory */
    struct buf sure; /* bytes that are on the disk for certain */
    struct change *changes;
    size_t change_count, change_cap;
    struct list names, names_sure, names_open; /* of a directory: now; for certain; not yet */
};

struct disk {
    struct node *nodes; /* 0: the root */
    size_t count, cap;
};

static void *grow(void *v, size_t count, size_t *cap, size_t each)
{
    if (count < *cap)
        return v;
    *cap = *cap ? *cap * 2 : 16;
    v = realloc(v, *cap * each);
    if (!v)
        abort();
    return v;
}

static size_t add_node(struct disk *d, uint64_t file)
{
    d->nodes = grow(d->nodes, d->count, &d->cap, sizeof *d->nodes);
    d->nodes[d->count] = (struct node){.file = file};
    return d->count++;
}

static struct node *by_file(struct disk *d, uint64_t file)
{
    for (size_t i = d->count; i-- > 1;)
        if (d->nodes[i].file == file)
            return &d->nodes[i];
    fprintf(stderr, "power: a write to a file that was never made (%llu)\n",
            (unsigned long long)file);
    exit(2);
}

static struct entry *find(struct list *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->v[i].name, name) == 0)
            return &l->v[i];
    return NULL;
}

static void list_add(struct list *l, const char *name, size_t node, const char *also_gone)
{
    l->v = grow(l->v, l->count, &l->cap, sizeof *l->v);
    l->v[l->count++] = (struct entry){mem_copy(name, strlen(name)), node,
                                      also_gone ? mem_copy(also_gone, strlen(also_gone)) : NULL};
}

static void set(struct list *l, const char *name, size_t node)
{
    struct entry *e = find(l, name);

    if (e)
        e->node = node;
    else
        list_add(l, name, node, NULL);
}

static void list_clear(struct list *l)
{
    for (size_t i = 0; i < l->count; i++) {
        free(l->v[i].name);
        free(l->v[i].also_gone);
    }
    l->count = 0;
}

static void list_apply(struct list *l, const struct entry *e)
{
    if (e->also_gone)
        set(l, e->also_gone, 0);
    set(l, e->name, e->node);
}

/* The directory of a path and the last name in it. */
static size_t walk(struct disk *d, const char *path, const char **out_name)
{
    size_t dir = 0;
    const char *slash;

    while ((slash = strchr(path, '/')) != NULL) {
        char name[128];
        struct entry *e;

        snprintf(name, sizeof name, "%.*s", (int)(slash - path), path);
        e = find(&d->nodes[dir].names, name);
        if (!e || !e->node) {
            fprintf(stderr, "power: no directory %s\n", path);
            exit(2);
        }
        dir = e->node;
        path = slash + 1;
    }
    *out_name = path;
    return dir;
}

static void name_change(struct disk *d, const char *path, size_t node, const char *also_gone)
{
    const char *name;
    size_t dir = walk(d, path, &name);
    struct entry e = {(char *)(uintptr_t)name, node, (char *)(uintptr_t)also_gone};

    list_apply(&d->nodes[dir].names, &e);
    list_add(&d->nodes[dir].names_open, name, node, also_gone);
}

static size_t node_of(struct disk *d, const char *path)
{
    const char *name;
    size_t dir = walk(d, path, &name);
    struct entry *e;

    if (*name == '\0')
        return dir;
    e = find(&d->nodes[dir].names, name);
    return e ? e->node : 0;
}

/* ---- Playing the log ------------------------------------------------------------------------- */

static void put_bytes(struct buf *b, const struct change *c, size_t from, size_t to)
{
    size_t end = (size_t)c->at + to;

    if (b->len < end) {
        size_t more = end - b->len;

        if (!buf_reserve(b, more))
            abort();
        memset(b->data + b->len, 0, more);
        b->len = end;
    }
    if (c->bytes)
        memcpy(b->data + c->at + from, c->bytes + from, to - from);
}

static void put_change(struct buf *b, const struct change *c)
{
    struct change longer = {.at = 0};

    if (!c->is_size)
        put_bytes(b, c, 0, (size_t)c->len);
    else if (c->at < b->len)
        b->len = (size_t)c->at;
    else
        put_bytes(b, &longer, (size_t)c->at, (size_t)c->at);
}

static void fold(struct node *n)
{
    for (size_t i = 0; i < n->change_count; i++)
        put_change(&n->sure, &n->changes[i]);
    n->change_count = 0;
}

static void add_change(struct node *n, struct change c)
{
    n->changes = grow(n->changes, n->change_count, &n->change_cap, sizeof *n->changes);
    n->changes[n->change_count++] = c;
}

/* A sync of a directory. The store syncs the directory that holds a renamed one, so a move between
 * directories would need both; there is none. */
static void fold_names(struct node *n)
{
    for (size_t i = 0; i < n->names_open.count; i++)
        list_apply(&n->names_sure, &n->names_open.v[i]);
    list_clear(&n->names_open);
}

static void move(struct disk *d, const char *from, const char *to)
{
    size_t node = node_of(d, from);
    const char *name, *other;

    if (walk(d, from, &name) != walk(d, to, &other)) {
        fprintf(stderr, "power: a move between directories: %s to %s\n", from, to);
        exit(2);
    }
    name_change(d, to, node, name);
}

static void play(struct disk *d, const struct shim_record *r, const unsigned char *bytes,
                 size_t *acked)
{
    const char *a = (const char *)bytes, *b = r->bytes ? a + strlen(a) + 1 : a;

    switch (r->what) {
    case SHIM_DATA:
        add_change(by_file(d, r->file),
                   (struct change){r->flag & 1, false, r->at, r->bytes, bytes});
        break;
    case SHIM_SIZE:
        add_change(by_file(d, r->file), (struct change){.is_size = true, .at = r->at});
        break;
    case SHIM_SYNCED:
        fold(by_file(d, r->file));
        break;
    case SHIM_DIR:
        fold_names(&d->nodes[node_of(d, a)]);
        break;
    case SHIM_FILE:
        name_change(d, a, add_node(d, r->file), NULL);
        break;
    case SHIM_MKDIR:
        name_change(d, a, add_node(d, 0), NULL);
        break;
    case SHIM_MOVE:
        move(d, a, b);
        break;
    case SHIM_LINK:
        name_change(d, b, node_of(d, a), NULL);
        break;
    case SHIM_GONE:
    case SHIM_RMDIR:
        name_change(d, a, 0, NULL);
        break;
    case SHIM_MARK:
        *acked = (size_t)r->at;
        break;
    default:
        fprintf(stderr, "power: a record of kind %u\n", (unsigned)r->what);
        exit(2);
    }
}

/* ---- A state --------------------------------------------------------------------------------- */

struct choice {
    unsigned keep_bytes, keep_names; /* of 100 changes that are not sure */
    unsigned tear;                   /* of 100 kept writes: only some sectors came */
    unsigned hollow;                 /* of 100 writes that were lost: the length came */
    bool last_open;                  /* the last O_DSYNC write was not through yet */
    size_t sector;
};

static bool chance(struct fault *f, unsigned percent)
{
    return fault_random(f, 100) < percent;
}

static void put_torn(struct fault *f, struct buf *b, const struct change *c, size_t sector)
{
    size_t from = 0;

    while (from < c->len) {
        size_t to = sector - (size_t)((c->at + from) % sector) + from;

        if (to > c->len)
            to = (size_t)c->len;
        if (chance(f, 50))
            put_bytes(b, c, from, to);
        from = to;
    }
}

static void put_file(struct fault *f, const struct node *n, const struct choice *x,
                     const struct change *last, struct buf *out)
{
    out->len = 0;
    if (n->sure.len)
        buf_add(out, n->sure.data, n->sure.len);
    for (size_t i = 0; i < n->change_count; i++) {
        struct change c = n->changes[i];
        bool sure = c.sure && !(x->last_open && last == &n->changes[i]);

        if (sure || chance(f, x->keep_bytes)) {
            if (!sure && !c.is_size && chance(f, x->tear))
                put_torn(f, out, &c, x->sector);
            else
                put_change(out, &c);
        } else if (!c.is_size && chance(f, x->hollow) && c.at + c.len > out->len) {
            c.is_size = true;
            c.at += c.len;
            put_change(out, &c);
        }
    }
}

static void write_file(const char *path, const struct buf *b)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);

    if (fd < 0 || (b->len && write(fd, b->data, b->len) != (ssize_t)b->len)) {
        perror(path);
        exit(2);
    }
    close(fd);
}

static void put_dir(struct fault *f, const struct disk *d, size_t dir, const struct choice *x,
                    const struct change *last, const char *path, struct buf *room)
{
    struct list names = {0};

    if (mkdir(path, 0700) != 0) {
        perror(path);
        exit(2);
    }
    for (size_t i = 0; i < d->nodes[dir].names_sure.count; i++)
        list_apply(&names, &d->nodes[dir].names_sure.v[i]);
    for (size_t i = 0; i < d->nodes[dir].names_open.count; i++)
        if (chance(f, x->keep_names))
            list_apply(&names, &d->nodes[dir].names_open.v[i]);
    for (size_t i = 0; i < names.count; i++) {
        size_t node = names.v[i].node;
        char *below = fs_join(path, names.v[i].name);

        if (node && d->nodes[node].file == 0) {
            put_dir(f, d, node, x, last, below, room);
        } else if (node) {
            put_file(f, &d->nodes[node], x, last, room);
            write_file(below, room);
        }
        free(below);
    }
    list_clear(&names);
    free(names.v);
}

static int check(struct fault *f, void *arg)
{
    return trace_check(fault_path(f, "state"), *(size_t *)arg, f->shared->why, FAULT_WHY) ? 0 : 1;
}

static void try_state(struct fault *f, const struct disk *d, const struct choice *x,
                      const struct change *last, size_t acked, size_t at)
{
    struct buf room = {0};

    put_dir(f, d, 0, x, last, fault_path(f, "state"), &room);
    f->n++;
    if (fault_child(f, check, &acked) != 0)
        fault_violation(f, "power cut at call %zu in step %zu (%s), keeping %u%% of bytes and "
                        "%u%% of names: %s", at, acked, trace_name(acked), x->keep_bytes, x->keep_names,
                        f->shared->why);
    fault_remove(f, "state");
    buf_free(&room);
}

/* Nothing more than is sure; everything; everything but the names; and what dice say. */
static void try_states(struct fault *f, const struct disk *d, const struct change *last,
                       size_t acked, size_t at, uint64_t random)
{
    static const struct choice plain[] = {{.sector = 512},
                                          {.keep_bytes = 100, .keep_names = 100, .sector = 512},
                                          {.keep_bytes = 100, .sector = 512}};

    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        try_state(f, d, &plain[i], last, acked, at);
    fault_count(f, "prefixes", 1);
    for (uint64_t i = 0; i < random; i++) {
        struct choice x = {.keep_bytes = (unsigned)fault_random(f, 101),
                           .keep_names = chance(f, 50) ? 100 : (unsigned)fault_random(f, 101),
                           .tear = chance(f, 50) ? 50 : 0,
                           .hollow = chance(f, 30) ? 50 : 0,
                           .last_open = chance(f, 50),
                           .sector = chance(f, 50) ? 512 : 4096};

        try_state(f, d, &x, last, acked, at);
        fault_count(f, "chosen", 1);
        fault_count(f, "torn", x.tear > 0);
    }
}

/* ---- The recording --------------------------------------------------------------------------- */

static int record(struct fault *f, void *arg)
{
    struct trace *t = trace_begin(fault_path(f, "run"));
    int log = open(fault_path(f, "log"), O_WRONLY | O_CREAT | O_APPEND, 0600);

    (void)arg;
    snprintf(f->shared->shim.root, sizeof f->shared->shim.root, "%s", fault_path(f, "run"));
    atomic_store(&f->shared->shim.derived, 1);
    shim_use(&f->shared->shim, log);
    for (size_t i = 0; i < trace_steps(); i++) {
        struct err e = ERR_INIT;

        if (trace_run(t, i, &e)) {
            snprintf(f->shared->why, FAULT_WHY, "step %zu: %s", i, e.text);
            return 1;
        }
        shim_mark(i + 1);
    }
    trace_end(t);
    return 0;
}

static unsigned char *read_log(const char *path, size_t *out_len)
{
    size_t len = (size_t)fs_size(path), at = 0;
    unsigned char *log = mem_new(len + 1, 1);
    int fd = open(path, O_RDONLY);

    while (fd >= 0 && at < len) {
        ssize_t got = read(fd, log + at, len - at);

        if (got <= 0)
            break;
        at += (size_t)got;
    }
    if (fd >= 0)
        close(fd);
    *out_len = at;
    return log;
}

static size_t count_records(const unsigned char *log, size_t len)
{
    size_t count = 0;

    for (size_t at = 0; at < len; count++) {
        struct shim_record r;

        memcpy(&r, log + at, sizeof r);
        at += sizeof r + r.bytes;
    }
    return count;
}

static const struct change *last_write(struct disk *d, const struct shim_record *r)
{
    const struct node *n;

    if (r->what != SHIM_DATA)
        return NULL;
    n = by_file(d, r->file);
    return &n->changes[n->change_count - 1];
}

/* The log outlives the disk: changes point into it. */
static void replay(struct fault *f, const unsigned char *log, size_t len)
{
    size_t calls = count_records(log, len), acked = 0, number = 0;
    uint64_t want = f->limit ? f->limit : 5000;
    uint64_t each = want * f->shares * f->stride / (calls ? calls : 1);
    struct disk d = {0};

    fault_count(f, "calls", calls);
    fault_count(f, "log_bytes", len);
    add_node(&d, 0);
    for (size_t at = 0; at < len; number++) {
        struct shim_record r;

        memcpy(&r, log + at, sizeof r);
        play(&d, &r, log + at + sizeof r, &acked);
        at += sizeof r + r.bytes;
        if (number % (f->shares * f->stride) == f->share)
            try_states(f, &d, last_write(&d, &r), acked, number, each > 3 ? each - 3 + 1 : 1);
    }
    for (size_t i = 0; i < d.count; i++) {
        buf_free(&d.nodes[i].sure);
        free(d.nodes[i].changes);
        list_clear(&d.nodes[i].names);
        list_clear(&d.nodes[i].names_sure);
        list_clear(&d.nodes[i].names_open);
        free(d.nodes[i].names.v);
        free(d.nodes[i].names_sure.v);
        free(d.nodes[i].names_open.v);
    }
    free(d.nodes);
}

void fault_power(struct fault *f)
{
    unsigned char *log;
    struct err e = ERR_INIT;
    size_t len;

    if (fs_make_dir(fault_path(f, "run"), false, &e) || fault_child(f, record, NULL) != 0) {
        fault_violation(f, "the trace itself: %s%s", e.text, f->shared->why);
        return;
    }
    log = read_log(fault_path(f, "log"), &len);
    fault_remove(f, "run");
    replay(f, log, len);
    free(log);
}
