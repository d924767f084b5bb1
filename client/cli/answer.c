/* answer.c - see answer.h. */
#include "client/cli/answer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"

enum { ID_COLUMNS = 32 };

struct view {
    unsigned columns;  /* of the terminal; 0: none, nothing is cut */
    unsigned id_width;
    bool text, whole;
};

/* What each block adds, under the hit, in the order of the model. */
static void print_blocks(const struct asc_hit *h)
{
    char name[256];

    for (size_t i = 0; i < h->block_count; i++) {
        term_line(h->blocks[i].block, strlen(h->blocks[i].block), 0, name, sizeof name);
        printf("           %+9.6f  %s\n", h->blocks[i].share, name);
    }
}

static unsigned id_width(const struct asc_result *r)
{
    unsigned widest = 2;
    char line[1100];

    for (int side = 0; side < 2; side++) {
        const struct asc_hit *hits = side ? r->opponents : r->proponents;
        size_t count = side ? r->opponent_count : r->proponent_count;

        for (size_t i = 0; i < count; i++) {
            unsigned w = term_line(hits[i].id, strlen(hits[i].id), ID_COLUMNS, line, sizeof line);

            widest = w > widest ? w : widest;
        }
    }
    return widest;
}

static void print_hit(const struct asc_hit *h, const struct view *v)
{
    char id[1100], line[8192];
    unsigned used = term_line(h->id, strlen(h->id), v->columns ? ID_COLUMNS : 0, id, sizeof id);
    unsigned left = 4 + 5 + 2 + 9 + 2 + v->id_width + 2 + (h->percentile >= 0 ? 10 : 0), room = 0;

    printf("    %5" PRIu32 "  %+9.6f  ", h->rank, h->score);
    if (h->percentile >= 0)
        printf("%7.3f%%  ", 100 * h->percentile);
    fputs(id, stdout);
    if (!v->text || !h->text) {
        puts(v->text && h->text_damaged ? "  (its text is damaged)" : "");
        return;
    }
    printf("%*s", (int)(v->id_width > used ? v->id_width - used : 0) + 2, "");
    if (v->columns)
        room = v->columns > left + 10 ? v->columns - left : 10;
    if (v->whole) {
        putchar('\n');
        term_text(h->text, h->text_len);
        puts("\n");
        return;
    }
    term_line(h->text, h->text_len, room, line, sizeof line);
    puts(line);
}

static void print_hits(const char *what, const struct asc_hit *hits, size_t count,
                       const struct view *v)
{
    if (count == 0)
        return;
    printf("  %s\n    %5s  %9s  ", what, "rank", "score");
    if (hits[0].percentile >= 0)
        printf("%8s  ", "of all");
    if (v->text && !v->whole)
        printf("%-*s  text\n", (int)v->id_width, "id");
    else
        puts("id");
    for (size_t i = 0; i < count; i++) {
        print_hit(&hits[i], v);
        print_blocks(&hits[i]);
    }
}

static void print_groups(const struct asc_result *r)
{
    char value[256], n[32];

    if (!r->groups)
        return;
    printf("  groups\n    %12s  %12s  %9s  value\n", "examples", "sum", "mean");
    for (size_t i = 0; i < r->group_count; i++) {
        const struct asc_group *g = &r->groups[i];
        const char *text = g->value ? g->value : "(others)";

        term_line(text, strlen(text), 0, value, sizeof value);
        printf("    %12s  %+12.4f  %+9.6f  %s\n", out_count(g->count, n), g->sum, g->mean, value);
    }
}

void answer_print_result(const struct asc_result *r, bool text, bool whole)
{
    struct view v = {.columns = term_columns(STDOUT_FILENO), .text = text, .whole = whole};

    v.id_width = id_width(r);
    print_hits("proponents", r->proponents, r->proponent_count, &v);
    print_hits("opponents", r->opponents, r->opponent_count, &v);
    print_groups(r);
}

void answer_print(const struct asc_answer *a, uint64_t first, uint64_t total, bool text,
                  bool whole)
{
    char n[32], odds[32] = "";

    if (a->delta > 0)
        snprintf(odds, sizeof odds, " to %.3g", a->delta);
    for (size_t i = 0; i < a->count; i++) {
        printf("%squery %" PRIu64 " of %" PRIu64 ": %s examples, engine %s, %s%s, %.1f ms\n",
               first + i > 0 ? "\n" : "", first + i + 1, total, out_count(a->examples, n),
               a->engine, a->exact, odds, a->took_ms);
        answer_print_result(&a->results[i], text, whole);
    }
}
