#include "data.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "testing.h"

const data_type_t data_types[DATA_TYPES] = {
    {"int32", MPI_INT32_T, DATA_I32, 4},
    {"uint32", MPI_UINT32_T, DATA_U32, 4},
    {"int64", MPI_INT64_T, DATA_I64, 8},
    {"uint64", MPI_UINT64_T, DATA_U64, 8},
    {"float", MPI_FLOAT, DATA_F32, 4},
    {"double", MPI_DOUBLE, DATA_F64, 8},
    {"int", MPI_INT, DATA_I32, 4},
    {"unsigned", MPI_UNSIGNED, DATA_U32, 4},
    {"long", MPI_LONG, sizeof(long) == 8 ? DATA_I64 : DATA_I32, sizeof(long)},
    {"unsigned_long", MPI_UNSIGNED_LONG, sizeof(long) == 8 ? DATA_U64 : DATA_U32, sizeof(long)},
    {"long_long", MPI_LONG_LONG, DATA_I64, 8},
};

MPI_Op data_mpi_op(data_op_t op)
{
    const MPI_Op ops[DATA_OPS] = {MPI_SUM, MPI_PROD, MPI_MIN, MPI_MAX};
    return ops[op];
}

const char *data_op_name(data_op_t op)
{
    static const char *const names[DATA_OPS] = {"sum", "prod", "min", "max"};
    return names[op];
}

/* --- values -------------------------------------------------------------------------------------------------------- */

static double special(uint64_t random, bool narrow)
{
    switch (random % 10) {
    case 0:
        return NAN;
    case 1:
        return INFINITY;
    case 2:
        return -INFINITY;
    case 3:
    case 4:
        return 0.0;
    case 5:
    case 6:
        return -0.0;
    case 7:
        return narrow ? FLT_MIN / 64 : DBL_MIN / 64;
    case 8:
        return narrow ? FLT_MAX / 2 : DBL_MAX / 2;
    default:
        return narrow ? -FLT_MAX / 2 : -DBL_MAX / 2;
    }
}

/* A number of magnitude 1/8 to 8 with a full mantissa, so that sums and products round. */
static double plain(uint64_t random)
{
    const double mantissa = 1 + (double) (random >> 12) * 0x1p-52;
    return ldexp(0 == (random & 1) ? mantissa : -mantissa, (int) (random >> 1 & 7) % 6 - 3);
}

static double number(uint64_t seed, int rank, uint64_t index, bool narrow)
{
    const uint64_t random = test_random(seed + (uint64_t) rank * 7919, index);

    return 0 == test_random(~seed, index) % 16 ? special(random >> 8, narrow) : plain(random);
}

void data_fill(void *to, const data_type_t *type, uint64_t seed, int rank, uint64_t first, uint64_t count)
{
    for (uint64_t i = 0; i < count; ++i) {
        const uint64_t random = test_random(seed + (uint64_t) rank * 7919, first + i);
        switch (type->element) {
        case DATA_F32:
            ((float *) to)[i] = (float) number(seed, rank, first + i, true);
            break;
        case DATA_F64:
            ((double *) to)[i] = number(seed, rank, first + i, false);
            break;
        case DATA_I32:
        case DATA_U32:
            ((uint32_t *) to)[i] = (uint32_t) random;
            break;
        default:
            ((uint64_t *) to)[i] = random;
            break;
        }
    }
}

/* --- the fold ------------------------------------------------------------------------------------------------------ */

/*
 * MIN and MAX as MPI_Reduce_local(acc, next) has them: what does not compare leaves the accumulator. Sums and products
 * of integers are those of the unsigned type: they wrap.
 */
#define FOLD(T, wrapping)                                                                                              \
    do {                                                                                                               \
        T *a = acc;                                                                                                    \
        const T *n = next;                                                                                             \
        for (uint64_t i = 0; i < count; ++i) {                                                                         \
            switch (op) {                                                                                              \
            case DATA_SUM:                                                                                             \
                a[i] = (T) ((wrapping) a[i] + (wrapping) n[i]);                                                        \
                break;                                                                                                 \
            case DATA_PROD:                                                                                            \
                a[i] = (T) ((wrapping) a[i] * (wrapping) n[i]);                                                        \
                break;                                                                                                 \
            case DATA_MIN:                                                                                             \
                a[i] = n[i] < a[i] ? n[i] : a[i];                                                                      \
                break;                                                                                                 \
            default:                                                                                                   \
                a[i] = n[i] > a[i] ? n[i] : a[i];                                                                      \
                break;                                                                                                 \
            }                                                                                                          \
        }                                                                                                              \
    } while (0)

static void fold(void *acc, const void *next, data_element_t element, data_op_t op, uint64_t count)
{
    switch (element) {
    case DATA_I32:
        FOLD(int32_t, uint32_t);
        break;
    case DATA_U32:
        FOLD(uint32_t, uint32_t);
        break;
    case DATA_I64:
        FOLD(int64_t, uint64_t);
        break;
    case DATA_U64:
        FOLD(uint64_t, uint64_t);
        break;
    case DATA_F32:
        FOLD(float, float);
        break;
    default:
        FOLD(double, double);
        break;
    }
}

void data_expect(void *to, void *scratch, const data_type_t *type, data_op_t op, uint64_t seed, int size, uint64_t first,
                 uint64_t count)
{
    data_fill(to, type, seed, 0, first, count);
    for (int r = 1; r < size; ++r) {
        data_fill(scratch, type, seed, r, first, count);
        fold(to, scratch, type->element, op, count);
    }
}

/* --- comparing ----------------------------------------------------------------------------------------------------- */

/* An element's bits, those of one NaN for all. */
static uint64_t bits(const void *data, const data_type_t *type, uint64_t index)
{
    uint64_t wide;
    uint32_t narrow;

    if (4 == type->bytes) {
        memcpy(&narrow, (const char *) data + index * 4, 4);
        return DATA_F32 == type->element && (narrow & 0x7fffffff) > 0x7f800000 ? 0x7fc00000 : narrow;
    }
    memcpy(&wide, (const char *) data + index * 8, 8);
    return DATA_F64 == type->element && (wide & INT64_MAX) > UINT64_C(0x7ff0000000000000)
               ? UINT64_C(0x7ff8000000000000)
               : wide;
}

uint64_t data_differ(const void *a, const void *b, const data_type_t *type, uint64_t count)
{
    uint64_t i = 0;

    if (0 == memcmp(a, b, count * type->bytes)) {
        return count;
    }
    while (i < count && bits(a, type, i) == bits(b, type, i)) {
        ++i;
    }
    return i;
}

const char *data_text(const void *data, const data_type_t *type, uint64_t index, char text[40])
{
    switch (type->element) {
    case DATA_F32:
        snprintf(text, 40, "%.9g (%08llx)", ((const float *) data)[index],
                 (unsigned long long) bits(data, type, index));
        break;
    case DATA_F64:
        snprintf(text, 40, "%.17g", ((const double *) data)[index]);
        break;
    default:
        snprintf(text, 40, "0x%llx", (unsigned long long) bits(data, type, index));
        break;
    }
    return text;
}

uint64_t data_digest(uint64_t digest, const void *data, const data_type_t *type, uint64_t count)
{
    for (uint64_t i = 0; i < count; ++i) {
        digest = (digest ^ bits(data, type, i)) * UINT64_C(0x100000001b3);
        digest ^= digest >> 29;
    }
    return digest;
}
