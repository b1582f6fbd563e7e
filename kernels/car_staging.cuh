/*
 * Packs in staging, which is device memory of the ranks' own: reading and writing one, copying them
 * to staging or from it, and folding one of all ranks. Nothing here waits.
 */
#ifndef CAR_STAGING_CUH
#define CAR_STAGING_CUH

#include "car_reduce.cuh"

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

#endif /* CAR_STAGING_CUH */
