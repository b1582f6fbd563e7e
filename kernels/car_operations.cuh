/*
 * Arithmetic on single elements: their types, and what each operation makes of two of them.
 */
#ifndef CAR_OPERATIONS_CUH
#define CAR_OPERATIONS_CUH

#include <car_primitives.cuh>

#include "car_types.h"

/* --- types ------------------------------------------------------------------------------------ */

struct car_half {
    uint16_t bits;
};
struct car_bfloat16 {
    uint16_t bits;
};
template <class T> struct car_complex {
    T re, im;
};
/* A value and where it was found, laid out as in C. */
template <class V, class K> struct car_located {
    V value;
    K place;
};

/* In what type sums and products of T are computed: integers wrap, 16-bit floats get 32 bits. */
template <class T> struct car_wide {
    typedef T type;
    CAR_DEVICE T widen(T t) { return t; }
    CAR_DEVICE T narrow(T t) { return t; }
};
template <class T, class W> struct car_wrapping {
    typedef W type;
    CAR_DEVICE W widen(T t) { return (W) t; }
    CAR_DEVICE T narrow(W w) { return (T) w; }
};
template <> struct car_wide<int8_t> : car_wrapping<int8_t, uint32_t> {};
template <> struct car_wide<uint8_t> : car_wrapping<uint8_t, uint32_t> {};
template <> struct car_wide<int16_t> : car_wrapping<int16_t, uint32_t> {};
template <> struct car_wide<uint16_t> : car_wrapping<uint16_t, uint32_t> {};
template <> struct car_wide<int32_t> : car_wrapping<int32_t, uint32_t> {};
template <> struct car_wide<int64_t> : car_wrapping<int64_t, uint64_t> {};

template <> struct car_wide<car_half> {
    typedef float type;
    CAR_DEVICE float widen(car_half h) { return car_half_to_float(h.bits); }
    CAR_DEVICE car_half narrow(float f)
    {
        car_half h;
        h.bits = car_float_to_half(f);
        return h;
    }
};

template <> struct car_wide<car_bfloat16> {
    typedef float type;
    CAR_DEVICE float widen(car_bfloat16 b) { return car_bits_to_float((uint32_t) b.bits << 16); }
    /* To the nearest, ties to even; a NaN stays one. */
    CAR_DEVICE car_bfloat16 narrow(float f)
    {
        const uint32_t bits = car_float_to_bits(f);
        car_bfloat16 b;
        b.bits = (uint16_t) ((bits & 0x7fffffff) > 0x7f800000
                                 ? bits >> 16 | 0x40
                                 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
        return b;
    }
};

template <class T> struct car_wide<car_complex<T>> {
    typedef car_complex<typename car_wide<T>::type> type;
    CAR_DEVICE type widen(car_complex<T> c)
    {
        type w;
        w.re = car_wide<T>::widen(c.re);
        w.im = car_wide<T>::widen(c.im);
        return w;
    }
    CAR_DEVICE car_complex<T> narrow(type w)
    {
        car_complex<T> c;
        c.re = car_wide<T>::narrow(w.re);
        c.im = car_wide<T>::narrow(w.im);
        return c;
    }
};

/* The names of the list as types. */
#define CAR_TYPE(name, type, bytes, alignment, data, class_)                                       \
    typedef type car_element_##name;                                                               \
    static_assert(sizeof(car_element_##name) == bytes && alignof(car_element_##name) == alignment, \
                  #name);
#define CAR_COMMON(type, op)
#include "car_types.def"

/* --- operations ------------------------------------------------------------------------------- */

/*
 * Each as MPI_Reduce_local(acc, next) is with Open MPI's plain C loops. Kernels are compiled
 * without fused multiply-add, so a product that is added to another is rounded first, as there.
 */
struct car_op_SUM {
    template <class W> CAR_DEVICE W apply(W acc, W next) { return acc + next; }
};

template <class F> CAR_DEVICE F car_signed_unit(bool infinite, F sign)
{
    return car_copysign(infinite ? (F) 1 : (F) 0, sign);
}

/*
 * C, Annex G.5.1: an infinite factor makes an infinite product, also where the plain formula gives
 * NaN.
 */
template <class F> CAR_DEVICE car_complex<F> car_multiply(car_complex<F> x, car_complex<F> y)
{
    F a = x.re, b = x.im, c = y.re, d = y.im;
    const F ac = a * c, bd = b * d, ad = a * d, bc = b * c;
    car_complex<F> z;
    z.re = ac - bd;
    z.im = ad + bc;
    if (z.re == z.re || z.im == z.im) {
        return z;
    }
    bool again = false;
    if (car_is_infinite(a) || car_is_infinite(b)) {
        a = car_signed_unit(car_is_infinite(a), a);
        b = car_signed_unit(car_is_infinite(b), b);
        c = c == c ? c : car_copysign((F) 0, c);
        d = d == d ? d : car_copysign((F) 0, d);
        again = true;
    }
    if (car_is_infinite(c) || car_is_infinite(d)) {
        c = car_signed_unit(car_is_infinite(c), c);
        d = car_signed_unit(car_is_infinite(d), d);
        a = a == a ? a : car_copysign((F) 0, a);
        b = b == b ? b : car_copysign((F) 0, b);
        again = true;
    }
    if (!again
        && (car_is_infinite(ac) || car_is_infinite(bd) || car_is_infinite(ad)
            || car_is_infinite(bc))) {
        a = a == a ? a : car_copysign((F) 0, a);
        b = b == b ? b : car_copysign((F) 0, b);
        c = c == c ? c : car_copysign((F) 0, c);
        d = d == d ? d : car_copysign((F) 0, d);
        again = true;
    }
    if (again) {
        const F infinity = car_infinity<F>();
        z.re = infinity * (a * c - b * d);
        z.im = infinity * (a * d + b * c);
    }
    return z;
}

struct car_op_PROD {
    template <class W> CAR_DEVICE W apply(W acc, W next) { return acc * next; }
    template <class F> CAR_DEVICE car_complex<F> apply(car_complex<F> acc, car_complex<F> next)
    {
        return car_multiply(acc, next);
    }
};

/* A comparison with NaN is false and equal zeros do not compare less, so the accumulator stays. */
struct car_op_MIN {
    template <class T> CAR_DEVICE T apply(T acc, T next) { return next < acc ? next : acc; }
};
struct car_op_MAX {
    template <class T> CAR_DEVICE T apply(T acc, T next) { return next > acc ? next : acc; }
};
struct car_op_LAND {
    template <class T> CAR_DEVICE T apply(T acc, T next) { return (T) (0 != acc && 0 != next); }
};
struct car_op_LOR {
    template <class T> CAR_DEVICE T apply(T acc, T next) { return (T) (0 != acc || 0 != next); }
};
struct car_op_LXOR {
    template <class T> CAR_DEVICE T apply(T acc, T next) { return (T) ((0 != acc) != (0 != next)); }
};
struct car_op_BAND {
    template <class T> CAR_DEVICE T apply(T acc, T next) { return (T) (acc & next); }
};
struct car_op_BOR {
    template <class T> CAR_DEVICE T apply(T acc, T next) { return (T) (acc | next); }
};
struct car_op_BXOR {
    template <class T> CAR_DEVICE T apply(T acc, T next) { return (T) (acc ^ next); }
};

/*
 * Unlike MIN: of values that do not compare (NaN) the later one stays, and of equal values the
 * later's bits.
 */
template <class V, class K> CAR_DEVICE car_located<V, K> car_locate(bool acc_wins,
                                                                    car_located<V, K> acc,
                                                                    car_located<V, K> next)
{
    if (acc_wins) {
        return acc;
    }
    if (acc.value == next.value) {
        next.place = next.place < acc.place ? next.place : acc.place;
    }
    return next;
}
struct car_op_MINLOC {
    template <class T> CAR_DEVICE T apply(T acc, T next)
    {
        return car_locate(acc.value < next.value, acc, next);
    }
};
struct car_op_MAXLOC {
    template <class T> CAR_DEVICE T apply(T acc, T next)
    {
        return car_locate(acc.value > next.value, acc, next);
    }
};

/* Sums and products are computed wide, and all of 16-bit floats; all else in the type itself. */
template <class T, class Op> struct car_step {
    typedef T wide;
    CAR_DEVICE wide widen(T t) { return t; }
    CAR_DEVICE T narrow(wide w) { return w; }
};
template <class T> struct car_wide_step : car_wide<T> {
    typedef typename car_wide<T>::type wide;
};
template <class T> struct car_step<T, car_op_SUM> : car_wide_step<T> {};
template <class T> struct car_step<T, car_op_PROD> : car_wide_step<T> {};
template <> struct car_step<car_half, car_op_MIN> : car_wide_step<car_half> {};
template <> struct car_step<car_half, car_op_MAX> : car_wide_step<car_half> {};
template <> struct car_step<car_bfloat16, car_op_MIN> : car_wide_step<car_bfloat16> {};
template <> struct car_step<car_bfloat16, car_op_MAX> : car_wide_step<car_bfloat16> {};

#endif /* CAR_OPERATIONS_CUH */
