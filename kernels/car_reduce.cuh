/*
 * Arithmetic, and the walk over user buffers of any alignment. Nothing here waits.
 *
 * Every algorithm folds left in rank order, acc = acc op a_r for r = 1..N-1, so all of them give the same bits.
 */
#ifndef CAR_REDUCE_CUH
#define CAR_REDUCE_CUH

#include <car_primitives.cuh>

#include "car_kernel_args.h"

/* Sums and products are never contracted to a fused multiply-add: they stand alone. */
struct Sum {
    template <class T> CAR_DEVICE T apply(T acc, T next) { return acc + next; }
};
struct Prod {
    template <class T> CAR_DEVICE T apply(T acc, T next) { return acc * next; }
};
/*
 * As MPI_Reduce_local(acc, next) with Open MPI's plain C loops: a comparison with NaN is false and equal zeros do not
 * compare less, so the accumulator stays.
 */
struct Min {
    template <class T> CAR_DEVICE T apply(T acc, T next) { return next < acc ? next : acc; }
};
struct Max {
    template <class T> CAR_DEVICE T apply(T acc, T next) { return next > acc ? next : acc; }
};

/* Elements that move together: 16 bytes in staging, 8 in a packet. */
template <class T, int Bytes> union car_elements {
    T element[Bytes / sizeof(T)];
    uint32_t word[Bytes / 4];
};

template <class T> using car_pack = car_elements<T, CAR_PACK_BYTES>;
template <class T> using car_unit = car_elements<T, CAR_PACKET_PAYLOAD>;

template <class Op, class T, int Bytes>
CAR_DEVICE void car_accumulate(car_elements<T, Bytes> &acc, const car_elements<T, Bytes> &next)
{
#pragma unroll
    for (int i = 0; i < (int) (Bytes / sizeof(T)); ++i) {
        acc.element[i] = Op::apply(acc.element[i], next.element[i]);
    }
}

template <class T, int Bytes> struct car_access;

template <class T> struct car_access<T, 16> {
    CAR_DEVICE car_elements<T, 16> unpack(const car_word16_t &w)
    {
        car_elements<T, 16> e;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            e.word[i] = w.w[i];
        }
        return e;
    }
    CAR_DEVICE car_word16_t pack(const car_elements<T, 16> &e)
    {
        car_word16_t w;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            w.w[i] = e.word[i];
        }
        return w;
    }
    CAR_DEVICE car_elements<T, 16> load(const T *address)
    {
        return unpack(car_load_once((const car_word16_t *) address));
    }
    CAR_DEVICE void store(T *address, const car_elements<T, 16> &e)
    {
        car_store_once((car_word16_t *) address, pack(e));
    }
};

template <class T> struct car_access<T, 8> {
    CAR_DEVICE car_elements<T, 8> load(const T *address)
    {
        const unsigned long long w = car_load_once((const unsigned long long *) address);
        car_elements<T, 8> e;
        e.word[0] = (uint32_t) w;
        e.word[1] = (uint32_t) (w >> 32);
        return e;
    }
    CAR_DEVICE void store(T *address, const car_elements<T, 8> &e)
    {
        car_store_once((unsigned long long *) address, (unsigned long long) e.word[1] << 32 | e.word[0]);
    }
};

/*
 * Reads from a user's buffer the elements from `index` on that lie below `end`; what lies beyond is zero and never
 * written out. `vector`: the buffer is aligned for the whole access, and `index` is a multiple of its length.
 */
template <class T, int Bytes>
CAR_DEVICE car_elements<T, Bytes> car_read(const T *buffer, uint64_t index, uint64_t end, bool vector)
{
    const int length = Bytes / sizeof(T);

    if (vector && index + length <= end) {
        return car_access<T, Bytes>::load(buffer + index);
    }
    car_elements<T, Bytes> e;
#pragma unroll
    for (int i = 0; i < length; ++i) {
        e.element[i] = index + i < end ? car_load_once(buffer + index + i) : T();
    }
    return e;
}

template <class T, int Bytes>
CAR_DEVICE void car_write(T *buffer, uint64_t index, uint64_t end, bool vector, const car_elements<T, Bytes> &e)
{
    const int length = Bytes / sizeof(T);

    if (vector && index + length <= end) {
        car_access<T, Bytes>::store(buffer + index, e);
        return;
    }
#pragma unroll
    for (int i = 0; i < length; ++i) {
        if (index + i < end) {
            car_store_once(buffer + index + i, e.element[i]);
        }
    }
}

/* A pack in staging: always aligned, always whole. */
template <class T> CAR_DEVICE car_pack<T> car_read_staging(const char *staging, uint64_t pack)
{
    return car_access<T, CAR_PACK_BYTES>::unpack(car_load((const car_word16_t *) staging + pack));
}

template <class T> CAR_DEVICE void car_write_staging(char *staging, uint64_t pack, const car_pack<T> &e)
{
    car_store((car_word16_t *) staging + pack, car_access<T, CAR_PACK_BYTES>::pack(e));
}

/*
 * Folds one pack of all ranks in rank order: this rank's is given, source(r) is the address of rank r's staging, and
 * `pack` its place there. All loads of four ranks are in flight before the first is used.
 */
template <class T, class Op, class Source>
CAR_DEVICE car_pack<T> car_fold(const car_pack<T> &mine, uint32_t rank, uint32_t size, uint64_t pack, Source source)
{
    const uint32_t batch = 4;
    car_pack<T> acc = mine, in[batch];

    for (uint32_t base = 0; base < size; base += batch) {
#pragma unroll
        for (uint32_t i = 0; i < batch; ++i) {
            if (base + i < size && base + i != rank) {
                in[i] = car_read_staging<T>(source(base + i), pack);
            }
        }
#pragma unroll
        for (uint32_t i = 0; i < batch; ++i) {
            if (base + i < size) {
                if (base + i == rank) {
                    in[i] = mine;
                }
                if (0 == base + i) {
                    acc = in[i];
                } else {
                    car_accumulate<Op>(acc, in[i]);
                }
            }
        }
    }
    return acc;
}

#endif /* CAR_REDUCE_CUH */
