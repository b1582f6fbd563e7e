#include "data.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "testing.h"

/* --- numbers ---------------------------------------------------------------------------------- */

/* The ends of a floating-point format. */
typedef struct {
    double smallest, largest; /* normal numbers */
} range_t;

static const range_t range16 = {0x1p-14, 65504}, range32 = {FLT_MIN, FLT_MAX},
                     range64 = {DBL_MIN, DBL_MAX};

static double special(uint64_t random, const range_t *range)
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
        return range->smallest / 64;
    case 8:
        return range->largest / 2;
    default:
        return -range->largest / 2;
    }
}

/* A number of magnitude 1/8 to 8 with a full mantissa, so that sums and products round. */
static double plain(uint64_t random)
{
    const double mantissa = 1 + (double) (random >> 12) * 0x1p-52;
    return ldexp(0 == (random & 1) ? mantissa : -mantissa, (int) (random >> 1 & 7) % 6 - 3);
}

/*
 * Where an element comes from. Ranks share `seed` and `index`, so they agree on which elements are
 * of what sort.
 */
typedef struct {
    uint64_t seed, index, random; /* `random` is this rank's own */
} source_t;

static double number(const source_t *from, const range_t *range)
{
    return 0 == test_random(~from->seed, from->index) % 16 ? special(from->random >> 8, range)
                                                           : plain(from->random);
}

/*
 * Both parts; where an element is special, each part is with even odds, so that all ways they can
 * meet occur.
 */
static void parts(const source_t *from, const range_t *range, double part[2])
{
    const uint64_t other = test_random(from->random, 2);
    const bool odd = 0 == test_random(~from->seed, from->index) % 8;

    part[0] =
        odd && 0 != (other >> 60 & 1) ? special(from->random >> 8, range) : plain(from->random);
    part[1] = odd && 0 != (other >> 61 & 1) ? special(other >> 8, range) : plain(other);
}

/*
 * Most integers are just random. Of every fourth element one half is false on most ranks, the other
 * true on most, in ways that look false or alike to who reads a part of the bits only.
 */
static uint64_t integer(const source_t *from)
{
    static const uint64_t truths[] = {
        1, 2, UINT64_MAX, 256, UINT64_C(0x8000000000000000), 0x8000, UINT64_C(1) << 32, 1};
    const uint64_t sort = (from->index + from->seed) * UINT64_C(0x9e3779b97f4a7c15) >> 61;
    const bool rare = 0 == (from->random & 7);

    if (sort > 1) {
        return from->random;
    }
    return (0 == sort) == rare ? truths[from->random >> 8 & 7] : 0;
}

/* A pair's value: one of three in half of the elements, so that ranks tie. */
static bool ties(const source_t *from, int *value)
{
    *value = (int) ((from->random >> 32) % 3) - 1;
    return 0 != (test_random(from->seed ^ 0x71e, from->index) & 1);
}

static double located(const source_t *from, const range_t *range)
{
    int value;

    if (!ties(from, &value)) {
        return number(from, range);
    }
    return 0 != value ? value : 0 != (from->random & 16) ? -0.0 : 0.0;
}

static int64_t located_integer(const source_t *from)
{
    int value;

    return ties(from, &value) ? value : (int64_t) integer(from);
}

/* An index: of any sign, at times the same on several ranks. */
static int32_t place(const source_t *from)
{
    const uint64_t random = test_random(from->random, 3);

    return 0 == (random & 3) ? (int32_t) (random >> 8 & 1) - 1 : (int32_t) (random >> 16);
}

static double place_number(const source_t *from, const range_t *range)
{
    const source_t other = {
        .seed = ~from->seed, .index = from->index, .random = test_random(from->random, 3)};

    return located(&other, range);
}

/* --- elements --------------------------------------------------------------------------------- */

static void fill_number(void *to, data_element_t element, const source_t *from)
{
    switch (element) {
    case DATA_F16:
        *(data_half_t *) to = data_to_half((float) number(from, &range16));
        break;
    case DATA_F32:
        *(float *) to = (float) number(from, &range32);
        break;
    case DATA_F64:
        *(double *) to = number(from, &range64);
        break;
    default:
        *(long double *) to = (long double) number(from, &range64);
        break;
    }
}

static void fill_complex(void *to, data_element_t element, const source_t *from)
{
    double part[2];

    parts(from, DATA_C16 == element ? &range16 : DATA_C32 == element ? &range32 : &range64, part);
    switch (element) {
    case DATA_C16:
        *(data_c16_t *) to =
            (data_c16_t){data_to_half((float) part[0]), data_to_half((float) part[1])};
        break;
    case DATA_C32:
        *(data_c32_t *) to = (data_c32_t){(float) part[0], (float) part[1]};
        break;
    case DATA_C64:
        *(data_c64_t *) to = (data_c64_t){part[0], part[1]};
        break;
    default:
        *(data_c80_t *) to = (data_c80_t){(long double) part[0], (long double) part[1]};
        break;
    }
}

/* Member by member: the gaps stay as they are. */
#define FILL_PAIR(T, value, at)                                                                    \
    do {                                                                                           \
        ((T *) to)->v = (value);                                                                   \
        ((T *) to)->k = (at);                                                                      \
    } while (0)

static void fill_pair(void *to, data_element_t element, const source_t *from)
{
    switch (element) {
    case DATA_F32_I32:
        FILL_PAIR(data_f32_i32_t, (float) located(from, &range32), place(from));
        break;
    case DATA_F64_I32:
        FILL_PAIR(data_f64_i32_t, located(from, &range64), place(from));
        break;
    case DATA_I64_I32:
        FILL_PAIR(data_i64_i32_t, located_integer(from), place(from));
        break;
    case DATA_I32_I32:
        FILL_PAIR(data_i32_i32_t, (int32_t) located_integer(from), place(from));
        break;
    case DATA_I16_I32:
        FILL_PAIR(data_i16_i32_t, (int16_t) located_integer(from), place(from));
        break;
    case DATA_F80_I32:
        FILL_PAIR(data_f80_i32_t, (long double) located(from, &range64), place(from));
        break;
    case DATA_F32_F32:
        FILL_PAIR(data_f32_f32_t, (float) located(from, &range32),
                  (float) place_number(from, &range32));
        break;
    default:
        FILL_PAIR(data_f64_f64_t, located(from, &range64), place_number(from, &range64));
        break;
    }
}

static void fill_element(void *to, const data_type_t *type, const source_t *from)
{
    const uint64_t whole = integer(from);

    switch (type->element) {
    case DATA_I8:
    case DATA_U8:
    case DATA_I16:
    case DATA_U16:
    case DATA_I32:
    case DATA_U32:
    case DATA_I64:
    case DATA_U64:
        memcpy(to, &whole, type->bytes); /* the low end: x86 */
        break;
    case DATA_BOOL:
        *(_Bool *) to = 0 != (whole & 3); /* nothing else is one */
        break;
    case DATA_F16:
    case DATA_F32:
    case DATA_F64:
    case DATA_F80:
        fill_number(to, type->element, from);
        break;
    case DATA_C16:
    case DATA_C32:
    case DATA_C64:
    case DATA_C80:
        fill_complex(to, type->element, from);
        break;
    default:
        fill_pair(to, type->element, from);
        break;
    }
}

void data_fill(void *to, const data_type_t *type, uint64_t seed, int rank, uint64_t first,
               uint64_t count)
{
    for (uint64_t i = 0; i < count; ++i) {
        char *const element = (char *) to + i * type->bytes;
        const source_t from = {.seed = seed, .index = first + i,
                               .random = test_random(seed + (uint64_t) rank * 7919, first + i)};

        if (DATA_LOCATED == type->group) {
            memset(element, (int) (from.random >> 40 & 0xff), type->bytes);
        }
        fill_element(element, type, &from);
    }
}
