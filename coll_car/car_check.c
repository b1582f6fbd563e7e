#include "car_check.h"

#include "car_arena.h"
#include "car_kernel_args.h"

/* Far more than there is, and so little that sums of a few do not overflow. */
#define CAR_BYTES_MOST (UINT64_C(1) << 56)
#define CAR_BLOCKS_MOST (UINT32_C(1) << 20)
#define CAR_PROCESSES_MOST (1 << 20)

const char *car_check_offer(const car_offer_t *offer)
{
    if (offer->pid <= 0 || offer->node_processes < 1 || offer->node_processes > CAR_PROCESSES_MOST
        || offer->devices < 0 || offer->devices > CAR_PROCESSES_MOST) {
        return "a number of processes or GPUs that cannot be";
    }
    if (offer->threads < 32 || offer->threads > CAR_MAX_THREADS || 0 == offer->resident_blocks
        || offer->resident_blocks > CAR_BLOCKS_MOST) {
        return "blocks that cannot be";
    }
    if (0 == offer->arena_bytes || offer->arena_bytes > CAR_BYTES_MOST
        || 0 != offer->arena_bytes % CAR_ARENA_ALIGNMENT) {
        return "an arena that cannot be";
    }
    if (offer->generation < 10 || offer->generation > 999) {
        return "a GPU that cannot be";
    }
    if (offer->algorithm < 0 || offer->algorithm > CAR_ALGORITHM_AUTO
        || offer->two_phase < CAR_TWO_PHASE_AUTO || offer->two_phase > CAR_TWO_PHASE_ALWAYS
        || offer->blocks_wanted > CAR_MAX_BLOCKS || offer->threads_wanted > CAR_MAX_THREADS
        || 0 == offer->first_epoch || offer->two_shot_push_max < 0) {
        return "parameters that cannot be";
    }
    return NULL;
}

const char *car_check_piece(uint64_t offset, uint64_t bytes, uint64_t arena_bytes)
{
    return 0 == offset % CAR_ARENA_ALIGNMENT && bytes <= arena_bytes
                   && offset <= arena_bytes - bytes
               ? NULL
               : "a piece of memory outside its arena";
}

const char *car_check_export(const car_export_t *told, uint64_t bytes, uint64_t alignment)
{
    return 0 == told->id
                   || (told->bytes <= CAR_BYTES_MOST && bytes <= told->bytes
                       && told->offset <= told->bytes - bytes && 0 == told->offset % alignment)
               ? NULL
               : "a buffer outside its allocation";
}
