/*
 * one_shot_pull: everybody stages his data in his own memory, tells the others, and reads everybody's. Medium messages,
 * where packets would waste more of the link than the flags cost.
 *
 *   publish  the block copies its tile of the input into its rank's staging and signals its equals at all peers
 *   fold     when all of them have signalled, it reads the tile from all ranks and folds it in rank order
 *   finish   it writes its output
 *
 * The slot of exchange e is written again for e + 2, after the flags of e + 1 came from all peers, who had finished e by
 * then: no barrier at the end. Staging: [2 slots][packs of a round].
 */
#include "car_reduce.cuh"
#include "car_sync.cuh"

template <class R> CAR_DEVICE bool car_pull_round(const car_kernel_args_t &a, car_progress_t &p)
{
    const uint32_t epoch = p.finished;
    const uint32_t length = R::length(a.what, CAR_PACK_BYTES);
    const uint64_t packs = a.tile / length;
    const uint64_t start = ((uint64_t) (epoch - a.epoch) * car_blocks() + car_block()) * a.tile;
    const uint64_t slot = a.staging_offset + (uint64_t) (epoch % CAR_SLOTS) * a.staging_slot
                          + (uint64_t) car_block() * packs * CAR_PACK_BYTES;

    if (p.published == epoch) {
        char *staging = a.piece[a.rank] + slot;
#pragma unroll 4
        for (uint64_t k = car_thread(); k < packs; k += car_threads_per_block()) {
            if (start + k * length < a.what.count) {
                car_write_staging(staging, k, R::template read<CAR_PACK_BYTES>(a.what, a.input, start + k * length, a.vector_input));
            }
        }
        car_signal(a, CAR_STAGED, epoch);
        p.published = epoch + 1;
    }
    if (!car_wait(a, CAR_STAGED, epoch)) {
        return false;
    }
    const car_kernel_args_t *args = &a;
#pragma unroll 1
    for (uint64_t k = car_thread(); k < packs; k += car_threads_per_block()) {
        const uint64_t index = start + k * length;
        if (index < a.what.count) {
            const car_pack mine = R::template read<CAR_PACK_BYTES>(a.what, a.input, index, a.vector_input);
            const car_pack result = car_fold<R>(a, mine, k, [args, slot](uint32_t r) {
                return (const char *) args->piece[r] + slot;
            });
            R::template write<CAR_PACK_BYTES>(a.what, a.output, index, a.vector_output, result);
        }
    }
    p.reduced = p.finished = epoch + 1;
    return true;
}

template <class R> CAR_DEVICE void car_one_shot_pull(const car_kernel_args_t &a)
{
    car_progress_t p = car_begin(a);

    while (p.finished != a.end && car_pull_round<R>(a, p)) {
    }
    car_end(a, p);
}

#define CAR_ALGORITHM one_shot_pull
#include "car_kernels.cuh"
