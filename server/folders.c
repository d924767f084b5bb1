/* folders.c - see folders.h. */
#include "server/folders.h"

#include <stdbool.h>
#include <string.h>

/* Bytes of a path: up to a blank, a quote or what ends one in our texts ("data.mdb: ..."). */
static size_t path_len(const char *p)
{
    size_t len = strcspn(p, " \"'`,;()<>\t");

    while (len && (p[len - 1] == ':' || p[len - 1] == '.'))
        len--;
    return len;
}

/* What stands for the path at `p`; *out_used bytes of it go. NULL: it stays. The store's name is
 * known and may have blanks in it, what follows it and other paths end at one. */
static const char *shown(const char *p, const char *store, size_t store_len, size_t *out_used)
{
    const char *name;
    size_t len;

    if (store_len && strncmp(p, store, store_len) == 0) {
        p += store_len;
        len = strspn(p, "/");
        *out_used = store_len + len;
        if (len && path_len(p + len))
            return "";
        if (path_len(p) == len && store_len >= strlen("the store"))
            return "the store";
        p -= store_len; /* another, whose name begins alike */
    }
    len = *p == '/' ? path_len(p) : 0;
    name = len ? memrchr(p, '/', len) : NULL;
    if (!name || name + 1 == p + len)
        return NULL;
    *out_used = (size_t)(name + 1 - p);
    return "";
}

void folders_hide(char *text, const char *store)
{
    size_t store_len = strlen(store), left = strlen(text);
    char *to = text;
    bool begins = true; /* a word does, and so may a path */

    while (store_len && store[store_len - 1] == '/')
        store_len--;
    for (const char *from = text; left;) {
        size_t used = 0, len;
        const char *instead = begins ? shown(from, store, store_len, &used) : NULL;

        if (instead) {
            len = strlen(instead);
            memcpy(to, instead, len);
            to += len;
            from += used;
            left -= used;
            begins = false;
            continue;
        }
        begins = strchr(" \"'`(<=:", *from) != NULL;
        *to++ = *from++;
        left--;
    }
    *to = '\0';
}
