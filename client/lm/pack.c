/* pack.c - see pack.h. */
#include "client/lm/pack.h"

#include <stdlib.h>

#include "client/lm/tok.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

void pack_init(struct pack *p, uint32_t context)
{
    *p = (struct pack){.context = context};
}

void pack_fini(struct pack *p)
{
    free(p->token);
    free(p->target);
    free(p->position);
    free(p->parent);
    free(p->weight);
    free(p->window);
    free(p->group);
    *p = (struct pack){0};
}

void pack_clear(struct pack *p)
{
    p->rows = p->windows = p->groups = 0;
    p->tree = false;
}

static void *grown(struct pack *p, void *old, size_t count)
{
    size_t bytes;
    void *q = mem_mul(count, sizeof(uint32_t), &bytes) ? realloc(old, bytes) : NULL;

    if (!q) {
        p->failed = true;
        return old;
    }
    return q;
}

_Static_assert(sizeof(float) == sizeof(uint32_t), "one growth serves all columns");

static void reserve(struct pack *p, size_t rows)
{
    size_t need = p->rows + rows, cap = p->row_cap ? p->row_cap : 256;

    if (need > UINT32_MAX / 2) {
        p->failed = true;
        return;
    }
    if (need > p->row_cap) {
        while (cap < need)
            cap *= 2;
        p->token = grown(p, p->token, cap);
        p->target = grown(p, p->target, cap);
        p->position = grown(p, p->position, cap);
        p->parent = grown(p, p->parent, cap);
        p->weight = grown(p, p->weight, cap);
        p->window = grown(p, p->window, cap + 1);
        p->row_cap = p->failed ? p->row_cap : cap;
    }
    if (p->groups + 2 > p->group_cap) {
        cap = p->group_cap ? p->group_cap * 2 : 64;
        p->group = grown(p, p->group, cap);
        p->group_cap = p->failed ? p->group_cap : cap;
    }
}

void pack_add(struct pack *p, const uint32_t *tokens, size_t count, size_t given, bool ending)
{
    size_t rows = count + ending;

    require(count > 0 && !p->tree);
    reserve(p, rows);
    if (p->failed)
        return;
    for (size_t i = 0; i < rows; i++) {
        uint32_t r = p->rows++;
        p->token[r] = i ? tokens[i - 1] : TOK_END;
        p->target[r] = i < count ? tokens[i] : TOK_END;
        p->weight[r] = i < given ? 0.0f : 1.0f;
        p->position[r] = (uint32_t)(i % p->context);
        if (p->position[r] == 0)
            p->window[p->windows++] = r;
    }
    p->window[p->windows] = p->rows;
    p->group[p->groups++] = p->rows - (uint32_t)rows;
    p->group[p->groups] = p->rows;
}

uint32_t pack_branch(struct pack *p, uint32_t parent, uint32_t token)
{
    const uint32_t r = p->rows;

    reserve(p, 1);
    if (p->failed)
        return 0;
    require(r == 0 || (p->tree && parent < r));
    p->tree = true;
    p->rows++;
    p->token[r] = r ? token : TOK_END;
    p->parent[r] = r ? parent : 0;
    p->position[r] = r ? p->position[parent] + 1 : 0;
    require(p->position[r] < p->context);
    return r;
}

int pack_check(const struct pack *p, struct err *e)
{
    return p->failed ? err_set(e, ERR_BUSY, "no memory for a batch of %u tokens", p->rows) : 0;
}

double pack_weight(const struct pack *p)
{
    double sum = 0;

    for (uint32_t r = 0; r < p->rows; r++)
        sum += (double)p->weight[r];
    return sum;
}
