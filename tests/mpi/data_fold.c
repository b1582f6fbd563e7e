/*
 * The fold in rank order that all results are compared with. This file is compiled with
 * -ffp-contract=off: no sum of a product is fused.
 *
 * Open MPI's plain C operations are met bit for bit (types.c compares): MPI_Reduce_local(acc, next)
 * leaves its result in next, and rank r's operand is next.
 */
#include <math.h>
#include <stdlib.h>

#include "data.h"

#define EACH(expression)                                                                           \
    for (uint64_t i = 0; i < count; ++i) {                                                         \
        expression;                                                                                \
    }                                                                                              \
    break;

/* --- numbers ---------------------------------------------------------------------------------- */

/*
 * What does not compare leaves the accumulator. W: sums and products of integers are those of a
 * type that wraps.
 */
#define NUMBER_CASES(T, W)                                                                         \
    case DATA_SUM:                                                                                 \
        EACH(a[i] = (T) ((W) a[i] + (W) n[i]))                                                     \
    case DATA_PROD:                                                                                \
        EACH(a[i] = (T) ((W) a[i] * (W) n[i]))                                                     \
    case DATA_MIN:                                                                                 \
        EACH(a[i] = n[i] < a[i] ? n[i] : a[i])                                                     \
    case DATA_MAX:                                                                                 \
        EACH(a[i] = n[i] > a[i] ? n[i] : a[i])

#define LOGICAL_CASES(T)                                                                           \
    case DATA_LAND:                                                                                \
        EACH(a[i] = (T) (a[i] && n[i]))                                                            \
    case DATA_LOR:                                                                                 \
        EACH(a[i] = (T) (a[i] || n[i]))                                                            \
    case DATA_LXOR:                                                                                \
        EACH(a[i] = (T) (!a[i] != !n[i]))

#define BITWISE_CASES(T)                                                                           \
    case DATA_BAND:                                                                                \
        EACH(a[i] = (T) (a[i] & n[i]))                                                             \
    case DATA_BOR:                                                                                 \
        EACH(a[i] = (T) (a[i] | n[i]))                                                             \
    case DATA_BXOR:                                                                                \
        EACH(a[i] = (T) (a[i] ^ n[i]))

#define FOLD(name, T, cases)                                                                       \
    static void fold_##name(void *acc, const void *next, data_op_t op, uint64_t count)             \
    {                                                                                              \
        T *a = acc;                                                                                \
        const T *n = next;                                                                         \
                                                                                                   \
        switch (op) {                                                                              \
            cases default : abort(); /* not allowed */                                             \
        }                                                                                          \
    }

#define INTEGER_CASES(T, W) NUMBER_CASES(T, W) LOGICAL_CASES(T) BITWISE_CASES(T)

FOLD(I8, int8_t, INTEGER_CASES(int8_t, uint32_t))
FOLD(U8, uint8_t, INTEGER_CASES(uint8_t, uint32_t))
FOLD(I16, int16_t, INTEGER_CASES(int16_t, uint32_t))
FOLD(U16, uint16_t, INTEGER_CASES(uint16_t, uint32_t))
FOLD(I32, int32_t, INTEGER_CASES(int32_t, uint32_t))
FOLD(U32, uint32_t, INTEGER_CASES(uint32_t, uint32_t))
FOLD(I64, int64_t, INTEGER_CASES(int64_t, uint64_t))
FOLD(U64, uint64_t, INTEGER_CASES(uint64_t, uint64_t))
FOLD(BOOL, _Bool, LOGICAL_CASES(_Bool))
FOLD(F32, float, NUMBER_CASES(float, float))
FOLD(F64, double, NUMBER_CASES(double, double))
FOLD(F80, long double, NUMBER_CASES(long double, long double))

/* --- complex ---------------------------------------------------------------------------------- */

/*
 * A product as Annex G of C has it: where both parts come out as NaN although a factor was
 * infinite, or products overflowed, the result is an infinity in the right quadrant. box() makes an
 * infinite factor finite, unit() keeps of a NaN only the sign.
 */
#define MULTIPLY(name, T, Complex)                                                                 \
    static T unit_##name(T x) { return isnan(x) ? (T) copysignl(0, (long double) x) : x; }         \
    static T box_##name(T x) { return (T) copysignl(isinf(x) ? 1 : 0, (long double) x); }          \
    static Complex multiply_##name(Complex p, Complex q)                                           \
    {                                                                                              \
        const T ac = p.re * q.re, bd = p.im * q.im, ad = p.re * q.im, bc = p.im * q.re;            \
        const Complex product = {ac - bd, ad + bc};                                                \
        bool recover = false;                                                                      \
                                                                                                   \
        if (!isnan(product.re) || !isnan(product.im)) {                                            \
            return product;                                                                        \
        }                                                                                          \
        if (isinf(p.re) || isinf(p.im)) {                                                          \
            p = (Complex){box_##name(p.re), box_##name(p.im)};                                     \
            q = (Complex){unit_##name(q.re), unit_##name(q.im)};                                   \
            recover = true;                                                                        \
        }                                                                                          \
        if (isinf(q.re) || isinf(q.im)) {                                                          \
            q = (Complex){box_##name(q.re), box_##name(q.im)};                                     \
            p = (Complex){unit_##name(p.re), unit_##name(p.im)};                                   \
            recover = true;                                                                        \
        }                                                                                          \
        if (!recover && (isinf(ac) || isinf(bd) || isinf(ad) || isinf(bc))) {                      \
            p = (Complex){unit_##name(p.re), unit_##name(p.im)};                                   \
            q = (Complex){unit_##name(q.re), unit_##name(q.im)};                                   \
            recover = true;                                                                        \
        }                                                                                          \
        return !recover ? product                                                                  \
                        : (Complex){(T) INFINITY * (p.re * q.re - p.im * q.im),                    \
                                    (T) INFINITY * (p.re * q.im + p.im * q.re)};                   \
    }

#define COMPLEX_CASES(name, T)                                                                     \
    case DATA_SUM:                                                                                 \
        EACH(a[i].re += n[i].re; a[i].im += n[i].im)                                               \
    case DATA_PROD:                                                                                \
        EACH(a[i] = multiply_##name(a[i], n[i]))

MULTIPLY(C32, float, data_c32_t)
MULTIPLY(C64, double, data_c64_t)
MULTIPLY(C80, long double, data_c80_t)
FOLD(C32, data_c32_t, COMPLEX_CASES(C32, float))
FOLD(C64, data_c64_t, COMPLEX_CASES(C64, double))
FOLD(C80, data_c80_t, COMPLEX_CASES(C80, long double))

/* --- pairs ------------------------------------------------------------------------------------ */

/*
 * Only if the accumulator's value is better does it stay; of equal values the one of `next` is
 * kept, as zeros have signs, with the smaller index. So a NaN on either side yields to `next`,
 * unlike in MPI_MIN and MPI_MAX. Gaps are not copied.
 */
#define LOCATE(better)                                                                             \
    EACH(if (!(a[i].v better n[i].v)) {                                                            \
        a[i].k = a[i].v == n[i].v && !(n[i].k < a[i].k) ? a[i].k : n[i].k;                         \
        a[i].v = n[i].v;                                                                           \
    })

#define PAIR_CASES                                                                                 \
    case DATA_MINLOC:                                                                              \
        LOCATE(<)                                                                                  \
    case DATA_MAXLOC:                                                                              \
        LOCATE(>)

FOLD(F32_I32, data_f32_i32_t, PAIR_CASES)
FOLD(F64_I32, data_f64_i32_t, PAIR_CASES)
FOLD(I64_I32, data_i64_i32_t, PAIR_CASES)
FOLD(I32_I32, data_i32_i32_t, PAIR_CASES)
FOLD(I16_I32, data_i16_i32_t, PAIR_CASES)
FOLD(F80_I32, data_f80_i32_t, PAIR_CASES)
FOLD(F32_F32, data_f32_f32_t, PAIR_CASES)
FOLD(F64_F64, data_f64_f64_t, PAIR_CASES)

/* --- all of them ------------------------------------------------------------------------------ */

/* data_expect does these in a wider type. */
static void fold_F16(void *acc, const void *next, data_op_t op, uint64_t count)
{
    (void) acc;
    (void) next;
    (void) op;
    (void) count;
    abort();
}
#define fold_C16 fold_F16

void data_fold(void *acc, const void *next, data_element_t element, data_op_t op, uint64_t count)
{
    static void (*const folds[DATA_ELEMENTS])(void *, const void *, data_op_t, uint64_t) = {
#define DATA_ELEMENT(name, T) [DATA_##name] = fold_##name,
        DATA_ELEMENTS_OF(DATA_ELEMENT)
#undef DATA_ELEMENT
    };
    folds[element](acc, next, op, count);
}

static void widen(float *to, const data_half_t *from, uint64_t count)
{
    for (uint64_t i = 0; i < count; ++i) {
        to[i] = data_from_half(from[i]);
    }
}

/* 16-bit floats: the parts of complex ones are `parts` times as many. */
static void expect_half(data_half_t *to, data_half_t *scratch, const data_type_t *type,
                        data_op_t op, uint64_t seed, int size, uint64_t first, uint64_t count)
{
    const data_element_t wide = DATA_F16 == type->element ? DATA_F32 : DATA_C32;
    const uint64_t parts = count * type->bytes / sizeof(data_half_t);
    float *const acc = malloc((parts + 1) * sizeof(float)), *const next =
                                                                malloc((parts + 1) * sizeof(float));

    data_fill(to, type, seed, 0, first, count);
    widen(acc, to, parts);
    for (int r = 1; r < size; ++r) {
        data_fill(scratch, type, seed, r, first, count);
        widen(next, scratch, parts);
        data_fold(acc, next, wide, op, count);
    }
    for (uint64_t i = 0; i < parts; ++i) {
        to[i] = data_to_half(acc[i]);
    }
    free(acc);
    free(next);
}

void data_expect(void *to, void *scratch, const data_type_t *type, data_op_t op, uint64_t seed,
                 int size, uint64_t first, uint64_t count)
{
    if (DATA_F16 == type->element || DATA_C16 == type->element) {
        expect_half(to, scratch, type, op, seed, size, first, count);
        return;
    }
    data_fill(to, type, seed, 0, first, count);
    for (int r = 1; r < size; ++r) {
        data_fill(scratch, type, seed, r, first, count);
        data_fold(to, scratch, type->element, op, count);
    }
}
