/*
 * one_shot_pull: everybody stages his data in his own memory, tells the others, and reads
 * everybody's. Medium messages, where packets would waste more of the link than the flags cost, and
 * large ones that have to be staged.
 *
 *   stage    the block copies its tile of the input into its rank's staging
 *   publish  it signals its equals at all peers
 *   fold     when all of them have signalled, it reads the tile from all ranks, folds it in rank
 *            order, and writes its output
 *
 * With several exchanges it publishes one ahead of the one it folds, and stages the next but one
 * (of two: the next) while it folds: what it waits for passes behind work, and copying in behind
 * the reads of other GPUs' memory. Its own part of an exchange is read from its staging, too: from
 * the cache, where the input would have to come from memory once more.
 *
 * The slot of exchange e is written again for e + 4, when all peers have signalled e + 2, before
 * which they had finished e. The last exchange of a launch is signalled only when all before are
 * finished: what the next call may rely on, whatever its algorithm (docs/protocol.md).
 * Staging: [2 slots][2 halves][packs of a round].
 */
#include "car_reduce.cuh"
#include "car_staging.cuh"
#include "car_sync.cuh"

/* A block's part of one exchange. */
struct car_pull_tile {
    uint64_t start; /* element at which it begins */
    uint64_t slot;  /* bytes from the start of any rank's piece */
};

template <class R>
CAR_DEVICE car_pull_tile car_pull_tile_of(const car_kernel_args_t &a, uint32_t epoch)
{
    const uint64_t packs = a.tile / R::length(a.what, CAR_PACK_BYTES);
    car_pull_tile t;
    t.start = ((uint64_t) (epoch - a.epoch) * car_blocks() + car_block()) * a.tile;
    t.slot = a.staging_offset + (uint64_t) (epoch % CAR_SLOTS) * a.staging_slot
             + (uint64_t) (epoch / CAR_SLOTS % CAR_PULL_HALVES) * (a.staging_slot / CAR_PULL_HALVES)
             + (uint64_t) car_block() * packs * CAR_PACK_BYTES;
    return t;
}

/* The packs of a tile that are this thread's. */
struct car_tile_walk {
    uint64_t k, packs;

    CAR_METHOD bool more() const { return k < packs; }
    CAR_METHOD bool here() const { return k < packs; }
    CAR_METHOD void on() { k += car_threads_per_block(); }
};

template <class R> CAR_DEVICE void car_pull_stage(const car_kernel_args_t &a, uint32_t epoch)
{
    const uint32_t length = R::length(a.what, CAR_PACK_BYTES);
    const car_pull_tile t = car_pull_tile_of<R>(a, epoch);
    char *staging = a.piece[a.rank] + t.slot;
    const car_kernel_args_t *args = &a;
    car_tile_walk w;

    w.k = car_thread();
    w.packs = car_packs_of<R>(a.what, t.start, a.tile);
    car_copy_packs(
        w,
        [args, t, length](const car_tile_walk &at) {
            return R::template read<CAR_PACK_BYTES>(args->what, args->input,
                                                    t.start + at.k * length, args->vector_input);
        },
        [staging](const car_tile_walk &at, const car_pack &pack) {
            car_write_staging(staging, at.k, pack);
        });
}

/*
 * On the way stages exchange `ahead`, unless that is a.end, pack by pack: its loads are under way
 * with those of the fold.
 */
template <class R>
CAR_DEVICE void car_pull_fold(const car_kernel_args_t &a, uint32_t epoch, uint32_t ahead)
{
    const uint32_t length = R::length(a.what, CAR_PACK_BYTES);
    const car_pull_tile t = car_pull_tile_of<R>(a, epoch), next = car_pull_tile_of<R>(a, ahead);
    const uint64_t packs = car_packs_of<R>(a.what, t.start, a.tile);
    const uint64_t distance = next.start - t.start, slot = t.slot;
    const uint64_t staged_below = ahead != a.end ? a.what.count : 0;
    const car_kernel_args_t *args = &a;

#pragma unroll 1
    for (uint64_t k = car_thread(); k < packs; k += car_threads_per_block()) {
        const uint64_t index = t.start + k * length;
        const bool stages = index + distance < staged_below;
        car_pack input = {};
        if (stages) {
            input =
                R::template read<CAR_PACK_BYTES>(a.what, a.input, index + distance, a.vector_input);
        }
        const car_pack result = car_fold<R>(a, [args, slot, k](uint32_t r) {
            return car_read_staging(args->piece[r] + slot, k);
        });
        R::template write<CAR_PACK_BYTES>(a.what, a.output, index, a.vector_output, result);
        if (stages) {
            car_write_staging(a.piece[a.rank] + next.slot, k, input);
        }
    }
}

/*
 * One exchange ahead of the one that is folded, but the last of the launch only when there is none
 * before it. At most the first two of a launch have not been staged yet when it is their turn.
 */
template <class R> CAR_DEVICE void car_pull_publish(const car_kernel_args_t &a, car_progress_t &p)
{
    while (p.published != a.end && p.published - p.finished < CAR_SLOTS
           && (p.published + 1 != a.end || p.published == p.finished)) {
        if (p.staged == p.published) {
            car_pull_stage<R>(a, p.staged++);
        }
        car_signal(a, CAR_STAGED, p.published++);
    }
}

template <class R> CAR_DEVICE void car_one_shot_pull(const car_kernel_args_t &a)
{
    car_progress_t p = car_begin(a);

    while (p.finished != a.end) {
        car_pull_publish<R>(a, p);
        if (!car_wait(a, CAR_STAGED, p.finished)) {
            break;
        }
        car_pull_fold<R>(a, p.finished, p.staged);
        p.staged += p.staged != a.end;
        p.reduced = ++p.finished;
    }
    car_end(a, p);
}

#define CAR_ALGORITHM one_shot_pull
#include "car_kernels.cuh"
