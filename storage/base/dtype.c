/* dtype.c - see dtype.h. */
#include "storage/base/dtype.h"

#include <strings.h>

#include "storage/base/check.h"

static const struct {
    enum dtype type;
    size_t size;
    const char *name;
    const char *tensor_name;
} types[] = {
    {DTYPE_F32, 4, "f32", "F32"},
    {DTYPE_F16, 2, "f16", "F16"},
    {DTYPE_BF16, 2, "bf16", "BF16"},
};

enum { TYPE_COUNT = sizeof types / sizeof types[0] };

static size_t row_of(enum dtype t)
{
    size_t i = 0;

    while (i < TYPE_COUNT && types[i].type != t)
        i++;
    require(i < TYPE_COUNT);
    return i;
}

size_t dtype_size(enum dtype t)
{
    return types[row_of(t)].size;
}

const char *dtype_name(enum dtype t)
{
    return types[row_of(t)].name;
}

const char *dtype_tensor_name(enum dtype t)
{
    return types[row_of(t)].tensor_name;
}

bool dtype_from_name(const char *name, enum dtype *out)
{
    for (size_t i = 0; i < TYPE_COUNT; i++)
        if (strcasecmp(types[i].name, name) == 0) {
            *out = types[i].type;
            return true;
        }
    return false;
}
