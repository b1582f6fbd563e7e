/* Elements as the parts that have a meaning, and the gaps between them. */
#include <stdio.h>
#include <string.h>

#include "data.h"

typedef enum { PART_NONE, PART_INTEGER, PART_F16, PART_F32, PART_F64, PART_F80 } part_t;

/*
 * Bytes that a part takes, and of those the ones that say something: the x87 float has six that do
 * not.
 */
static const struct {
    size_t bytes, significant;
} sizes[] = {[PART_F16] = {2, 2}, [PART_F32] = {4, 4}, [PART_F64] = {8, 8}, [PART_F80] = {16, 10}};

/* Integers have the bytes that are left to them. */
typedef struct {
    part_t part[2];
    size_t at, integer; /* where the second part begins; bytes of an integer */
} shape_t;

static const shape_t shapes[DATA_ELEMENTS] = {
    [DATA_I8] = {{PART_INTEGER}, 0, 1},
    [DATA_U8] = {{PART_INTEGER}, 0, 1},
    [DATA_BOOL] = {{PART_INTEGER}, 0, 1},
    [DATA_I16] = {{PART_INTEGER}, 0, 2},
    [DATA_U16] = {{PART_INTEGER}, 0, 2},
    [DATA_I32] = {{PART_INTEGER}, 0, 4},
    [DATA_U32] = {{PART_INTEGER}, 0, 4},
    [DATA_I64] = {{PART_INTEGER}, 0, 8},
    [DATA_U64] = {{PART_INTEGER}, 0, 8},
    [DATA_F16] = {{PART_F16}, 0, 0},
    [DATA_F32] = {{PART_F32}, 0, 0},
    [DATA_F64] = {{PART_F64}, 0, 0},
    [DATA_F80] = {{PART_F80}, 0, 0},
    [DATA_C16] = {{PART_F16, PART_F16}, 2, 0},
    [DATA_C32] = {{PART_F32, PART_F32}, 4, 0},
    [DATA_C64] = {{PART_F64, PART_F64}, 8, 0},
    [DATA_C80] = {{PART_F80, PART_F80}, 16, 0},
    [DATA_F32_I32] = {{PART_F32, PART_INTEGER}, offsetof(data_f32_i32_t, k), 4},
    [DATA_F64_I32] = {{PART_F64, PART_INTEGER}, offsetof(data_f64_i32_t, k), 4},
    [DATA_I64_I32] = {{PART_INTEGER, PART_INTEGER}, offsetof(data_i64_i32_t, k), 8},
    [DATA_I32_I32] = {{PART_INTEGER, PART_INTEGER}, offsetof(data_i32_i32_t, k), 4},
    [DATA_I16_I32] = {{PART_INTEGER, PART_INTEGER}, offsetof(data_i16_i32_t, k), 2},
    [DATA_F80_I32] = {{PART_F80, PART_INTEGER}, offsetof(data_f80_i32_t, k), 4},
    [DATA_F32_F32] = {{PART_F32, PART_F32}, offsetof(data_f32_f32_t, k), 0},
    [DATA_F64_F64] = {{PART_F64, PART_F64}, offsetof(data_f64_f64_t, k), 0},
};

/* Bytes of part p of an element; a pair's index is an int. */
static size_t part_bytes(const shape_t *shape, int p)
{
    return PART_INTEGER != shape->part[p] ? sizes[shape->part[p]].bytes
           : 0 == p                       ? shape->integer
                                          : sizeof(int32_t);
}

typedef struct {
    uint64_t low, high;
} bits_t;

static bool is_nan(part_t part, bits_t b)
{
    switch (part) {
    case PART_F16:
        return (b.low & 0x7fff) > 0x7c00;
    case PART_F32:
        return (b.low & 0x7fffffff) > 0x7f800000;
    case PART_F64:
        return (b.low & INT64_MAX) > UINT64_C(0x7ff0000000000000);
    case PART_F80:
        return 0x7fff == (b.high & 0x7fff) && 0 != (b.low & INT64_MAX);
    default:
        return false;
    }
}

/* A part's bits, those of one NaN for all. */
static bits_t bits(const void *data, const data_type_t *type, uint64_t index, int p)
{
    static const bits_t nans[] = {[PART_F16] = {0x7e00, 0},
                                  [PART_F32] = {0x7fc00000, 0},
                                  [PART_F64] = {UINT64_C(0x7ff8000000000000), 0},
                                  [PART_F80] = {UINT64_C(0xc000000000000000), 0x7fff}};
    const shape_t *shape = &shapes[type->element];
    const part_t part = shape->part[p];
    bits_t b = {0, 0};

    memcpy(&b, (const char *) data + index * type->bytes + (0 == p ? 0 : shape->at),
           PART_INTEGER == part ? part_bytes(shape, p) : sizes[part].significant);
    return is_nan(part, b) ? nans[part] : b;
}

static bool same(const void *a, const void *b, const data_type_t *type, uint64_t index)
{
    for (int p = 0; p < 2 && PART_NONE != shapes[type->element].part[p]; ++p) {
        const bits_t one = bits(a, type, index, p), other = bits(b, type, index, p);
        if (one.low != other.low || one.high != other.high) {
            return false;
        }
    }
    return true;
}

uint64_t data_differ(const void *a, const void *b, const data_type_t *type, uint64_t count)
{
    uint64_t i = 0;

    if (0 == memcmp(a, b, count * type->bytes)) {
        return count;
    }
    while (i < count && same(a, b, type, i)) {
        ++i;
    }
    return i;
}

uint64_t data_gaps_differ(const void *a, const void *b, const data_type_t *type, uint64_t count)
{
    const shape_t *shape = &shapes[type->element];
    /* Behind the first part up to the second, and behind that up to the next element. */
    const size_t first = part_bytes(shape, 0),
                 second = PART_NONE == shape->part[1] ? first : shape->at;
    const size_t end = PART_NONE == shape->part[1] ? first : second + part_bytes(shape, 1);

    for (uint64_t i = 0; i < count; ++i) {
        const char *one = (const char *) a + i * type->bytes,
                   *other = (const char *) b + i * type->bytes;
        if (0 != memcmp(one + first, other + first, second - first)
            || 0 != memcmp(one + end, other + end, type->bytes - end)) {
            return i;
        }
    }
    return count;
}

static int print_part(char *text, size_t room, const void *data, const data_type_t *type,
                      uint64_t index, int p)
{
    const bits_t b = bits(data, type, index, p);
    float f;
    double d;

    switch (shapes[type->element].part[p]) {
    case PART_F16:
        return snprintf(text, room, "%.5g (%04llx)", data_from_half((data_half_t) b.low),
                        (unsigned long long) b.low);
    case PART_F32:
        memcpy(&f, &b, sizeof(f));
        return snprintf(text, room, "%.9g (%08llx)", f, (unsigned long long) b.low);
    case PART_F64:
        memcpy(&d, &b, sizeof(d));
        return snprintf(text, room, "%.17g", d);
    case PART_F80:
        return snprintf(text, room, "0x%llx%016llx", (unsigned long long) b.high,
                        (unsigned long long) b.low);
    default:
        return snprintf(text, room, "0x%llx", (unsigned long long) b.low);
    }
}

const char *data_text(const void *data, const data_type_t *type, uint64_t index,
                      char text[DATA_TEXT])
{
    const int used = print_part(text, DATA_TEXT, data, type, index, 0);

    if (PART_NONE != shapes[type->element].part[1] && used + 2 < DATA_TEXT) {
        memcpy(text + used, "; ", 2);
        print_part(text + used + 2, (size_t) (DATA_TEXT - used - 2), data, type, index, 1);
    }
    return text;
}

static uint64_t carry_on(uint64_t digest, uint64_t word)
{
    digest = (digest ^ word) * UINT64_C(0x100000001b3);
    return digest ^ digest >> 29;
}

uint64_t data_digest(uint64_t digest, const void *data, const data_type_t *type, uint64_t count)
{
    const shape_t *shape = &shapes[type->element];

    for (uint64_t i = 0; i < count; ++i) {
        for (int p = 0; p < 2 && PART_NONE != shape->part[p]; ++p) {
            const bits_t b = bits(data, type, i, p);
            digest = carry_on(digest, b.low);
            if (part_bytes(shape, p) > sizeof(b.low)) {
                digest = carry_on(digest, b.high);
            }
        }
    }
    return digest;
}
