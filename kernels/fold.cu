/*
 * fold: element i of every destination becomes the fold of element i of all sources, in rank order.
 * Waits for nobody: the host launches it when all sources are there (docs/protocol.md, "Lanes"). It
 * is every step of calls that the host takes from phase to phase, and zero copy:
 *
 *   stage    one source, the user's input; one destination, this rank's staging
 *   reduce   all ranks' staging, or all users' inputs; to the output, or for a share of the
 *            elements to all ranks
 *   gather   one source, results in this rank's staging; one destination, the user's output
 *
 * A source and a destination may be the same array, as a thread has read all sources of a pack
 * before it writes it.
 */
#include "car_reduce.cuh"
#include "car_sync.cuh"

template <class R>
CAR_DEVICE car_pack car_source_pack(const car_fold_args_t &a, uint32_t s, uint64_t index)
{
    return R::template read<CAR_PACK_BYTES>(a.what, a.source[s], index, a.vector_source >> s & 1);
}

template <class R>
CAR_DEVICE void car_to_all(const car_fold_args_t &a, uint64_t index, const car_pack &pack)
{
    for (uint32_t d = 0; d < a.dests; ++d) {
        R::template write<CAR_PACK_BYTES>(a.what, a.dest[d], index, a.vector_dest >> d & 1, pack);
    }
}

/* `Together` packs of `Sources` sources: all their loads are in flight before the first is used. */
template <class R, int Sources, int Together>
CAR_DEVICE void car_fold_few(const car_fold_args_t &a, uint64_t packs)
{
    const uint32_t length = R::length(a.what, CAR_PACK_BYTES);
    const uint64_t stride = (uint64_t) car_blocks() * car_threads_per_block();

    for (uint64_t k = (uint64_t) car_block() * car_threads_per_block() + car_thread(); k < packs;
         k += stride * Together) {
        car_pack in[Together][Sources];
#pragma unroll
        for (int t = 0; t < Together; ++t) {
#pragma unroll
            for (int s = 0; s < Sources; ++s) {
                in[t][s] =
                    car_source_pack<R>(a, (uint32_t) s, (k + (uint64_t) t * stride) * length);
            }
        }
#pragma unroll
        for (int t = 0; t < Together; ++t) {
            const uint64_t index = (k + (uint64_t) t * stride) * length;
            if (1 == Sources) {
                car_to_all<R>(a, index, in[t][0]);
                continue;
            }
            typename R::template accumulator<CAR_PACK_BYTES> acc;
            acc.begin(a.what, in[t][0]);
#pragma unroll
            for (int s = 1; s < Sources; ++s) {
                acc.add(a.what, in[t][s]);
            }
            car_to_all<R>(a, index, acc.end(a.what));
        }
    }
}

/* Any number of sources, one pack at a time; the loads of four are in flight together. */
template <class R> CAR_DEVICE void car_fold_many(const car_fold_args_t &a, uint64_t packs)
{
    const uint32_t batch = 4, length = R::length(a.what, CAR_PACK_BYTES);
    const uint64_t stride = (uint64_t) car_blocks() * car_threads_per_block();

    for (uint64_t k = (uint64_t) car_block() * car_threads_per_block() + car_thread(); k < packs;
         k += stride) {
        typename R::template accumulator<CAR_PACK_BYTES> acc;
        car_pack in[batch];
        acc.begin(a.what, car_source_pack<R>(a, 0, k * length));
        for (uint32_t base = 1; base < a.sources; base += batch) {
#pragma unroll
            for (uint32_t i = 0; i < batch; ++i) {
                if (base + i < a.sources) {
                    in[i] = car_source_pack<R>(a, base + i, k * length);
                }
            }
#pragma unroll
            for (uint32_t i = 0; i < batch; ++i) {
                if (base + i < a.sources) {
                    acc.add(a.what, in[i]);
                }
            }
        }
        car_to_all<R>(a, k * length, acc.end(a.what));
    }
}

/*
 * The usual case: aligned arrays of whole packs, so that what a thread does is loads, the fold, and
 * stores, and little of it. A small message takes hardly longer than its first packs, and those
 * wait for code that is not in the cache as well as for data: 0.7 us less than by car_fold_few
 * (256 KB, 2 ranks, one H200, with the count's reset behind the host's word).
 */
template <class R, int Sources, int Together>
CAR_DEVICE void car_fold_whole(const car_fold_args_t &a, uint64_t packs)
{
    const uint64_t stride = (uint64_t) car_blocks() * car_threads_per_block();

    for (uint64_t k = (uint64_t) car_block() * car_threads_per_block() + car_thread(); k < packs;
         k += stride * Together) {
        car_pack in[Together][Sources];
#pragma unroll
        for (int t = 0; t < Together; ++t) {
#pragma unroll
            for (int s = 0; s < Sources; ++s) {
                if (0 == t || k + t * stride < packs) {
                    in[t][s] = car_aligned<CAR_PACK_BYTES>::load((const car_word16_t *) a.source[s]
                                                                 + k + t * stride);
                }
            }
        }
#pragma unroll
        for (int t = 0; t < Together; ++t) {
            if (0 != t && k + t * stride >= packs) {
                break;
            }
            car_pack result = in[t][0];
            if (Sources > 1) {
                typename R::template accumulator<CAR_PACK_BYTES> acc;
                acc.begin(a.what, in[t][0]);
#pragma unroll
                for (int s = 1; s < Sources; ++s) {
                    acc.add(a.what, in[t][s]);
                }
                result = acc.end(a.what);
            }
#pragma unroll 1
            for (uint32_t d = 0; d < a.dests; ++d) {
                car_aligned<CAR_PACK_BYTES>::store((car_word16_t *) a.dest[d] + k + t * stride,
                                                   result);
            }
        }
    }
}

/* False: it is another case. */
template <class R> CAR_DEVICE bool car_folded_whole(const car_fold_args_t &a, uint64_t packs)
{
    if (!R::whole_packs || packs * R::length(a.what, CAR_PACK_BYTES) != a.what.count
        || (1u << a.sources) - 1 != a.vector_source || (1u << a.dests) - 1 != a.vector_dest) {
        return false;
    }
    switch (a.sources) {
    case 1:
        car_fold_whole<R, 1, 4>(a, packs);
        return true;
    case 2:
        car_fold_whole<R, 2, 2>(a, packs);
        return true;
    case 4:
        car_fold_whole<R, 4, 1>(a, packs);
        return true;
    case 8:
        car_fold_whole<R, 8, 1>(a, packs);
        return true;
    default:
        return false;
    }
}

template <class R> CAR_DEVICE void car_fold_any_arrays(const car_fold_args_t &a, uint64_t packs)
{
    switch (a.sources) {
    case 1:
        car_fold_few<R, 1, 4>(a, packs);
        break;
    case 2:
        car_fold_few<R, 2, 2>(a, packs);
        break;
    default:
        car_fold_many<R>(a, packs);
        break;
    }
}

template <class R> CAR_DEVICE void car_fold_arrays(const car_fold_args_t &a)
{
    const uint32_t length = R::length(a.what, CAR_PACK_BYTES);
    const uint64_t packs = (a.what.count + length - 1) / length;

    if (!car_folded_whole<R>(a, packs)) {
        car_fold_any_arrays<R>(a, packs);
    }
    car_block_barrier();
    if (0 == car_thread()) {
        /*
         * Several launches may be under way, whose grids differ: one word that only grows tells
         * them all.
         */
        car_tell_host(a.ended, a.done, 1, a.ticket, 0, a.output_is_remote);
    }
}

#define CAR_ALGORITHM fold
#define CAR_ALGORITHM_CALL car_fold_arrays
#define CAR_ALGORITHM_ARGS car_fold_args_t
#include "car_kernels.cuh"
