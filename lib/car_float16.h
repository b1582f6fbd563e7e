/*
 * Conversions between the 16-bit floats, as the 16 bits that they are in memory, and float32. To
 * float32 they are exact; from there they round to nearest, ties to even. In integers, so that
 * neither the rounding mode nor a processor that takes denormal numbers for zero changes them. NaN
 * become quiet and keep their sign and what fits of their payload.
 */
#ifndef CAR_FLOAT16_H
#define CAR_FLOAT16_H

#include <stdint.h>
#include <string.h>

static inline float car_float_of_bits(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static inline uint32_t car_bits_of_float(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

/* --- bf16: the upper half of a float32 -------------------------------------------------------- */

static inline float car_bf16_to_float(uint16_t bf16)
{
    return car_float_of_bits((uint32_t) bf16 << 16);
}

static inline uint16_t car_bf16_from_float(float value)
{
    const uint32_t bits = car_bits_of_float(value);

    if ((bits & 0x7fffffff) > 0x7f800000) {
        /*
         * Rounding up could carry a NaN's mantissa into the exponent and the sign; cutting off
         * could leave an infinity.
         */
        return (uint16_t) (bits >> 16 | 0x0040);
    }
    /*
     * A carry out of the mantissa is right: the next exponent, and infinity after the largest
     * number.
     */
    return (uint16_t) ((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* --- half: IEEE 754 binary16 ------------------------------------------------------------------ */

static inline float car_half_to_float(uint16_t half)
{
    const uint32_t sign = (uint32_t) (half & 0x8000) << 16;
    const uint32_t magnitude = half & 0x7fff;

    if (magnitude >= 0x7c00) { /* infinity, NaN */
        return car_float_of_bits(sign | 0x7f800000 | (magnitude & 0x03ff) << 13);
    }
    if (magnitude >= 0x0400) { /* the exponent's bias is 127 instead of 15 */
        return car_float_of_bits(sign | ((magnitude << 13) + (112u << 23)));
    }
    /* Denormal: a multiple of 2^-24, which is a normal number in float32. */
    return car_float_of_bits(sign | car_bits_of_float((float) magnitude * 0x1p-24f));
}

static inline uint16_t car_half_from_float(float value)
{
    const uint32_t bits = car_bits_of_float(value);
    const uint32_t sign = bits >> 16 & 0x8000;
    const uint32_t magnitude = bits & 0x7fffffff;

    if (magnitude > 0x7f800000) { /* NaN */
        return (uint16_t) (sign | 0x7e00 | (magnitude >> 13 & 0x01ff));
    }
    if (magnitude >= 0x47800000) { /* 65536 and more */
        return (uint16_t) (sign | 0x7c00);
    }
    if (magnitude >= 0x38800000) {
        /* Normal, from 2^-14 on. A carry out of the mantissa is right, up to infinity, as above. */
        return (uint16_t) (sign
                           | (magnitude - (112u << 23) + 0x0fff + (magnitude >> 13 & 1)) >> 13);
    }
    if (magnitude < 0x33000000) { /* below 2^-25, half of the smallest number */
        return (uint16_t) sign;
    }
    /*
     * Denormal: how many times 2^-24, by dividing the mantissa by 2^shift; a carry gives the
     * smallest normal number.
     */
    const uint32_t shift = 126 - (magnitude >> 23);
    const uint32_t mantissa = (magnitude & 0x007fffff) | 0x00800000;
    const uint32_t half_unit = UINT32_C(1) << (shift - 1);
    return (uint16_t) (sign | (mantissa + half_unit - 1 + (mantissa >> shift & 1)) >> shift);
}

#endif /* CAR_FLOAT16_H */
