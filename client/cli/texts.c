/* texts.c - see texts.h. A row becomes an object of its flat columns, wherever it comes from, and
 * one function makes the example of it.
 */
#include "client/cli/texts.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    FILES_MAX = 100000,
    META_TEXT_MAX = 4096, /* longer strings of other columns stay out of meta */
    STATE_MAX = 64 << 20,
};

/* --- The files of a dataset ------------------------------------------------------------------- */

static bool add_file(struct texts *t, const char *name)
{
    char path[8400];
    char **more = realloc(t->files, (t->file_count + 1) * sizeof *more);

    if (!more)
        return false;
    t->files = more;
    snprintf(path, sizeof path, "%s/%s", t->folder, name);
    more[t->file_count] = strdup(path);
    return more[t->file_count] && t->file_count++ < FILES_MAX;
}

static int is_arrow(const struct dirent *d)
{
    size_t len = strlen(d->d_name);

    return d->d_name[0] != '.' && len > 6 && strcmp(d->d_name + len - 6, ".arrow") == 0;
}

static bool list_folder(struct texts *t, char *why, size_t cap)
{
    struct dirent **list;
    int count = scandir(t->folder, &list, is_arrow, alphasort);
    bool ok = count > 0;

    if (count < 0)
        snprintf(why, cap, "%s: %s", t->folder, strerror(errno));
    else if (count == 0)
        snprintf(why, cap, "%s: there is no .arrow file in it", t->folder);
    for (int i = 0; i < count; i++) {
        if (ok && !add_file(t, list[i]->d_name)) {
            snprintf(why, cap, "%s: no memory, or too many files", t->folder);
            ok = false;
        }
        free(list[i]);
    }
    if (count >= 0)
        free(list);
    return ok;
}

/* state.json says which files there are, in which order; without it they go by name. */
static bool list_files(struct texts *t, char *why, size_t cap)
{
    char path[8400];
    struct stat st;
    json_error_t at;
    json_t *state, *files, *one;
    size_t i;
    bool ok = true;

    snprintf(path, sizeof path, "%s/state.json", t->folder);
    if (stat(path, &st) != 0)
        return list_folder(t, why, cap);
    state = st.st_size <= STATE_MAX ? json_load_file(path, 0, &at) : NULL;
    files = json_object_get(state, "_data_files");
    if (!json_is_array(files)) {
        snprintf(why, cap, "%s: does not list _data_files", path);
        ok = false;
    } else if (json_array_size(json_object_get(state, "_indices_data_files")) > 0) {
        snprintf(why, cap, "%s: the rows are chosen by indices; save it after flatten_indices()",
                 path);
        ok = false;
    }
    json_array_foreach(files, i, one) {
        const char *name = json_string_value(json_object_get(one, "filename"));

        if (ok && (!name || strchr(name, '/') || strlen(name) > 4000)) {
            snprintf(why, cap, "%s: entry %zu of _data_files is not the name of a file beside it",
                     path, i);
            ok = false;
        }
        if (ok && !add_file(t, name)) {
            snprintf(why, cap, "%s: no memory, or too many files", path);
            ok = false;
        }
    }
    json_decref(state);
    return ok;
}

/* --- Arrow rows ------------------------------------------------------------------------------- */

/* Moves to the next row; false without a reason (why is "") at the end. */
static bool next_row(struct texts *t, char *why, size_t cap)
{
    *why = '\0';
    while (t->row == t->rows) {
        if (!t->arrow) {
            if (t->file == t->file_count || !arrow_open(t->files[t->file], &t->arrow, why, cap))
                return false;
            t->file++;
        }
        t->row = 0;
        if (!arrow_next(t->arrow, &t->rows, why, cap))
            return false;
        if (t->rows == 0) {
            arrow_close(t->arrow);
            t->arrow = NULL;
        }
    }
    t->row++;
    return true;
}

static void rewind_rows(struct texts *t)
{
    arrow_close(t->arrow);
    t->arrow = NULL;
    t->file = 0;
    t->row = t->rows = 0;
}

static json_t *row_object(struct texts *t, char *why, size_t cap)
{
    json_t *o = json_object();

    for (unsigned i = 0; o && i < arrow_columns(t->arrow); i++) {
        json_t *v;

        if (!arrow_flat(t->arrow, i))
            continue;
        v = arrow_cell(t->arrow, i, t->row - 1, why, cap);
        if (!v || json_object_set_new(o, arrow_name(t->arrow, i), v) != 0) {
            json_decref(o);
            return NULL;
        }
    }
    return o;
}

/* --- Opening ---------------------------------------------------------------------------------- */

static bool has_column(struct texts *t, const char *name)
{
    for (unsigned i = 0; i < arrow_columns(t->arrow); i++)
        if (strcmp(arrow_name(t->arrow, i), name) == 0 && arrow_flat(t->arrow, i))
            return true;
    return false;
}

static bool count_rows(struct texts *t, uint64_t *out, char *why, size_t cap)
{
    uint64_t count = 0;

    while (next_row(t, why, cap)) {
        const char *wanted[2] = {t->columns->text, t->columns->id};

        for (int i = 0; count == 0 && i < 2; i++)
            if (wanted[i] && !has_column(t, wanted[i])) {
                snprintf(why, cap, "%s: there is no flat column \"%.60s\"", t->files[0], wanted[i]);
                return false;
            }
        count += t->rows - t->row + 1; /* the rest of the batch */
        t->row = t->rows;
    }
    rewind_rows(t);
    *out = count;
    return *why == '\0';
}

bool texts_open(struct texts *t, const char *folder, const char *lines, uint64_t first,
                uint64_t items, const struct texts_columns *columns, char *why, size_t why_cap)
{
    const char *of = lines ? lines : folder;
    uint64_t count = items;
    bool ok = true;

    *t = (struct texts){.columns = columns, .number = first, .lines.fd = -1};
    if (lines) {
        ok = lines_open(&t->lines, lines, why, why_cap);
        t->has_lines = ok;
        ok = ok && lines_count(&t->lines, &count, why, why_cap);
    } else if (folder) {
        t->folder = strdup(folder);
        ok = t->folder && list_files(t, why, why_cap) && count_rows(t, &count, why, why_cap);
    }
    if (ok && count != items) {
        snprintf(why, why_cap, "%s has %" PRIu64 " examples, the gradients are of %" PRIu64, of,
                 count, items);
        ok = false;
    }
    return ok;
}

void texts_close(struct texts *t)
{
    arrow_close(t->arrow);
    for (size_t i = 0; i < t->file_count; i++)
        free(t->files[i]);
    free(t->files);
    free(t->folder);
    if (t->has_lines)
        lines_close(&t->lines);
    *t = (struct texts){.lines.fd = -1};
}

/* --- Examples --------------------------------------------------------------------------------- */

static json_t *line_object(struct texts *t, char *why, size_t cap)
{
    json_error_t at;
    char *line;
    size_t len;
    json_t *o;

    if (!lines_take(&t->lines, 1, &line, &len, why, cap))
        return NULL;
    o = json_loadb(line, len, JSON_REJECT_DUPLICATES, &at);
    free(line);
    if (json_is_object(o))
        return o;
    snprintf(why, cap, "%s: line %" PRIu64 ": %s", t->lines.path, t->lines.line,
             o ? "not an object" : at.text);
    json_decref(o);
    return NULL;
}

static json_t *id_of(const struct texts *t, const json_t *row)
{
    const char *column = t->columns->id ? t->columns->id : t->has_lines ? "id" : NULL;
    const json_t *id = column ? json_object_get(row, column) : NULL;
    const char *prefix = t->columns->prefix ? t->columns->prefix : "";

    if (json_is_string(id))
        return json_sprintf("%s%s", prefix, json_string_value(id));
    if (json_is_integer(id))
        return json_sprintf("%s%" JSON_INTEGER_FORMAT, prefix, json_integer_value(id));
    if (id || t->columns->id)
        return NULL;
    return json_sprintf("%s%" PRIu64, prefix, t->number);
}

static bool goes_to_meta(const struct texts *t, const char *name, const json_t *v)
{
    if (t->columns->id && strcmp(name, t->columns->id) == 0)
        return false;
    if (t->has_lines && strcmp(name, "id") == 0)
        return false;
    return json_is_number(v) || json_is_boolean(v) ||
           (json_is_string(v) && json_string_length(v) <= META_TEXT_MAX);
}

/* {"id","text","meta"}: meta is the row's own where it has one, else its flat columns, and the
 * number of the row in any case. */
static json_t *example_of(const struct texts *t, json_t *row, char *why, size_t cap)
{
    const char *text_name = t->columns->text ? t->columns->text : "text", *name;
    json_t *id = id_of(t, row), *text = json_object_get(row, text_name), *v;
    json_t *own = json_object_get(row, "meta"), *o = json_object();
    json_t *meta = json_is_object(own) ? json_copy(own) : json_object();

    if (!id) {
        snprintf(why, cap, "example %" PRIu64 ": its id is neither a string nor an integer",
                 t->number);
        json_decref(o);
        json_decref(meta);
        return NULL;
    }
    if (!json_is_object(own))
        json_object_foreach(row, name, v)
            if (strcmp(name, text_name) != 0 && goes_to_meta(t, name, v))
                json_object_set(meta, name, v);
    if (!json_object_get(meta, "row"))
        json_object_set_new(meta, "row", json_integer((json_int_t)t->number));
    json_object_set_new(o, "id", id);
    if (json_is_string(text))
        json_object_set(o, "text", text);
    json_object_set_new(o, "meta", meta);
    return o;
}

/* The columns of the next row; an empty object where there are none to read. */
static json_t *take_row(struct texts *t, char *why, size_t cap)
{
    if (t->has_lines)
        return line_object(t, why, cap);
    if (!t->folder)
        return json_object();
    if (next_row(t, why, cap))
        return row_object(t, why, cap);
    if (!*why)
        snprintf(why, cap, "%s: ends at example %" PRIu64, t->folder, t->number);
    return NULL;
}

bool texts_next(struct texts *t, json_t **out, char *why, size_t why_cap)
{
    json_t *row = take_row(t, why, why_cap);

    *out = row ? example_of(t, row, why, why_cap) : NULL;
    json_decref(row);
    t->number++;
    return *out != NULL;
}
