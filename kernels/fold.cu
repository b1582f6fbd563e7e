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

/* Packs of arrays of any alignment, the last of which may be part of one. */
template <class R> struct car_any_packs {
    CAR_DEVICE car_pack load(const car_fold_args_t &a, uint32_t s, uint64_t k)
    {
        return R::template read<CAR_PACK_BYTES>(a.what, a.source[s], k * length(a),
                                                a.vector_source >> s & 1);
    }
    CAR_DEVICE void store(const car_fold_args_t &a, uint32_t d, uint64_t k, const car_pack &pack)
    {
        R::template write<CAR_PACK_BYTES>(a.what, a.dest[d], k * length(a), a.vector_dest >> d & 1,
                                          pack);
    }
    CAR_DEVICE uint32_t length(const car_fold_args_t &a)
    {
        return R::length(a.what, CAR_PACK_BYTES);
    }
};

/*
 * Whole packs of aligned arrays: a load is a load, and no more. A small message takes hardly longer
 * than its first packs, and those wait for code that is not in the cache as well as for data: this
 * took 0.7 us less than packs of any kind (256 KB, 2 ranks, one H200, with the count's reset behind
 * the host's word).
 */
struct car_whole_packs {
    CAR_DEVICE car_pack load(const car_fold_args_t &a, uint32_t s, uint64_t k)
    {
        return car_aligned<CAR_PACK_BYTES>::load((const car_word16_t *) a.source[s] + k);
    }
    CAR_DEVICE void store(const car_fold_args_t &a, uint32_t d, uint64_t k, const car_pack &pack)
    {
        car_aligned<CAR_PACK_BYTES>::store((car_word16_t *) a.dest[d] + k, pack);
    }
};

template <class Packs>
CAR_DEVICE void car_to_all(const car_fold_args_t &a, uint64_t k, const car_pack &pack)
{
#pragma unroll 1
    for (uint32_t d = 0; d < a.dests; ++d) {
        Packs::store(a, d, k, pack);
    }
}

/*
 * `Together` packs of `Sources` sources, of those from pack `first` on: all their loads are in
 * flight before the first is used.
 */
template <class R, class Packs, int Sources, int Together>
CAR_DEVICE void car_fold_few(const car_fold_args_t &a, uint64_t first, uint64_t packs)
{
    const uint64_t stride = (uint64_t) car_blocks() * car_threads_per_block();

    for (uint64_t k = first + (uint64_t) car_block() * car_threads_per_block() + car_thread();
         k < packs; k += stride * Together) {
        car_pack in[Together][Sources];
#pragma unroll
        for (int t = 0; t < Together; ++t) {
#pragma unroll
            for (int s = 0; s < Sources; ++s) {
                if (0 == t || k + t * stride < packs) {
                    in[t][s] = Packs::load(a, (uint32_t) s, k + t * stride);
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
            car_to_all<Packs>(a, k + t * stride, result);
        }
    }
}

/*
 * Any number of sources, one pack at a time, from pack `first` on; the loads of four are in flight
 * together.
 */
template <class R>
CAR_DEVICE void car_fold_many(const car_fold_args_t &a, uint64_t first, uint64_t packs)
{
    typedef car_any_packs<R> any;
    const uint32_t batch = 4;
    const uint64_t stride = (uint64_t) car_blocks() * car_threads_per_block();

    for (uint64_t k = first + (uint64_t) car_block() * car_threads_per_block() + car_thread();
         k < packs; k += stride) {
        typename R::template accumulator<CAR_PACK_BYTES> acc;
        car_pack in[batch];
        acc.begin(a.what, any::load(a, 0, k));
        for (uint32_t base = 1; base < a.sources; base += batch) {
#pragma unroll
            for (uint32_t i = 0; i < batch; ++i) {
                if (base + i < a.sources) {
                    in[i] = any::load(a, base + i, k);
                }
            }
#pragma unroll
            for (uint32_t i = 0; i < batch; ++i) {
                if (base + i < a.sources) {
                    acc.add(a.what, in[i]);
                }
            }
        }
        car_to_all<any>(a, k, acc.end(a.what));
    }
}

/* The whole packs of aligned arrays, of the usual numbers of sources; how many that were. */
template <class R> CAR_DEVICE uint64_t car_fold_whole(const car_fold_args_t &a)
{
    const uint64_t packs = a.what.count / R::length(a.what, CAR_PACK_BYTES);

    if (!R::whole_packs || (1u << a.sources) - 1 != a.vector_source
        || (1u << a.dests) - 1 != a.vector_dest) {
        return 0;
    }
    switch (a.sources) {
    case 1:
        car_fold_few<R, car_whole_packs, 1, 4>(a, 0, packs);
        break;
    case 2:
        car_fold_few<R, car_whole_packs, 2, 2>(a, 0, packs);
        break;
    case 4:
        car_fold_few<R, car_whole_packs, 4, 1>(a, 0, packs);
        break;
    case 8:
        car_fold_few<R, car_whole_packs, 8, 1>(a, 0, packs);
        break;
    default:
        return 0;
    }
    return packs;
}

/* All others: what is not aligned, and the last pack, if it is not whole. */
template <class R>
CAR_DEVICE void car_fold_rest(const car_fold_args_t &a, uint64_t first, uint64_t packs)
{
    if (first == packs) {
        return;
    }
    switch (a.sources) {
    case 1:
        car_fold_few<R, car_any_packs<R>, 1, 4>(a, first, packs);
        break;
    case 2:
        car_fold_few<R, car_any_packs<R>, 2, 2>(a, first, packs);
        break;
    default:
        car_fold_many<R>(a, first, packs);
        break;
    }
}

template <class R> CAR_DEVICE void car_fold_arrays(const car_fold_args_t &a)
{
    const uint32_t length = R::length(a.what, CAR_PACK_BYTES);
    const uint64_t packs = (a.what.count + length - 1) / length;

    car_fold_rest<R>(a, car_fold_whole<R>(a), packs);
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
