/* pages.c - see pages.h. */
#include "storage/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/base/bytes.h"
#include "storage/base/mem.h"

/* LMDB's MDB_page, MDB_node, MDB_db and MDB_meta (mdb.c of 0.9), as offsets. */
enum {
    PAGE_NUMBER = 0, /* u64 */
    PAGE_FLAGS = 10, /* u16 */
    PAGE_LOWER = 12, /* u16: end of the node offsets; of an overflow run: u32 pages */
    PAGE_UPPER = 14, /* u16: begin of the nodes */
    PAGE_HEAD = 16,
    IS_BRANCH = 1, IS_LEAF = 2, IS_OVERFLOW = 4, IS_META = 8,

    NODE_LOW = 0, NODE_HIGH = 2, NODE_FLAGS = 4, NODE_KEY_LEN = 6, NODE_HEAD = 8,
    NODE_BIG = 1, /* the value lies in a run of overflow pages */
    NODE_SUB = 2, /* the value is a tree of its own */

    TREE_FLAGS = 4, TREE_DEPTH = 6, TREE_ROOT = 40, TREE_BYTES = 48,
    FLAGS_OF_FREE = 8, /* integer keys */

    META_MAGIC = PAGE_HEAD, META_VERSION = PAGE_HEAD + 4, META_FREE = PAGE_HEAD + 24,
    META_MAIN = META_FREE + TREE_BYTES, META_LAST = META_MAIN + TREE_BYTES,
    META_TXN = META_LAST + 8, META_BYTES = META_TXN + 8,

    DEPTH_MAX = 32, KEY_MAX = 511, PAGE_SIZE_MAX = 65536
};
#define MAGIC UINT32_C(0xBEEFC0DE)
#define VERSION UINT32_C(1)
#define NO_PAGE UINT64_MAX
#define SHORT_BY_MAX (UINT64_C(1) << 30) /* of pages that were given up before they were written */

struct walk {
    const char *path;
    int fd;
    uint32_t page_size;
    uint64_t last;       /* page */
    uint64_t left;       /* pages that may still be read */
    bool runs;           /* look at the heads of large values, too */
    unsigned char *used; /* a bit a page; owned */
    unsigned char *level[DEPTH_MAX + 1]; /* a page buffer each, made when needed; owned */
    struct err *e;
};

enum tree_kind { TREE_FREE, TREE_MAIN, TREE_NAMED };

static uint32_t get16(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}

static int damaged(struct walk *w, uint64_t page, const char *what)
{
    return err_set(w->e, ERR_CORRUPT, "%s: page %llu is damaged: %s", w->path,
                   (unsigned long long)page, what);
}

static int read_at(struct walk *w, uint64_t at, void *out, size_t len, uint64_t page)
{
    ssize_t got = pread(w->fd, out, len, (off_t)at);

    if (got < 0)
        return err_errno(w->e, errno, w->path);
    return (size_t)got == len ? 0 : damaged(w, page, "the file ends before it");
}

/* ---- Which pages are used -------------------------------------------------------------------- */

static int use(struct walk *w, uint64_t page, uint64_t count)
{
    if (page < 2 || page > w->last || count > w->last - page + 1)
        return damaged(w, page, "it lies outside of the file");
    for (uint64_t i = page; i < page + count; i++) {
        unsigned char bit = (unsigned char)(1u << (i & 7));

        if (w->used[i >> 3] & bit)
            return damaged(w, i, "it is used twice");
        w->used[i >> 3] |= bit;
    }
    return 0;
}

/* ---- Values ---------------------------------------------------------------------------------- */

/* A list of free pages: a count and as many numbers. */
static int check_free(struct walk *w, const unsigned char *list, size_t len, uint64_t page)
{
    uint64_t count = len >= 8 ? bytes_get_le64(list) : 0;

    if (len < 8 || len % 8 != 0 || count > len / 8 - 1)
        return damaged(w, page, "a list of free pages does not fit");
    for (uint64_t i = 1; i <= count; i++)
        if (use(w, bytes_get_le64(list + 8 * i), 1))
            return (int)w->e->code;
    return 0;
}

static int check_free_run(struct walk *w, uint64_t run, size_t len)
{
    unsigned char *list = mem_big(len ? len : 1, 1);
    int rc;

    if (!list)
        return err_set(w->e, ERR_BUSY, "no memory for a list of free pages");
    rc = read_at(w, run * w->page_size + PAGE_HEAD, list, len, run);
    if (rc == 0)
        rc = check_free(w, list, len, run);
    free(list);
    return rc;
}

static int check_run(struct walk *w, enum tree_kind kind, uint64_t run, size_t len)
{
    uint64_t pages = (PAGE_HEAD - 1 + len) / w->page_size + 1;
    unsigned char head[PAGE_HEAD];

    if (use(w, run, pages))
        return (int)w->e->code;
    if (w->left == 0 || !(w->runs || kind == TREE_FREE))
        return 0;
    w->left--;
    if (read_at(w, run * w->page_size, head, sizeof head, run))
        return (int)w->e->code;
    if (bytes_get_le64(head + PAGE_NUMBER) != run || get16(head + PAGE_FLAGS) != IS_OVERFLOW ||
        bytes_get_le32(head + PAGE_LOWER) != pages)
        return damaged(w, run, "it does not begin the value that should be there");
    return kind == TREE_FREE ? check_free_run(w, run, len) : 0;
}

static int check_tree(struct walk *w, const unsigned char *tree, enum tree_kind kind,
                      uint64_t page);

static int check_value(struct walk *w, enum tree_kind kind, const unsigned char *node, size_t room,
                       uint64_t page)
{
    size_t key = get16(node + NODE_KEY_LEN);
    size_t len = get16(node + NODE_LOW) | (size_t)get16(node + NODE_HIGH) << 16;
    uint32_t flags = get16(node + NODE_FLAGS);
    size_t here = flags == NODE_BIG ? 8 : len;
    const unsigned char *value = node + NODE_HEAD + key;

    if (NODE_HEAD + key + here > room)
        return damaged(w, page, "a value reaches past its end");
    switch (flags) {
    case 0:
        return kind == TREE_FREE ? check_free(w, value, len, page) : 0;
    case NODE_BIG:
        return check_run(w, kind, bytes_get_le64(value), len);
    case NODE_SUB:
        if (kind == TREE_MAIN && len == TREE_BYTES) {
            unsigned char tree[TREE_BYTES]; /* the page's buffer serves the tree below as well */

            memcpy(tree, value, sizeof tree);
            return check_tree(w, tree, TREE_NAMED, page);
        }
        return damaged(w, page, "a table is not one");
    default:
        return damaged(w, page, "a value is of no kind that is stored here");
    }
}

/* ---- Pages ----------------------------------------------------------------------------------- */

static int compare(enum tree_kind kind, const unsigned char *a, const unsigned char *b)
{
    size_t x = get16(a + NODE_KEY_LEN), y = get16(b + NODE_KEY_LEN);
    int order;

    a += NODE_HEAD;
    b += NODE_HEAD;
    if (kind == TREE_FREE) {
        uint64_t i = x == 8 ? bytes_get_le64(a) : 0, k = y == 8 ? bytes_get_le64(b) : 0;

        return (i > k) - (i < k);
    }
    order = memcmp(a, b, x < y ? x : y);
    return order ? order : (x > y) - (x < y);
}

/* Node `i` of a page of `count`, whole and inside of it; NULL when it is not. */
static const unsigned char *node_at(const struct walk *w, const unsigned char *p, uint32_t i)
{
    uint32_t at = get16(p + PAGE_HEAD + 2 * i);

    if (at < get16(p + PAGE_UPPER) || at + NODE_HEAD > w->page_size)
        return NULL;
    if (at + NODE_HEAD + get16(p + at + NODE_KEY_LEN) > w->page_size)
        return NULL;
    return get16(p + at + NODE_KEY_LEN) <= KEY_MAX ? p + at : NULL;
}

static int check_head(struct walk *w, const unsigned char *p, uint64_t page, bool is_leaf)
{
    uint32_t lower = get16(p + PAGE_LOWER), upper = get16(p + PAGE_UPPER);

    if (bytes_get_le64(p + PAGE_NUMBER) != page)
        return damaged(w, page, "it says that it is another");
    if (get16(p + PAGE_FLAGS) != (is_leaf ? IS_LEAF : IS_BRANCH))
        return damaged(w, page, "it is of another kind");
    if (lower <= PAGE_HEAD || (lower & 1) || lower > upper || upper > w->page_size)
        return damaged(w, page, "its bounds are wrong");
    return 0;
}

static int check_page(struct walk *w, enum tree_kind kind, uint64_t page, unsigned depth);

static int check_child(struct walk *w, enum tree_kind kind, const unsigned char *node,
                       unsigned depth)
{
    uint64_t child = get16(node + NODE_LOW) | (uint64_t)get16(node + NODE_HIGH) << 16 |
                     (uint64_t)get16(node + NODE_FLAGS) << 32;

    return check_page(w, kind, child, depth - 1);
}

/* A level has one buffer in each kind of tree: a named tree hangs below a leaf of the main one. */
static unsigned char *buffer(struct walk *w, unsigned depth)
{
    if (!w->level[depth])
        w->level[depth] = mem_new(PAGE_SIZE_MAX, 1);
    return w->level[depth];
}

static int check_nodes(struct walk *w, enum tree_kind kind, const unsigned char *p, uint64_t page,
                       unsigned depth)
{
    uint32_t count = (get16(p + PAGE_LOWER) - PAGE_HEAD) / 2;
    const unsigned char *before = NULL;
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        const unsigned char *node = node_at(w, p, i);

        if (!node)
            return damaged(w, page, "an entry reaches past its end");
        /* the first key of a branch stands for all that is smaller, and may be empty */
        if (before && !(depth > 1 && i == 1) && compare(kind, before, node) >= 0)
            return damaged(w, page, "its keys do not ascend");
        before = node;
        if (depth > 1)
            rc = check_child(w, kind, node, depth);
        else
            rc = check_value(w, kind, node, w->page_size - (size_t)(node - p), page);
    }
    return rc;
}

static int check_page(struct walk *w, enum tree_kind kind, uint64_t page, unsigned depth)
{
    unsigned char *p = NULL;
    int rc = use(w, page, 1);

    if (rc || w->left == 0)
        return rc;
    w->left--;
    if (kind == TREE_NAMED) { /* below a page of the main tree, whose buffers are in use */
        p = mem_new(w->page_size, 1);
        rc = read_at(w, page * w->page_size, p, w->page_size, page);
    } else {
        rc = read_at(w, page * w->page_size, buffer(w, depth), w->page_size, page);
    }
    if (rc == 0)
        rc = check_head(w, p ? p : w->level[depth], page, depth == 1);
    if (rc == 0)
        rc = check_nodes(w, kind, p ? p : w->level[depth], page, depth);
    free(p);
    return rc;
}

static int check_tree(struct walk *w, const unsigned char *tree, enum tree_kind kind, uint64_t page)
{
    uint32_t depth = get16(tree + TREE_DEPTH);
    uint64_t root = bytes_get_le64(tree + TREE_ROOT);

    if (get16(tree + TREE_FLAGS) != (kind == TREE_FREE ? FLAGS_OF_FREE : 0))
        return damaged(w, page, "a table is of another kind");
    if (root == NO_PAGE && depth == 0)
        return 0;
    if (root == NO_PAGE || depth == 0 || depth > DEPTH_MAX)
        return damaged(w, page, "a table has no root, or is too deep");
    return check_page(w, kind, root, depth);
}

/* ---- Meta pages ------------------------------------------------------------------------------ */

static bool meta_is_sound(const unsigned char *p, uint64_t page)
{
    uint32_t size = bytes_get_le32(p + META_FREE);
    uint64_t txn = bytes_get_le64(p + META_TXN);

    return bytes_get_le64(p + PAGE_NUMBER) == page && get16(p + PAGE_FLAGS) == IS_META &&
           bytes_get_le32(p + META_MAGIC) == MAGIC && bytes_get_le32(p + META_VERSION) == VERSION &&
           size >= 512 && size <= PAGE_SIZE_MAX && (size & (size - 1)) == 0 &&
           (txn == 0 || (txn & 1) == page);
}

/* The newer meta page in `out`. LMDB writes them in turn, so their numbers are neighbours: another
 * number would bring an older state back, or none. */
static int read_metas(struct walk *w, unsigned char out[META_BYTES])
{
    unsigned char a[META_BYTES], b[META_BYTES];
    uint64_t x, y;

    if (read_at(w, 0, a, sizeof a, 0))
        return (int)w->e->code;
    if (!meta_is_sound(a, 0))
        return damaged(w, 0, "of the meta pages, it is not the first");
    w->page_size = bytes_get_le32(a + META_FREE);
    if (read_at(w, w->page_size, b, sizeof b, 1))
        return (int)w->e->code;
    if (!meta_is_sound(b, 1) || bytes_get_le32(b + META_FREE) != w->page_size)
        return damaged(w, 1, "of the meta pages, it is not the second");
    x = bytes_get_le64(a + META_TXN);
    y = bytes_get_le64(b + META_TXN);
    if ((x || y) && x + 1 != y && y + 1 != x)
        return damaged(w, 0, "the meta pages are not of neighbouring transactions");
    memcpy(out, x > y ? a : b, META_BYTES);
    return 0;
}

static int check_file(struct walk *w, uint64_t size)
{
    unsigned char meta[META_BYTES];
    int rc = read_metas(w, meta);

    if (rc)
        return rc;
    w->last = bytes_get_le64(meta + META_LAST);
    if (w->last < 1 || w->last > (size + SHORT_BY_MAX) / w->page_size)
        return damaged(w, w->last, "the last page lies far past the end of the file");
    w->used = mem_big((size_t)(w->last / 8 + 1), 1);
    if (!w->used)
        return err_set(w->e, ERR_BUSY, "%s: no memory for a map of its pages", w->path);
    memset(w->used, 0, (size_t)(w->last / 8 + 1));
    rc = check_tree(w, meta + META_MAIN, TREE_MAIN, 0);
    if (rc == 0)
        rc = check_tree(w, meta + META_FREE, TREE_FREE, 0);
    return rc;
}

int pages_check(const char *path, uint64_t limit, bool runs, struct err *e)
{
    struct walk w = {.path = path, .left = limit, .runs = runs, .e = e};
    struct stat st;
    int rc = 0;

    w.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (w.fd < 0)
        return errno == ENOENT ? 0 : err_errno(e, errno, path);
    if (fstat(w.fd, &st) != 0)
        rc = err_errno(e, errno, path);
    else if (st.st_size > 0)
        rc = check_file(&w, (uint64_t)st.st_size);
    for (unsigned i = 0; i <= DEPTH_MAX; i++)
        free(w.level[i]);
    free(w.used);
    close(w.fd);
    return rc;
}
