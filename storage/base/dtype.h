/* dtype.h - the element types a vector may be stored or sent in. Names as in safetensors. */
#ifndef STORAGE_BASE_DTYPE_H
#define STORAGE_BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The values are part of the disk format. */
enum dtype { DTYPE_F32 = 1, DTYPE_F16 = 2, DTYPE_BF16 = 3 };

size_t dtype_size(enum dtype t);          /* bytes an element */
const char *dtype_name(enum dtype t);     /* "f32", "f16", "bf16": in manifests */
const char *dtype_tensor_name(enum dtype t); /* "F32", "F16", "BF16": in safetensors */
bool dtype_from_name(const char *name, enum dtype *out); /* either spelling; false when unknown */

#endif
