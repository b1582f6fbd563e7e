/* IEEE binary16 by hand, so that neither a compiler's nor a GPU's conversion is taken on trust. */
#include <string.h>

#include "data.h"

float data_from_half(data_half_t half)
{
    const uint32_t sign = (uint32_t) (half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 31, mantissa = half & 0x3ff, bits;
    float value;

    if (31 == exponent) {
        bits = sign | 0x7f800000 | mantissa << 13;
    } else if (0 != exponent) {
        bits = sign | (exponent + 127 - 15) << 23 | mantissa << 13;
    } else {
        /* A multiple of 2^-24, which is a normal number in 32 bits. */
        value = (float) mantissa * 0x1p-24f;
        memcpy(&bits, &value, sizeof(bits));
        bits |= sign;
    }
    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* `value` shifted right, to the nearest, ties to even. */
static uint32_t shift_round(uint32_t value, int by)
{
    const uint32_t half = UINT32_C(1) << (by - 1), rest = value & (2 * half - 1);
    const uint32_t whole = value >> by;

    return whole + (rest > half || (rest == half && 0 != (whole & 1)) ? 1 : 0);
}

data_half_t data_to_half(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    const int exponent = (int) (magnitude >> 23) - 127;

    if (magnitude > 0x7f800000) {
        return (data_half_t) (sign | 0x7e00); /* NaN */
    }
    if (exponent > 15) {
        return (data_half_t) (sign | 0x7c00); /* infinite, or rounds to it */
    }
    if (exponent >= -14) {
        /*
         * A carry out of the mantissa goes up into the exponent, and from the largest number to
         * infinity.
         */
        return (data_half_t) (sign | shift_round(magnitude - ((UINT32_C(127) - 15) << 23), 13));
    }
    if (exponent < -25) {
        return (data_half_t) sign;
    }
    return (data_half_t) (sign
                          | shift_round((magnitude & 0x7fffff) | 0x800000, -exponent - 14 + 13));
}
