/*
 * two_shot: every rank folds one share of the elements and sends the result to everybody. Large messages, in rounds that
 * pipeline, so any size runs in bounded memory.
 *
 *   publish  the block writes each peer's share of its tile into that peer's scatter inbox and signals STAGED
 *   reduce   when all equals have signalled, it folds its own share in rank order, writes it to the output and into
 *            every peer's gather inbox, and signals REDUCED
 *   finish   when all equals have signalled that, it copies the other shares from its gather inbox to the output
 *
 * The tile of a block in a round is `size` shares of a.tile elements. But for the call's first two rounds a block
 * publishes one round ahead of the one it finishes, so that the link carries inputs while results are awaited. Staging: [2 slots][inbox: scatter, gather][rank of the
 * source][blocks][packs of a share]. The slots are those of one_shot_pull: what an exchange leaves in a slot is nobody's
 * any more when the next but one begins, whatever the algorithms of the two.
 */
#include "car_reduce.cuh"
#include "car_sync.cuh"

struct car_two_shot_geometry {
    uint64_t start; /* element at which the block's tile begins in this round */
    uint64_t scatter, gather; /* bytes from the start of a piece to this block's part for source 0 in either inbox */
};

template <class R> CAR_DEVICE car_two_shot_geometry car_geometry(const car_kernel_args_t &a, uint32_t epoch)
{
    car_two_shot_geometry g;
    g.start = ((uint64_t) (epoch - a.epoch) * car_blocks() + car_block()) * a.tile * a.size;
    g.scatter = a.staging_offset + (uint64_t) (epoch % CAR_SLOTS) * a.staging_slot
                + (uint64_t) car_block() * a.tile / R::length(a.what, CAR_PACK_BYTES) * CAR_PACK_BYTES;
    g.gather = g.scatter + (uint64_t) a.size * a.two_shot_slot;
    return g;
}

CAR_DEVICE uint32_t car_peer(const car_kernel_args_t &a, uint32_t i)
{
    return a.rank + i < a.size ? a.rank + i : a.rank + i - a.size;
}

/* A pack of a peer's share: the next one is of the next peer, since a share may have no more than one for each thread. */
struct car_walk {
    uint32_t i; /* the peer, counted from this rank */
    uint64_t k;
};

CAR_DEVICE car_walk car_walk_on(const car_kernel_args_t &a, const car_walk &w)
{
    car_walk next;
    next.i = w.i + 1 < a.size ? w.i + 1 : 1;
    next.k = w.i + 1 < a.size ? w.k : w.k + car_threads_per_block();
    return next;
}

/* store(peer, k, index, load(peer, k, index)) for all packs of all peers' shares; `index` is the pack's first element. */
template <class R, class Load, class Store>
CAR_DEVICE void car_copy_shares(const car_kernel_args_t &a, const car_two_shot_geometry &g, Load load, Store store)
{
    const uint32_t length = R::length(a.what, CAR_PACK_BYTES);
    const uint64_t packs = a.tile / length;
    car_walk w;

    w.i = 1;
    w.k = car_thread();
#pragma unroll 1
    while (w.k < packs) {
        car_pack pack[CAR_COPIES];
        car_walk at = w;
#pragma unroll
        for (int n = 0; n < CAR_COPIES; ++n) {
            const uint32_t peer = car_peer(a, at.i);
            const uint64_t index = g.start + peer * a.tile + at.k * length;
            if (at.k < packs && index < a.what.count) {
                pack[n] = load(peer, at.k, index);
            }
            at = car_walk_on(a, at);
        }
#pragma unroll
        for (int n = 0; n < CAR_COPIES; ++n) {
            const uint32_t peer = car_peer(a, w.i);
            const uint64_t index = g.start + peer * a.tile + w.k * length;
            if (w.k < packs && index < a.what.count) {
                store(peer, w.k, index, pack[n]);
            }
            w = car_walk_on(a, w);
        }
    }
}

template <class R> CAR_DEVICE void car_scatter(const car_kernel_args_t &a, uint32_t epoch)
{
    const car_two_shot_geometry g = car_geometry<R>(a, epoch);
    const car_kernel_args_t *args = &a;
    const uint64_t mine = g.scatter + (uint64_t) a.rank * a.two_shot_slot;

    car_copy_shares<R>(
        a, g,
        [args](uint32_t, uint64_t, uint64_t index) {
            return R::template read<CAR_PACK_BYTES>(args->what, args->input, index, args->vector_input);
        },
        [args, mine](uint32_t peer, uint64_t k, uint64_t, const car_pack &pack) {
            car_write_staging(args->piece[peer] + mine, k, pack);
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
        const car_pack mine = R::template read<CAR_PACK_BYTES>(a.what, a.input, index, a.vector_input);
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

    car_copy_shares<R>(
        a, g,
        [args, inbox](uint32_t peer, uint64_t k, uint64_t) {
            return car_read_staging(inbox + (uint64_t) peer * args->two_shot_slot, k);
        },
        [args](uint32_t, uint64_t, uint64_t index, const car_pack &pack) {
            R::template write<CAR_PACK_BYTES>(args->what, args->output, index, args->vector_output, pack);
        });
}

/*
 * The call's second exchange waits for the first to be reduced: until then a peer may still be in its call before, and read
 * there, in the slot that the second would write, what another rank staged (docs/protocol.md).
 */
CAR_DEVICE bool car_may_publish(const car_kernel_args_t &a, const car_progress_t &p)
{
    return p.published != a.end && p.published - p.finished < CAR_SLOTS && (p.published == a.epoch || p.reduced != a.epoch);
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
