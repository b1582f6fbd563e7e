/*
 * Reductions, and the walk over user buffers of any alignment. Nothing here waits.
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
 *   whole_packs                 every byte of an aligned pack is data
 *   read<Bytes>(e, from, index, vector), write<Bytes>(e, to, index, vector, words)
 *                               elements of an array from `index` on, as far as there are any: what
 *                               lies beyond the count is read as zero and not written. `vector`:
 *                               the array is 16-byte aligned
 *   accumulator<Bytes>          begin, add, end: a fold; 16-bit floats are wide in it and rounded
 *                               at its end
 */
#ifndef CAR_REDUCE_CUH
#define CAR_REDUCE_CUH

#include <car_primitives.cuh>

#include "car_kernel_args.h"
#include "car_operations.cuh"
#include "car_types.h"

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
    static constexpr bool whole_packs = true;

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
    static constexpr bool whole_packs = false;

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

/* --- instantiation ---------------------------------------------------------------------------- */

/*
 * An algorithm is a function template over R, of the arguments, named like its file. After it
 *     #define CAR_ALGORITHM one_shot_push
 *     #include "car_kernels.cuh"
 * defines its kernels.
 */

#endif /* CAR_REDUCE_CUH */
