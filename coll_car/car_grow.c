/*
 * A larger piece for a communicator whose calls would take many rounds with the one that it has.
 */
#include "car_check.h"
#include "car_grow.h"
#include "car_pending.h"
#include "car_watch.h"

typedef struct {
    uint64_t bytes; /* of the piece that the rank offers, then of the one that it has taken */
    uint64_t offset;
} car_growth_t;

/*
 * Three eighths of the arena are for pieces that have grown, the rest for those that begin: with
 * the default of 64 MB, 106 of them. Of what others leave of the three eighths a communicator gets
 * two thirds, so something is left for the next.
 */
size_t car_grow_offered(const car_comm_t *comm, size_t present, size_t wanted)
{
    const car_arena_t *arena = &comm->device->arena;
    const size_t own = CAR_NO_PIECE == present ? 0 : car_arena_bytes_at(arena, present);
    const size_t grown = own > CAR_PIECE_MIN ? own : 0;
    const size_t others = car_arena_used_above(arena, CAR_PIECE_MIN) - grown,
                 most = arena->bytes / 8 * 3;
    const size_t share = others < most ? (most - others) / 3 * 2 : 0;

    return share < wanted ? share / CAR_PIECE_MIN * CAR_PIECE_MIN : wanted;
}

/*
 * The piece is smaller than the calls would like: after a while, and then after twice that, it is
 * tried again.
 */
static void try_later(car_comm_t *comm)
{
    comm->grow_pause = 0 == comm->grow_pause     ? 64
                       : comm->grow_pause < 4096 ? 2 * comm->grow_pause
                                                 : 4096;
    comm->grow_wait = comm->grow_pause;
}

static uint64_t least_bytes(const car_growth_t *all, int size)
{
    uint64_t least = all[0].bytes;

    for (int r = 1; r < size; ++r) {
        least = all[r].bytes < least ? all[r].bytes : least;
    }
    return least;
}

/*
 * Whether all have taken what they were to take; false, with a broken communicator, where that
 * cannot be.
 */
static bool sane(car_comm_t *comm, const car_growth_t *all, uint64_t bytes)
{
    for (int r = 0; r < comm->size; ++r) {
        const char *wrong = bytes != all[r].bytes
                                ? "a piece of another size"
                                : car_check_piece(all[r].offset, bytes, comm->peer[r].arena_bytes);
        if (NULL != wrong) {
            return car_control_damaged(comm->control, r, wrong);
        }
    }
    return true;
}

static void use_piece(car_comm_t *comm, const car_growth_t *all)
{
    comm->piece_offset = all[comm->rank].offset;
    comm->piece_bytes = all[comm->rank].bytes;
    for (int r = 0; r < comm->size; ++r) {
        comm->peer[r].piece = comm->peer[r].memory + all[r].offset;
    }
    car_layout_make(comm->piece_bytes, comm->size, &comm->limits.layout);
}

static void give_back(car_comm_t *comm, size_t offset)
{
    car_devices_lock();
    car_arena_give(&comm->device->arena, offset);
    car_devices_unlock();
}

/* On a broken communicator: somebody may have heard of the piece. */
static void keep(car_comm_t *comm, size_t offset)
{
    car_devices_lock();
    car_comm_retire(comm, CAR_LANE_CALL, offset);
    car_devices_unlock();
}

/* Brings one step to all ranks; false if the communicator has broken meanwhile. */
static bool together(car_comm_t *comm, const car_growth_t *mine, car_growth_t *all)
{
    return car_watch_exchange(comm->control, mine, sizeof(*mine), all, comm->progress,
                              "a larger piece of device memory");
}

bool car_comm_grow(car_comm_t *comm, size_t bytes)
{
    car_growth_t mine = {0}, all[CAR_MAX_RANKS];
    const size_t old_offset = comm->piece_offset;
    size_t offset = 0;

    if (comm->grow_wait > 0) {
        --comm->grow_wait;
        return true;
    }
    car_stay_send_away(comm);
    car_devices_lock();
    car_pending_reclaim();
    mine.bytes = car_grow_offered(comm, comm->piece_offset, bytes);
    car_devices_unlock();
    /* Whoever is here has ended his earlier calls: from now on no peer touches the old pieces. */
    if (!together(comm, &mine, all)) {
        return false;
    }
    const uint64_t wanted = least_bytes(all, comm->size);
    if (wanted < bytes) {
        try_later(comm);
    }
    if (wanted <= comm->piece_bytes) {
        return true;
    }
    car_devices_lock();
    mine.bytes = car_arena_take(&comm->device->arena, wanted, CAR_ARENA_HIGH, &offset) ? wanted : 0;
    car_devices_unlock();
    mine.offset = offset;
    if (!together(comm, &mine, all)) {
        keep(comm, 0 != mine.bytes ? offset : CAR_NO_PIECE);
        return false;
    }
    if (0 == least_bytes(all, comm->size)) {
        try_later(comm);
        if (0 != mine.bytes) {
            give_back(comm, offset);
        }
        return true;
    }
    if (!sane(comm, all, wanted)) {
        keep(comm, offset);
        return false;
    }
    use_piece(comm, all);
    const CUresult result = car_comm_clear(comm);
    if (CUDA_SUCCESS != result) {
        if (old_offset != comm->home_offset) {
            keep(comm, old_offset);
        }
        car_comm_broken(comm, "clearing device memory", result);
        return false;
    }
    /*
     * The stream is idle now: the last kernel, too, has set its count of blocks back. The first
     * piece holds what lanes use, too, which goes on meanwhile.
     */
    if (old_offset != comm->home_offset) {
        give_back(comm, old_offset);
    }
    return together(comm, &mine, all);
}
