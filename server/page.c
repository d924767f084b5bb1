/* page.c - see page.h. Every answer carries the policy that keeps the page to this server: nothing
 * is loaded from elsewhere, no script but our own files runs, whatever a text contains. */
#include "server/page.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/log.h"

/* no-cache: kept, and asked about each time: a new version of the server is seen at once. */
static const char headers[] =
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cache-Control: no-cache\r\n";

int page_parse(struct job *j)
{
    (void)j;
    return 0;
}

static const struct page_file *find(const char *name)
{
    for (size_t i = 0; i < page_file_count; i++)
        if (strcmp(page_files[i].name, name) == 0)
            return &page_files[i];
    return NULL;
}

/* If-None-Match: a list of tags, perhaps weak ones, or *. A tag is quoted, so finding it with its
 * quotes anywhere in the list is finding it. */
static bool has_it(const char *if_none_match, const char *etag)
{
    return if_none_match && (strcmp(if_none_match, "*") == 0 || strstr(if_none_match, etag));
}

int page_reply(struct job *j)
{
    const char *name = !j->path[0]  ? "index.html"
                       : j->path[1] ? arena_format(&j->arena, "%s/%s", j->path[0], j->path[1])
                                    : j->path[0];
    const struct page_file *f = name ? find(name) : NULL;

    if (!f)
        return err_set(&j->err, ERR_UNKNOWN_ROUTE, "the page has no file of this name");
    j->reply_extra = arena_format(&j->arena, "%sETag: %s\r\n", headers, f->etag);
    j->reply_type = f->type;
    if (has_it(j->if_none_match, f->etag)) {
        j->status = 304;
        return 0;
    }
    /* no copy: who has no key may ask for this, and read it slowly */
    j->reply_static = f->data;
    j->reply_static_len = (size_t)(f->end - f->data);
    return 0;
}

void page_tell_link(const char *address, const char *store)
{
    char path[4096], key[128] = "", line[512];
    FILE *f;

    if (!isatty(STDERR_FILENO) || strncmp(address, "unix:", 5) == 0 ||
        (size_t)snprintf(path, sizeof path, "%s/admin.key", store) >= sizeof path)
        return;
    f = fopen(path, "re");
    if (!f)
        return; /* moved away by its owner: the page asks for a key then */
    setvbuf(f, NULL, _IONBF, 0); /* no copy of the key in a buffer that is not ours to wipe */
    if (fgets(key, sizeof key, f)) {
        key[strcspn(key, "\r\n")] = '\0';
        snprintf(line, sizeof line, "page http://%s/#key=%s", address, key);
        log_plain(line);
    }
    fclose(f);
    explicit_bzero(key, sizeof key);
    explicit_bzero(line, sizeof line);
}
