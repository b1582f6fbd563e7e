/*
 * two_shot: every rank folds one share of the elements and sends the result to everybody. Large messages, in rounds that
 * pipeline, so any size runs in bounded memory.
 *
 *   publish  the block writes each peer's share of its tile into that peer's scatter inbox and signals STAGED
 *   reduce   when all equals have signalled, it folds its own share in rank order, writes it to the output and into
 *            every peer's gather inbox, and signals REDUCED
 *   finish   when all equals have signalled that, it copies the other shares from its gather inbox to the output
 *
 * The tile of a block in a round is `size` shares of a.tile elements. A block publishes one round ahead of the one it
 * finishes, so that the link carries inputs while results are awaited. Both inboxes: [2 slots][rank of the
 * source][blocks][packs of a share].
 */
#include "car_reduce.cuh"
#include "car_sync.cuh"

template <class T> struct car_two_shot_geometry {
    uint64_t packs; /* of a share */
    uint64_t start; /* element at which the block's tile begins in this round */
    uint64_t slot;  /* bytes from the start of an inbox to this block's part for source 0 */
};

template <class T> CAR_DEVICE car_two_shot_geometry<T> car_geometry(const car_kernel_args_t &a, uint32_t epoch)
{
    car_two_shot_geometry<T> g;
    g.packs = a.tile / (CAR_PACK_BYTES / sizeof(T));
    g.start = ((uint64_t) (epoch - a.epoch) * car_blocks() + car_block()) * a.tile * a.size;
    g.slot = (uint64_t) (epoch % CAR_SLOTS) * a.size * a.two_shot_slot
             + (uint64_t) car_block() * g.packs * CAR_PACK_BYTES;
    return g;
}

template <class T> CAR_DEVICE void car_scatter(const car_kernel_args_t &a, uint32_t epoch)
{
    const car_two_shot_geometry<T> g = car_geometry<T>(a, epoch);
    const uint32_t length = CAR_PACK_BYTES / sizeof(T);

    for (uint32_t i = 1; i < a.size; ++i) {
        const uint32_t peer = a.rank + i < a.size ? a.rank + i : a.rank + i - a.size;
        char *inbox = a.piece[peer] + a.scatter_offset + g.slot + (uint64_t) a.rank * a.two_shot_slot;
        const uint64_t start = g.start + peer * a.tile;
#pragma unroll 4
        for (uint64_t k = car_thread(); k < g.packs; k += car_threads_per_block()) {
            if (start + k * length < a.count) {
                car_write_staging<T>(inbox, k,
                                     car_read<T, CAR_PACK_BYTES>((const T *) a.input, start + k * length, a.count,
                                                                 a.vector_input));
            }
        }
    }
    car_signal(a, CAR_STAGED, epoch);
}

template <class T, class Op> CAR_DEVICE void car_reduce_share(const car_kernel_args_t &a, uint32_t epoch)
{
    const car_two_shot_geometry<T> g = car_geometry<T>(a, epoch);
    const uint32_t length = CAR_PACK_BYTES / sizeof(T);
    const uint64_t start = g.start + a.rank * a.tile;
    const char *inbox = a.piece[a.rank] + a.scatter_offset + g.slot;
    const uint64_t source_stride = a.two_shot_slot;

#pragma unroll 1
    for (uint64_t k = car_thread(); k < g.packs; k += car_threads_per_block()) {
        const uint64_t index = start + k * length;
        if (index >= a.count) {
            break;
        }
        const car_pack<T> mine = car_read<T, CAR_PACK_BYTES>((const T *) a.input, index, a.count, a.vector_input);
        const car_pack<T> acc = car_fold<T, Op>(mine, a.rank, a.size, k, [inbox, source_stride](uint32_t r) {
            return inbox + r * source_stride;
        });
        for (uint32_t i = 1; i < a.size; ++i) {
            const uint32_t peer = a.rank + i < a.size ? a.rank + i : a.rank + i - a.size;
            car_write_staging<T>(a.piece[peer] + a.gather_offset + g.slot + a.rank * source_stride, k, acc);
        }
        car_write<T, CAR_PACK_BYTES>((T *) a.output, index, a.count, a.vector_output, acc);
    }
    car_signal(a, CAR_REDUCED, epoch);
}

template <class T> CAR_DEVICE void car_gather(const car_kernel_args_t &a, uint32_t epoch)
{
    const car_two_shot_geometry<T> g = car_geometry<T>(a, epoch);
    const uint32_t length = CAR_PACK_BYTES / sizeof(T);

    for (uint32_t i = 1; i < a.size; ++i) {
        const uint32_t peer = a.rank + i < a.size ? a.rank + i : a.rank + i - a.size;
        const char *inbox = a.piece[a.rank] + a.gather_offset + g.slot + (uint64_t) peer * a.two_shot_slot;
        const uint64_t start = g.start + peer * a.tile;
#pragma unroll 4
        for (uint64_t k = car_thread(); k < g.packs; k += car_threads_per_block()) {
            if (start + k * length < a.count) {
                car_write<T, CAR_PACK_BYTES>((T *) a.output, start + k * length, a.count, a.vector_output,
                                             car_read_staging<T>(inbox, k));
            }
        }
    }
}

template <class T, class Op> CAR_DEVICE void car_two_shot(const car_kernel_args_t &a)
{
    car_progress_t p = car_begin(a);

    while (p.finished != a.end) {
        if (p.published != a.end && p.published - p.finished < CAR_SLOTS) {
            car_scatter<T>(a, p.published);
            ++p.published;
        } else if (p.reduced == p.finished) {
            if (!car_wait(a, CAR_STAGED, p.reduced)) {
                break;
            }
            car_reduce_share<T, Op>(a, p.reduced);
            ++p.reduced;
        } else {
            if (!car_wait(a, CAR_REDUCED, p.finished)) {
                break;
            }
            car_gather<T>(a, p.finished);
            ++p.finished;
        }
    }
    car_end(a, p);
}

#define CAR_INSTANCE(name, type, op)                                                                                   \
    CAR_KERNEL(car_two_shot_##name, car_kernel_args_t, a) { car_two_shot<type, op>(a); }
#include "car_instances.def"
