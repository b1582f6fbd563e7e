/*
 * Arithmetic, and the walk over user buffers of any alignment. Nothing here waits.
 *
 * Every algorithm folds left in rank order, acc = acc op a_r for r = 1..N-1, so all of them give
 * the same bits.
 *
 * Algorithms are written once, over a reduction R, which is either
 *   car_fixed<T, Op>  a type and an operation that have kernels of their own, or
 *   car_any           all others: what they are stands in the arguments.
 * An R has
 *   unit_bytes                  what a thread exchanges in packets in a round
 *   length(e, bytes)            elements in so many bytes
 *   read<Bytes>(e, from, index, vector), write<Bytes>(e, to, index, vector, words)
 *                               elements of an array from `index` on, as far as there are any: what
 *                               lies beyond the count
 *                               is read as zero and not written. `vector`: the array is 16-byte
 *                               aligned
 *   accumulator<Bytes>          begin, add, end: a fold; 16-bit floats are wide in it and rounded
 *                               at its end
 */
#ifndef CAR_REDUCE_CUH
#define CAR_REDUCE_CUH

#include <car_primitives.cuh>

#include "car_kernel_args.h"
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

/* --- words: what moves ------------------------------------------------------------------------ */

template <int Bytes> struct car_words {
    uint32_t w[Bytes / 4];
};
typedef car_words<CAR_PACK_BYTES> car_pack;

CAR_DEVICE car_pack car_from_word16(const car_word16_t &w)
{
    car_pack p;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        p.w[i] = w.w[i];
    }
    return p;
}

CAR_DEVICE car_word16_t car_to_word16(const car_pack &p)
{
    car_word16_t w;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        w.w[i] = p.w[i];
    }
    return w;
}

template <int Bytes> struct car_aligned;
template <> struct car_aligned<16> {
    CAR_DEVICE car_words<16> load(const void *address)
    {
        return car_from_word16(car_load_once((const car_word16_t *) address));
    }
    CAR_DEVICE void store(void *address, const car_words<16> &words)
    {
        car_store_once((car_word16_t *) address, car_to_word16(words));
    }
};
template <> struct car_aligned<8> {
    CAR_DEVICE car_words<8> load(const void *address)
    {
        const unsigned long long v = car_load_once((const unsigned long long *) address);
        car_words<8> words;
        words.w[0] = (uint32_t) v;
        words.w[1] = (uint32_t) (v >> 32);
        return words;
    }
    CAR_DEVICE void store(void *address, const car_words<8> &words)
    {
        car_store_once((unsigned long long *) address,
                       (unsigned long long) words.w[1] << 32 | words.w[0]);
    }
};

template <int Bytes> struct car_carrier;
template <> struct car_carrier<1> { typedef unsigned char type; };
template <> struct car_carrier<2> { typedef unsigned short type; };
template <> struct car_carrier<4> { typedef unsigned int type; };
template <> struct car_carrier<8> { typedef unsigned long long type; };

template <int Granule, int Bytes> union car_granules {
    car_words<Bytes> words;
    typename car_carrier<Granule>::type granule[Bytes / Granule];
};

/* How many of the elements from `index` on the call has, if it is less than `most`. */
CAR_DEVICE int car_elements_left(uint64_t index, uint64_t count, int most)
{
    return index + (uint64_t) most <= count ? most : index < count ? (int) (count - index) : 0;
}

/* The first `left` bytes, in accesses of `Granule` bytes: the edges, and what is not aligned. */
template <int Granule, int Bytes>
CAR_DEVICE car_words<Bytes> car_read_granules(const char *address, int left)
{
    typedef typename car_carrier<Granule>::type carrier;
    car_granules<Granule, Bytes> g;
#pragma unroll
    for (int i = 0; i < Bytes / Granule; ++i) {
        g.granule[i] =
            i * Granule < left ? car_load_once((const carrier *) address + i) : (carrier) 0;
    }
    return g.words;
}

template <int Granule, int Bytes>
CAR_DEVICE void car_write_granules(char *address, int left, const car_words<Bytes> &words)
{
    typedef typename car_carrier<Granule>::type carrier;
    car_granules<Granule, Bytes> g;
    g.words = words;
#pragma unroll
    for (int i = 0; i < Bytes / Granule; ++i) {
        if (i * Granule < left) {
            car_store_once((carrier *) address + i, g.granule[i]);
        }
    }
}

/* --- a type and an operation with kernels of their own ---------------------------------------- */

template <class T, class Op> struct car_fixed {
    typedef car_step<T, Op> step;

    static constexpr int unit_bytes = CAR_PACKET_PAYLOAD;
    static constexpr int granule = (int) alignof(T);

    CAR_DEVICE uint32_t length(const car_elements_t &, int bytes)
    {
        return (uint32_t) (bytes / (int) sizeof(T));
    }

    template <int Bytes> CAR_DEVICE car_words<Bytes> read(const car_elements_t &e, const void *from,
                                                          uint64_t index, bool vector)
    {
        const char *address = (const char *) ((const T *) from + index);
        const int elements = Bytes / (int) sizeof(T),
                  left = car_elements_left(index, e.count, elements);
        if (vector && elements == left) {
            return car_aligned<Bytes>::load(address);
        }
        return car_read_granules<granule, Bytes>(address, left * (int) sizeof(T));
    }

    template <int Bytes> CAR_DEVICE void write(const car_elements_t &e, void *to, uint64_t index,
                                               bool vector, const car_words<Bytes> &words)
    {
        char *address = (char *) ((T *) to + index);
        const int elements = Bytes / (int) sizeof(T),
                  left = car_elements_left(index, e.count, elements);
        if (vector && elements == left) {
            car_aligned<Bytes>::store(address, words);
            return;
        }
        car_write_granules<granule, Bytes>(address, left * (int) sizeof(T), words);
    }

    template <int Bytes> struct accumulator {
        static constexpr int elements = Bytes / (int) sizeof(T);
        union unpacked {
            car_words<Bytes> words;
            T element[elements];
        };
        typename step::wide wide[elements];

        CAR_METHOD void begin(const car_elements_t &, const car_words<Bytes> &first)
        {
            unpacked u;
            u.words = first;
#pragma unroll
            for (int i = 0; i < elements; ++i) {
                wide[i] = step::widen(u.element[i]);
            }
        }
        CAR_METHOD void add(const car_elements_t &, const car_words<Bytes> &next)
        {
            unpacked u;
            u.words = next;
#pragma unroll
            for (int i = 0; i < elements; ++i) {
                wide[i] = Op::apply(wide[i], step::widen(u.element[i]));
            }
        }
        CAR_METHOD car_words<Bytes> end(const car_elements_t &) const
        {
            unpacked u;
#pragma unroll
            for (int i = 0; i < elements; ++i) {
                u.element[i] = step::narrow(wide[i]);
            }
            return u.words;
        }
    };
};

/* The names of the list as types. */
#define CAR_TYPE(name, type, bytes, alignment, data, class_)                                       \
    typedef type car_element_##name;                                                               \
    static_assert(sizeof(car_element_##name) == bytes && alignof(car_element_##name) == alignment, \
                  #name);
#define CAR_COMMON(type, op)
#include "car_types.def"

/* --- all others ------------------------------------------------------------------------------- */

template <class T, class Op>
CAR_DEVICE car_pack car_apply(const car_pack &acc, const car_pack &next)
{
    typedef car_step<T, Op> step;
    union {
        car_pack words;
        T element[CAR_PACK_BYTES / sizeof(T)];
    } a, n;
    a.words = acc;
    n.words = next;
#pragma unroll
    for (int i = 0; i < (int) (CAR_PACK_BYTES / sizeof(T)); ++i) {
        a.element[i] =
            step::narrow(Op::apply(step::widen(a.element[i]), step::widen(n.element[i])));
    }
    return a.words;
}

/* One step on a pack; not inlined, as it has a case for every pair. */
CAR_DEVICE_CALL car_pack car_apply_any(uint32_t type, uint32_t op, car_pack acc, car_pack next)
{
    switch (type * CAR_OPS + op) {
#define CAR_CASE(type, op)                                                                         \
    case (uint32_t) CAR_TYPE_##type *CAR_OPS + CAR_OP_##op:                                        \
        return car_apply<car_element_##type, car_op_##op>(acc, next);
#define CAR_TYPE(name, type, bytes, alignment, data, class_) CAR_OPS_OF_##class_(CAR_CASE, name)
#define CAR_COMMON(type, op)
#include "car_types.def"
#undef CAR_CASE
    default:
        return acc;
    }
}

/* Keeps the bytes of `old` that `data` leaves out. */
CAR_DEVICE car_pack car_keep_gaps(const car_pack &words, const car_pack &old, uint32_t data)
{
    car_pack merged;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const uint32_t bits = data >> 4 * i & 15;
        const uint32_t mask = (bits & 1) * 0xffu | (bits >> 1 & 1) * 0xff00u
                              | (bits >> 2 & 1) * 0xff0000u | (bits >> 3 & 1) * 0xff000000u;
        merged.w[i] = (words.w[i] & mask) | (old.w[i] & ~mask);
    }
    return merged;
}

struct car_any {
    static constexpr int unit_bytes = CAR_PACK_BYTES;

    CAR_DEVICE uint32_t length(const car_elements_t &e, int bytes)
    {
        return (uint32_t) bytes >> e.element_shift;
    }

    CAR_DEVICE int bytes_left(const car_elements_t &e, uint64_t index)
    {
        return car_elements_left(index, e.count, CAR_PACK_BYTES >> e.element_shift)
               << e.element_shift;
    }

    CAR_DEVICE car_pack read_at(const car_elements_t &e, const char *address, int left, bool vector)
    {
        if (vector && CAR_PACK_BYTES == left) {
            return car_aligned<CAR_PACK_BYTES>::load(address);
        }
        switch (e.granule) {
        case 1:
            return car_read_granules<1, CAR_PACK_BYTES>(address, left);
        case 2:
            return car_read_granules<2, CAR_PACK_BYTES>(address, left);
        case 4:
            return car_read_granules<4, CAR_PACK_BYTES>(address, left);
        default:
            return car_read_granules<8, CAR_PACK_BYTES>(address, left);
        }
    }

    template <int Bytes> CAR_DEVICE car_words<Bytes> read(const car_elements_t &e, const void *from,
                                                          uint64_t index, bool vector)
    {
        return read_at(e, (const char *) from + (index << e.element_shift), bytes_left(e, index),
                       vector);
    }

    template <int Bytes> CAR_DEVICE void write(const car_elements_t &e, void *to, uint64_t index,
                                               bool vector, const car_words<Bytes> &result)
    {
        char *address = (char *) to + (index << e.element_shift);
        const int left = bytes_left(e, index);
        const car_pack words =
            CAR_NO_GAPS == e.data_bytes
                ? result
                : car_keep_gaps(result, read_at(e, address, left, vector), e.data_bytes);
        if (vector && CAR_PACK_BYTES == left) {
            car_aligned<CAR_PACK_BYTES>::store(address, words);
            return;
        }
        switch (e.granule) {
        case 1:
            return car_write_granules<1, CAR_PACK_BYTES>(address, left, words);
        case 2:
            return car_write_granules<2, CAR_PACK_BYTES>(address, left, words);
        case 4:
            return car_write_granules<4, CAR_PACK_BYTES>(address, left, words);
        default:
            return car_write_granules<8, CAR_PACK_BYTES>(address, left, words);
        }
    }

    template <int Bytes> struct accumulator {
        car_pack acc;

        CAR_METHOD void begin(const car_elements_t &, const car_pack &first) { acc = first; }
        CAR_METHOD void add(const car_elements_t &e, const car_pack &next)
        {
            acc = car_apply_any(e.type, e.op, acc, next);
        }
        CAR_METHOD car_pack end(const car_elements_t &) const { return acc; }
    };
};

/* --- packs in staging ------------------------------------------------------------------------- */

/* Always aligned, always whole. */
CAR_DEVICE car_pack car_read_staging(const char *staging, uint64_t pack)
{
    return car_from_word16(car_load((const car_word16_t *) staging + pack));
}

CAR_DEVICE void car_write_staging(char *staging, uint64_t pack, const car_pack &words)
{
    car_store((car_word16_t *) staging + pack, car_to_word16(words));
}

/* Packs that hold elements, of a tile of `tile` elements that begins at element `start`. */
template <class R>
CAR_DEVICE uint64_t car_packs_of(const car_elements_t &e, uint64_t start, uint64_t tile)
{
    const uint32_t length = R::length(e, CAR_PACK_BYTES);
    const uint64_t left = start < e.count ? e.count - start : 0;
    return (left < tile ? left + length - 1 : tile) / length;
}

/*
 * Copies packs: store(w, load(w)) wherever a walk comes by. w.more() says whether it goes on,
 * w.here() whether there is a pack where it stands, w.on() takes it a step further. Four loads of a
 * thread are under way before the first is stored: the compiler moves none across the branch that
 * each has for odd addresses. Four is as many as leaves the kernels their registers; others have
 * not been measured.
 */
template <class Walk, class Load, class Store>
CAR_DEVICE void car_copy_packs(Walk w, Load load, Store store)
{
    const int together = 4;

#pragma unroll 1
    while (w.more()) {
        car_pack pack[together];
        Walk at = w;
#pragma unroll
        for (int i = 0; i < together; ++i) {
            if (at.here()) {
                pack[i] = load(at);
            }
            at.on();
        }
#pragma unroll
        for (int i = 0; i < together; ++i) {
            if (w.here()) {
                store(w, pack[i]);
            }
            w.on();
        }
    }
}

/*
 * Folds one pack of all ranks, two or more, in rank order; operand(r) loads that of rank r. All
 * loads of four ranks are under way before the first is used. The first four have no loop around
 * them: at its head the hardware would wait for what the caller has loaded before.
 */
template <class R, class Operand>
CAR_DEVICE car_pack car_fold(const car_kernel_args_t &a, Operand operand)
{
    const uint32_t batch = 4;
    typename R::template accumulator<CAR_PACK_BYTES> acc;
    car_pack in[batch];

#pragma unroll
    for (uint32_t i = 0; i < batch; ++i) {
        if (i < 2 || i < a.size) {
            in[i] = operand(i);
        }
    }
    acc.begin(a.what, in[0]);
#pragma unroll
    for (uint32_t i = 1; i < batch; ++i) {
        if (i < 2 || i < a.size) {
            acc.add(a.what, in[i]);
        }
    }
#pragma unroll 1
    for (uint32_t base = batch; base < a.size; base += batch) {
#pragma unroll
        for (uint32_t i = 0; i < batch; ++i) {
            if (base + i < a.size) {
                in[i] = operand(base + i);
            }
        }
#pragma unroll
        for (uint32_t i = 0; i < batch; ++i) {
            if (base + i < a.size) {
                acc.add(a.what, in[i]);
            }
        }
    }
    return acc.end(a.what);
}

/* --- instantiation ---------------------------------------------------------------------------- */

/*
 * An algorithm is a function template over R, of the arguments, named like its file. After it
 *     #define CAR_ALGORITHM one_shot_push
 *     #include "car_kernels.cuh"
 * defines its kernels.
 */

#endif /* CAR_REDUCE_CUH */
