#include "ops_data.h"

#include <math.h>

#include "car.h"
#include "testing.h"

static const ops_format_t bf16 = {7, 127, 0x7f80}, half = {10, 15, 0x7c00};

const ops_op_t ops[OPS] = {
    {"bf16_sum", &bf16, DATA_SUM, CAR_Op_create_bf16_sum},
    {"bf16_prod", &bf16, DATA_PROD, CAR_Op_create_bf16_prod},
    {"bf16_min", &bf16, DATA_MIN, CAR_Op_create_bf16_min},
    {"bf16_max", &bf16, DATA_MAX, CAR_Op_create_bf16_max},
    {"half_sum", &half, DATA_SUM, CAR_Op_create_half_sum},
    {"half_prod", &half, DATA_PROD, CAR_Op_create_half_prod},
    {"half_min", &half, DATA_MIN, CAR_Op_create_half_min},
    {"half_max", &half, DATA_MAX, CAR_Op_create_half_max},
};

/* --- conversions ------------------------------------------------------------------------------ */

bool ops_is_nan(const ops_format_t *format, uint16_t bits)
{
    return (bits & 0x7fff) > format->infinity;
}

/*
 * The number of that magnitude, as the standard defines it; for infinity, the power of two in its
 * place. Out of a table that the first call fills: a job looks up some hundred million.
 */
static double magnitude_value(const ops_format_t *f, uint16_t magnitude)
{
    static double tables[2][0x8000];
    double *table = tables[f == &half];

    for (int m = 0 == table[1] ? 0 : 0x8000; m < 0x8000; ++m) {
        const int fraction = m & ((1 << f->mantissa_bits) - 1), exponent = m >> f->mantissa_bits;
        table[m] = 0 == exponent ? ldexp(fraction, 1 - f->bias - f->mantissa_bits)
                                 : ldexp(fraction + (1 << f->mantissa_bits),
                                         exponent - f->bias - f->mantissa_bits);
    }
    return table[magnitude];
}

float ops_float(const ops_format_t *format, uint16_t bits)
{
    const uint16_t magnitude = bits & 0x7fff;
    const float value = magnitude > format->infinity ? NAN
                        : magnitude == format->infinity
                            ? INFINITY
                            : (float) magnitude_value(format, magnitude);
    return copysignf(value, 0 == (bits & 0x8000) ? 1.0F : -1.0F);
}

/* Looks for the two numbers that the value is between. */
uint16_t ops_round(const ops_format_t *format, float value)
{
    const uint16_t sign = signbit(value) ? 0x8000 : 0;
    const double magnitude = fabs((double) value);
    uint16_t below = 0, above = format->infinity;

    if (isnan(value)) {
        return (uint16_t) (sign | format->infinity | 1 << (format->mantissa_bits - 1));
    }
    while (above - below > 1) {
        const uint16_t middle = (uint16_t) ((below + above) / 2);
        *(magnitude_value(format, middle) <= magnitude ? &below : &above) = middle;
    }
    const double to_below = magnitude - magnitude_value(format, below);
    const double to_above = magnitude_value(format, above) - magnitude;
    const bool up = to_above < to_below || (to_above == to_below && 1 == below % 2);
    return (uint16_t) (sign | (up ? above : below));
}

float ops_step(data_op_t op, float acc, float next)
{
    switch (op) {
    case DATA_SUM:
        return acc + next;
    case DATA_PROD:
        return acc * next;
    case DATA_MIN:
        return next < acc ? next : acc;
    default:
        return next > acc ? next : acc;
    }
}

/* --- values ----------------------------------------------------------------------------------- */

/*
 * Any 16 bits, or as often a number of magnitude 1/8 to 8: sums of such round, and all of them
 * matter.
 */
static uint16_t any(const ops_format_t *f, uint64_t random)
{
    const uint16_t bits = (uint16_t) (random >> 8);
    const int exponent = f->bias - 3 + (int) (random >> 32) % 6;

    return 0 == (random & 1) ? bits
                             : (uint16_t) ((bits & (0x8000 | ((1 << f->mantissa_bits) - 1)))
                                           | exponent << f->mantissa_bits);
}

uint16_t ops_value(const ops_op_t *op, ops_values_t values, uint64_t seed, int rank, uint64_t index)
{
    const uint64_t random = test_random(seed + (uint64_t) rank * 7919, index);

    if (OPS_EXACT == values && DATA_SUM == op->op) {
        return ops_round(op->format, (float) ((int) (random % 31) - 15));
    }
    if (OPS_EXACT == values && DATA_PROD == op->op) {
        return ops_round(op->format, (random & 4 ? -1.0F : 1.0F)
                                         * (0 == random % 3 ? 0.5F : (float) (random % 3)));
    }
    const uint16_t bits = any(op->format, random);
    /* In any order, the least of numbers is the same; that of NaN is not. */
    return OPS_ANY != values && ops_is_nan(op->format, bits) ? (uint16_t) (bits & 0x8fff) : bits;
}

uint16_t ops_fold(const ops_op_t *op, ops_values_t values, uint64_t seed, int ranks, uint64_t index,
                  bool once)
{
    float acc = ops_float(op->format, ops_value(op, values, seed, 0, index));

    for (int rank = 1; rank < ranks; ++rank) {
        acc =
            ops_step(op->op, acc, ops_float(op->format, ops_value(op, values, seed, rank, index)));
        acc = once ? acc : ops_float(op->format, ops_round(op->format, acc));
    }
    return ops_round(op->format, acc);
}
