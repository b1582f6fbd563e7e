/*
 * A larger piece of device memory for the queue, whose steps are small with the one that it has.
 */
#include "car_agree_parts.h"
#include "car_check.h"
#include "car_grow.h"
#include "car_pending.h"

/* A step that is larger gains nothing: it takes many times what its launches cost. */
#define CAR_SLOT_MOST ((size_t) 4 << 20)
#define CAR_SLOT_LEAST                                                                             \
    ((size_t) 256 << 10) /* two are more than a first piece, so that they count as grown */

/* --- what a call would like ------------------------------------------------------------------- */

static size_t slot_wanted(const car_call_t *op)
{
    size_t slot = CAR_SLOT_LEAST;

    while (slot < CAR_SLOT_MOST && slot < car_call_bytes(op)) {
        slot *= 2;
    }
    return slot;
}

/*
 * Several GPUs: folding everything on all ranks would bring each of them more than its share of the
 * traffic.
 */
static bool shares_wanted(const car_lane_t *lane)
{
    return lane->comm->gpus > 1 && lane->size > 2;
}

static size_t piece_wanted(const car_call_t *op)
{
    return CAR_LANE_SLOTS * slot_wanted(op);
}

bool car_agree_may_grow(const car_lane_t *lane, const car_call_t *op)
{
    return NULL != lane->comm && CAR_LANE_QUEUE == lane->index
           && car_call_bytes(op) > lane->slot_bytes && slot_wanted(op) > lane->slot_bytes
           && 0 == lane->grow_pause;
}

uint64_t car_agree_room(const car_lane_t *lane, const car_call_t *op)
{
    car_devices_lock();
    car_pending_reclaim();
    const uint64_t room = car_grow_offered(lane->comm, lane->piece_offset, piece_wanted(op));
    car_devices_unlock();
    return room;
}

/* --- exchanging pieces ------------------------------------------------------------------------ */

static uint64_t least_room(const car_lane_t *lane)
{
    uint64_t least = UINT64_MAX;

    for (int r = 0; r < lane->size; ++r) {
        const car_said_t *theirs = &lane->said[r];
        least = theirs->room < least ? theirs->room : least;
    }
    return least;
}

static size_t slot_in(uint64_t room)
{
    return room / CAR_LANE_SLOTS / 4096 * 4096;
}

static void take_piece(car_lane_t *lane, car_call_t *op, uint64_t room)
{
    size_t offset = CAR_NO_PIECE;

    car_devices_lock();
    const bool taken = car_arena_take(&lane->comm->device->arena, room, CAR_ARENA_HIGH, &offset);
    car_devices_unlock();
    lane->piece_new = taken ? offset : CAR_NO_PIECE;
    op->growing = true;
    car_agree_say_second(lane, op, taken, offset);
}

static void give_piece(car_lane_t *lane, size_t *offset)
{
    if (CAR_NO_PIECE != *offset) {
        car_devices_lock();
        car_arena_give(&lane->comm->device->arena, *offset);
        car_devices_unlock();
        *offset = CAR_NO_PIECE;
    }
}

static bool pieces_sane(car_lane_t *lane, uint64_t room)
{
    for (int r = 0; r < lane->size; ++r) {
        const char *wrong =
            car_check_piece(lane->piece_said[r], room, lane->comm->peer[r].arena_bytes);
        if (NULL != wrong) {
            return car_agree_damaged(lane, r, wrong);
        }
    }
    return true;
}

/* All ranks have taken one and are through with every step so far: from here on steps use it. */
static void use_piece(car_lane_t *lane, uint64_t room)
{
    lane->piece_said[lane->rank] = lane->piece_new;
    give_piece(lane, &lane->piece_offset);
    lane->piece_offset = lane->piece_new;
    lane->piece_new = CAR_NO_PIECE;
    lane->slot_bytes = slot_in(room);
    lane->shares = shares_wanted(lane);
    for (int r = 0; r < lane->size; ++r) {
        lane->staging[r] = lane->comm->peer[r].memory + lane->piece_said[r];
    }
}

bool car_agree_grow(car_lane_t *lane, car_call_t *op)
{
    const uint64_t room = least_room(lane);

    if (slot_in(room) <= lane->slot_bytes) {
        lane->grow_pause = CAR_PAUSE + 1;
        return true;
    }
    if (!op->second) {
        take_piece(lane, op, room);
    }
    const int heard = car_agree_heard_second(lane, op);
    if (heard < 0 || (heard > 0 && !car_lane_all_done(lane, lane->steps))) {
        return false;
    }
    if (heard && !pieces_sane(lane, room)) {
        return false;
    }
    if (heard) {
        use_piece(lane, room);
    } else {
        give_piece(lane, &lane->piece_new);
        lane->grow_pause = CAR_PAUSE + 1;
    }
    return true;
}

void car_agree_count_pause(car_lane_t *lane, const car_call_t *op)
{
    if (NULL == lane->comm) {
        return;
    }
    lane->grow_pause -= lane->grow_pause > 0 && car_call_bytes(op) > lane->slot_bytes ? 1 : 0;
}
