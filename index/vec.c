/* vec.c - normalising and rounding vectors. See vec.h.
 *
 * No sum here can overflow or vanish: squares of float32 values lie in [2^-298, 2^256] and are
 * summed in float64. Views only, nothing is kept; any thread.
 */
#include "index/vec.h"

#include <math.h>
#include <string.h>

#include "index/kern.h"
#include "storage/base/check.h"
#include "storage/base/plant.h"

/* Nearest even, by the bits. Past the largest finite value plus half a step comes infinity. */
static uint16_t f16_of(float v)
{
    uint32_t bits, sign;

    memcpy(&bits, &v, sizeof bits);
    sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (bits >> 13 & 0x3ff)); /* NaN stays NaN, quiet */
    if (bits >= 0x477ff000) /* 65520 */
        return (uint16_t)(sign | 0x7c00);
    if (bits < 0x38800000) { /* below 2^-14: steps of 2^-24, which is what float32 has at 1/2 */
        float part;

        memcpy(&part, &bits, sizeof part);
        part += 0.5f;
        memcpy(&bits, &part, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    bits += 0xfff + (bits >> 13 & 1);
    return (uint16_t)(sign | ((bits - (112u << 23)) >> 13));
}

static uint16_t bf16_of(float v)
{
    uint32_t bits;

    memcpy(&bits, &v, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void vec_narrow(const float *in, size_t count, enum dtype t, uint16_t *out)
{
    require(t == DTYPE_F16 || t == DTYPE_BF16);
    for (size_t i = 0; i < count; i++) {
        uint16_t v = t == DTYPE_F16 ? f16_of(in[i]) : bf16_of(in[i]);

        memcpy((char *)out + i * sizeof v, &v, sizeof v);
    }
}

void vec_widen(const void *in, enum dtype t, size_t count, float *out)
{
    if (t == DTYPE_F32)
        memcpy(out, in, count * sizeof *out);
    else if (t == DTYPE_F16)
        kern->widen_f16(in, count, out);
    else
        kern->widen_bf16(in, count, out);
}

static void put_row(const float *row, size_t d, enum dtype t, void *out)
{
    if (t == DTYPE_F32)
        memcpy(out, row, d * sizeof *row);
    else
        vec_narrow(row, d, t, out);
}

static int not_finite(float v, const char *field, size_t row, size_t element, struct err *e)
{
    err_set(e, ERR_NOT_FINITE, "%s: row %zu, element %zu is %s", field, row, element,
            isnan(v) ? "NaN" : v > 0 ? "+infinity" : "-infinity");
    err_at_field(e, field);
    return err_at_index(e, (int64_t)row);
}

/* f16 and bf16 rows are rounded to float32 first, then to their type. Some element is at least
 * 1/sqrt(d), so a unit row cannot round to zeros in any type for any d a machine can hold. */
int vec_normalise(const void *in, enum dtype in_type, size_t d, enum dtype out_type, void *out,
                  double *out_norm, float *scratch, const char *field, size_t row, struct err *e)
{
    size_t bad;
    double norm;

    vec_widen(in, in_type, d, scratch);
    bad = kern->first_bad_f32(scratch, d);
    if (bad < d && !planted(NAN_TAKEN))
        return not_finite(scratch[bad], field, row, bad, e);
    norm = sqrt(kern->dot_f32(scratch, scratch, d));
    if (norm == 0.0) {
        err_set(e, ERR_ZERO_GRADIENT, "%s: row %zu is all zeros and has no direction", field, row);
        err_at_field(e, field);
        return err_at_index(e, (int64_t)row);
    }
    if (out_type == DTYPE_F32 && (uintptr_t)out % _Alignof(float) == 0) {
        kern->scale_f32(scratch, d, norm, out);
    } else {
        kern->scale_f32(scratch, d, norm, scratch);
        put_row(scratch, d, out_type, out);
    }
    *out_norm = norm;
    return 0;
}
