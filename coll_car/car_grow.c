/*
 * A larger piece for a communicator whose calls would take many rounds with the one that it has.
 */
#include <stdio.h>

#include "car_comm.h"
#include "car_pending.h"

typedef struct {
    uint64_t bytes; /* of the piece that the rank offers, then of the one that it has taken */
    uint64_t offset;
    uint32_t cleared;
} car_growth_t;

/* What is asked for, or half of what is free or its own, so that something is left for communicators to come. */
static size_t piece_offered(const car_comm_t *comm, size_t wanted)
{
    const size_t share = (car_arena_free_bytes(&comm->device->arena) + comm->piece_bytes) / 2;

    return share < wanted ? share / CAR_PIECE_MIN * CAR_PIECE_MIN : wanted;
}

static uint64_t least_bytes(const car_growth_t *all, int size)
{
    uint64_t least = all[0].bytes;

    for (int r = 1; r < size; ++r) {
        least = all[r].bytes < least ? all[r].bytes : least;
    }
    return least;
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

/* Brings one step to all ranks; false if the communicator has broken meanwhile. */
static bool together(car_comm_t *comm, const car_growth_t *mine, car_growth_t *all, char reason[CAR_REASON_BYTES])
{
    if (car_control_exchange(comm->control, mine, sizeof(*mine), all, comm->progress)) {
        return true;
    }
    snprintf(reason, CAR_REASON_BYTES, "rank %d failed", car_control_broken(comm->control));
    return false;
}

bool car_comm_grow(car_comm_t *comm, size_t bytes, char reason[CAR_REASON_BYTES])
{
    car_growth_t mine = {0}, all[CAR_MAX_RANKS];
    const size_t old_offset = comm->piece_offset;
    size_t offset = 0;

    car_devices_lock();
    car_pending_reclaim();
    mine.bytes = piece_offered(comm, bytes);
    car_devices_unlock();
    /* Whoever is here has ended his earlier calls: from now on nobody touches the old pieces. */
    if (!together(comm, &mine, all, reason)) {
        return false;
    }
    const uint64_t wanted = least_bytes(all, comm->size);
    comm->grown = wanted < bytes;
    if (wanted <= comm->piece_bytes) {
        return true;
    }
    car_devices_lock();
    mine.bytes = car_arena_take(&comm->device->arena, wanted, &offset) ? wanted : 0;
    car_devices_unlock();
    mine.offset = offset;
    if (!together(comm, &mine, all, reason)) {
        return false;
    }
    if (0 == least_bytes(all, comm->size)) {
        comm->grown = true;
        if (0 != mine.bytes) {
            give_back(comm, offset);
        }
        return true;
    }
    use_piece(comm, all);
    give_back(comm, old_offset);
    mine.cleared = CUDA_SUCCESS == car_comm_clear(comm);
    if (!together(comm, &mine, all, reason)) {
        return false;
    }
    for (int r = 0; r < comm->size; ++r) {
        if (!all[r].cleared) {
            snprintf(reason, CAR_REASON_BYTES, "rank %d could not clear its device memory", r);
            return false;
        }
    }
    return true;
}
