/* disk.c - see disk.h. */
#include "tests/fault/disk.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/base/mem.h"
#include "storage/fs.h"

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
    d->nodes[d->count] = (struct disk_node){.file = file};
    return d->count++;
}

static struct disk_node *by_file(struct disk *d, uint64_t file)
{
    for (size_t i = d->count; i-- > 1;)
        if (d->nodes[i].file == file)
            return &d->nodes[i];
    fprintf(stderr, "power: a write to a file that was never made (%llu)\n",
            (unsigned long long)file);
    exit(2);
}

static struct disk_entry *find(struct disk_list *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->v[i].name, name) == 0)
            return &l->v[i];
    return NULL;
}

static void list_add(struct disk_list *l, const char *name, size_t node, const char *also_gone)
{
    l->v = grow(l->v, l->count, &l->cap, sizeof *l->v);
    l->v[l->count++] = (struct disk_entry){mem_copy(name, strlen(name)), node,
                                      also_gone ? mem_copy(also_gone, strlen(also_gone)) : NULL};
}

static void set(struct disk_list *l, const char *name, size_t node)
{
    struct disk_entry *e = find(l, name);

    if (e)
        e->node = node;
    else
        list_add(l, name, node, NULL);
}

static void list_clear(struct disk_list *l)
{
    for (size_t i = 0; i < l->count; i++) {
        free(l->v[i].name);
        free(l->v[i].also_gone);
    }
    l->count = 0;
}

static void list_apply(struct disk_list *l, const struct disk_entry *e)
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
        struct disk_entry *e;

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
    struct disk_entry e = {(char *)(uintptr_t)name, node, (char *)(uintptr_t)also_gone};

    list_apply(&d->nodes[dir].names, &e);
    list_add(&d->nodes[dir].names_open, name, node, also_gone);
}

static size_t node_of(struct disk *d, const char *path)
{
    const char *name;
    size_t dir = walk(d, path, &name);
    struct disk_entry *e;

    if (*name == '\0')
        return dir;
    e = find(&d->nodes[dir].names, name);
    return e ? e->node : 0;
}

void disk_begin(struct disk *d)
{
    *d = (struct disk){0};
    add_node(d, 0);
}

void disk_free(struct disk *d)
{
    for (size_t i = 0; i < d->count; i++) {
        buf_free(&d->nodes[i].sure);
        free(d->nodes[i].changes);
        list_clear(&d->nodes[i].names);
        list_clear(&d->nodes[i].names_sure);
        list_clear(&d->nodes[i].names_open);
        free(d->nodes[i].names.v);
        free(d->nodes[i].names_sure.v);
        free(d->nodes[i].names_open.v);
    }
    free(d->nodes);
}

/* ---- Playing the log ------------------------------------------------------------------------- */

static void put_bytes(struct buf *b, const struct disk_change *c, size_t from, size_t to)
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

static void put_change(struct buf *b, const struct disk_change *c)
{
    struct disk_change longer = {.at = 0};

    if (!c->is_size)
        put_bytes(b, c, 0, (size_t)c->len);
    else if (c->at < b->len)
        b->len = (size_t)c->at;
    else
        put_bytes(b, &longer, (size_t)c->at, (size_t)c->at);
}

static void fold(struct disk_node *n)
{
    for (size_t i = 0; i < n->change_count; i++)
        put_change(&n->sure, &n->changes[i]);
    n->change_count = 0;
}

static void add_change(struct disk_node *n, struct disk_change c)
{
    n->changes = grow(n->changes, n->change_count, &n->change_cap, sizeof *n->changes);
    n->changes[n->change_count++] = c;
}

/* A sync of a directory. The store syncs the directory that holds a renamed one, so a move between
 * directories would need both; there is none. */
static void fold_names(struct disk_node *n)
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

void disk_play(struct disk *d, const struct shim_record *r, const unsigned char *bytes,
               size_t *acked)
{
    const char *a = (const char *)bytes, *b = r->bytes ? a + strlen(a) + 1 : a;

    switch (r->what) {
    case SHIM_DATA:
        add_change(by_file(d, r->file),
                   (struct disk_change){r->flag & 1, false, r->at, r->bytes, bytes});
        break;
    case SHIM_SIZE:
        add_change(by_file(d, r->file), (struct disk_change){.is_size = true, .at = r->at});
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

const struct disk_change *disk_last_write(struct disk *d, const struct shim_record *r)
{
    const struct disk_node *n;

    if (r->what != SHIM_DATA)
        return NULL;
    n = by_file(d, r->file);
    return &n->changes[n->change_count - 1];
}

/* ---- A state --------------------------------------------------------------------------------- */

static void put_torn(struct fault *f, struct buf *b, const struct disk_change *c, size_t sector)
{
    size_t from = 0;

    while (from < c->len) {
        size_t to = sector - (size_t)((c->at + from) % sector) + from;

        if (to > c->len)
            to = (size_t)c->len;
        if (fault_chance(f, 50))
            put_bytes(b, c, from, to);
        from = to;
    }
}

static void put_file(struct fault *f, const struct disk_node *n, const struct disk_choice *x,
                     const struct disk_change *last, struct buf *out)
{
    out->len = 0;
    if (n->sure.len)
        buf_add(out, n->sure.data, n->sure.len);
    for (size_t i = 0; i < n->change_count; i++) {
        struct disk_change c = n->changes[i];
        bool sure = c.sure && !(x->last_open && last == &n->changes[i]);

        if (sure || fault_chance(f, x->keep_bytes)) {
            if (!sure && !c.is_size && fault_chance(f, x->tear))
                put_torn(f, out, &c, x->sector);
            else
                put_change(out, &c);
        } else if (!c.is_size && fault_chance(f, x->hollow) && c.at + c.len > out->len) {
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

static void put_dir(struct fault *f, const struct disk *d, size_t dir, const struct disk_choice *x,
                    const struct disk_change *last, const char *path, struct buf *room)
{
    struct disk_list names = {0};

    if (mkdir(path, 0700) != 0) {
        perror(path);
        exit(2);
    }
    for (size_t i = 0; i < d->nodes[dir].names_sure.count; i++)
        list_apply(&names, &d->nodes[dir].names_sure.v[i]);
    for (size_t i = 0; i < d->nodes[dir].names_open.count; i++)
        if (fault_chance(f, x->keep_names))
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

void disk_put(struct fault *f, const struct disk *d, const struct disk_choice *x,
              const struct disk_change *last, const char *path)
{
    struct buf room = {0};

    put_dir(f, d, 0, x, last, path, &room);
    buf_free(&room);
}
