/*
 * two_shot: every rank folds one share of the elements and sends the result to everybody. Large
 * messages, in rounds that pipeline, so any size runs in bounded memory.
 *
 *   publish  the block writes each peer's share of its tile into that peer's scatter inbox and
 *            signals STAGED
 *   reduce   when all equals have signalled, it folds its own share in rank order, writes it to the
 *            output and into every peer's gather inbox, and signals REDUCED
 *   finish   when all equals have signalled that, it copies the other shares from its gather inbox
 *            to the output
 *
 * The tile of a block in a round is `size` shares of a.tile elements. But for the call's first two
 * rounds a block publishes one round ahead of the one it finishes, so that the link carries inputs
 * while results are awaited.
 * Staging: [2 slots][inbox: scatter, gather][rank of the source][blocks][packs of a share]. The
 * slots are those of one_shot_pull: what a call of that leaves there is nobody's any more when the
 * next but one exchange begins (I7).
 */
#include "car_reduce.cuh"
#include "car_staging.cuh"
#include "car_sync.cuh"

struct car_two_shot_geometry {
    uint64_t start; /* element at which the block's tile begins in this round */
    /* bytes from the start of a piece to this block's part for source 0 in either inbox */
    uint64_t scatter, gather;
};

template <class R>
CAR_DEVICE car_two_shot_geometry car_geometry(const car_kernel_args_t &a, uint32_t epoch)
{
    car_two_shot_geometry g;
    g.start = ((uint64_t) (epoch - a.epoch) * car_blocks() + car_block()) * a.tile * a.size;
    g.scatter =
        a.staging_offset + (uint64_t) (epoch % CAR_SLOTS) * a.staging_slot
        + (uint64_t) car_block() * a.tile / R::length(a.what, CAR_PACK_BYTES) * CAR_PACK_BYTES;
    g.gather = g.scatter + (uint64_t) a.size * a.two_shot_slot;
    return g;
}

/*
 * Packs of all peers' shares: the next one is of the next peer, since a share may have no more than
 * one for each thread.
 */
struct car_share_walk {
    const car_kernel_args_t *a;
    uint32_t i;      /* the peer, counted from this rank */
    uint32_t length; /* elements of a pack */
    uint64_t k, packs;
    uint64_t start; /* element at which the block's tile begins */

    CAR_METHOD uint32_t peer() const { return car_peer(*a, i); }
    CAR_METHOD uint64_t index() const { return start + peer() * a->tile + k * length; }
    CAR_METHOD bool more() const { return k < packs; }
    CAR_METHOD bool here() const { return k < packs && index() < a->what.count; }
    CAR_METHOD void on()
    {
        const bool same = i + 1 < a->size;
        i = same ? i + 1 : 1;
        k = same ? k : k + car_threads_per_block();
    }
};

template <class R>
CAR_DEVICE car_share_walk car_shares(const car_kernel_args_t &a, const car_two_shot_geometry &g)
{
    car_share_walk w;
    w.a = &a;
    w.i = 1;
    w.length = R::length(a.what, CAR_PACK_BYTES);
    w.k = car_thread();
    w.packs = a.tile / w.length;
    w.start = g.start;
    return w;
}

template <class R> CAR_DEVICE void car_scatter(const car_kernel_args_t &a, uint32_t epoch)
{
    const car_two_shot_geometry g = car_geometry<R>(a, epoch);
    const car_kernel_args_t *args = &a;
    const uint64_t mine = g.scatter + (uint64_t) a.rank * a.two_shot_slot;

    car_copy_packs(
        car_shares<R>(a, g),
        [args](const car_share_walk &at) {
            return R::template read<CAR_PACK_BYTES>(args->what, args->input, at.index(),
                                                    args->vector_input);
        },
        [args, mine](const car_share_walk &at, const car_pack &pack) {
            car_write_staging(args->piece[at.peer()] + mine, at.k, pack);
        });
    car_signal(a, CAR_STAGED, epoch);
}

template <class R> CAR_DEVICE void car_reduce_share(const car_kernel_args_t &a, uint32_t epoch)
{
    const car_two_shot_geometry g = car_geometry<R>(a, epoch);
    const uint64_t start = g.start + a.rank * a.tile;
    const uint64_t packs = car_packs_of<R>(a.what, start, a.tile);
    const uint32_t length = R::length(a.what, CAR_PACK_BYTES);
    const char *inbox = a.piece[a.rank] + g.scatter;
    const uint64_t source_stride = a.two_shot_slot;
    const uint32_t rank = a.rank;

#pragma unroll 1
    for (uint64_t k = car_thread(); k < packs; k += car_threads_per_block()) {
        const uint64_t index = start + k * length;
        const car_pack mine =
            R::template read<CAR_PACK_BYTES>(a.what, a.input, index, a.vector_input);
        const car_pack result = car_fold<R>(a, [&mine, k, inbox, source_stride, rank](uint32_t r) {
            return r == rank ? mine : car_read_staging(inbox + r * source_stride, k);
        });
        for (uint32_t i = 1; i < a.size; ++i) {
            const uint32_t peer = car_peer(a, i);
            car_write_staging(a.piece[peer] + g.gather + a.rank * source_stride, k, result);
        }
        R::template write<CAR_PACK_BYTES>(a.what, a.output, index, a.vector_output, result);
    }
    car_signal(a, CAR_REDUCED, epoch);
}

template <class R> CAR_DEVICE void car_gather(const car_kernel_args_t &a, uint32_t epoch)
{
    const car_two_shot_geometry g = car_geometry<R>(a, epoch);
    const car_kernel_args_t *args = &a;
    const char *inbox = a.piece[a.rank] + g.gather;

    car_copy_packs(
        car_shares<R>(a, g),
        [args, inbox](const car_share_walk &at) {
            return car_read_staging(inbox + (uint64_t) at.peer() * args->two_shot_slot, at.k);
        },
        [args](const car_share_walk &at, const car_pack &pack) {
            R::template write<CAR_PACK_BYTES>(args->what, args->output, at.index(),
                                              args->vector_output, pack);
        });
}

/*
 * The call's second exchange waits for the first to be reduced: until then a peer may still be in
 * its call before, and read there, in the slot that the second would write, what another rank
 * staged (docs/protocol.md).
 */
CAR_DEVICE bool car_may_publish(const car_kernel_args_t &a, const car_progress_t &p)
{
    return p.published != a.end && p.published - p.finished < CAR_SLOTS
           && (p.published == a.epoch || p.reduced != a.epoch);
}

template <class R> CAR_DEVICE void car_two_shot(const car_kernel_args_t &a)
{
    car_progress_t p = car_begin(a);

    while (p.finished != a.end) {
        if (car_may_publish(a, p)) {
            car_scatter<R>(a, p.published);
            ++p.published;
        } else if (p.reduced == p.finished) {
            if (!car_wait(a, CAR_STAGED, p.reduced)) {
                break;
            }
            car_reduce_share<R>(a, p.reduced);
            ++p.reduced;
        } else {
            if (!car_wait(a, CAR_REDUCED, p.finished)) {
                break;
            }
            car_gather<R>(a, p.finished);
            ++p.finished;
        }
    }
    car_end(a, p);
}

#define CAR_ALGORITHM two_shot
#include "car_kernels.cuh"
