#include "car_sets.h"

#include <string.h>

#include "car_agree_parts.h"
#include "car_pending.h"

void car_sets_unmap(car_set_t *set)
{
    for (int i = 0; i < 2 * CAR_MAX_RANKS; ++i) {
        if (NULL != set->held[i]) {
            car_registry_release(set->held[i]);
            set->held[i] = NULL;
        }
    }
}

static void forget_set(car_set_t *set)
{
    car_sets_unmap(set);
    memset(set, 0, sizeof(*set));
}

static bool contains(const car_set_t *set, int r, uint64_t id)
{
    return id == set->id[2 * r] || id == set->id[2 * r + 1];
}

void car_sets_drop_gone(car_lane_t *lane, car_call_t *op)
{
    car_device_t *device = lane->comm->device;
    bool any = false;

    op->read = true;
    for (int r = 0; r < lane->size; ++r) {
        any = any || 0 != lane->said[r].gone[0];
    }
    if (!any || !car_lane_driver(lane)) {
        return;
    }
    car_devices_lock();
    for (int r = 0; r < lane->size; ++r) {
        const car_said_t *theirs = &lane->said[r];
        for (int g = 0; g < CAR_GONE_AT_ONCE && 0 != theirs->gone[g]; ++g) {
            for (int s = 0; s < CAR_LANE_SETS; ++s) {
                if (0 != lane->sets[s].id[0] && contains(&lane->sets[s], r, theirs->gone[g])) {
                    forget_set(&lane->sets[s]);
                }
            }
        }
        if (r != lane->rank) {
            car_registry_drop(device, &lane->comm->peer[r].arena, theirs->gone);
        }
    }
    car_devices_unlock();
}

static bool is_set(const car_lane_t *lane, const car_set_t *set)
{
    for (int r = 0; r < lane->size; ++r) {
        const car_said_t *theirs = &lane->said[r];
        if (set->id[2 * r] != theirs->in.id || set->id[2 * r + 1] != theirs->out.id) {
            return false;
        }
    }
    return true;
}

/*
 * How many sets a lane remembers: no more than may be mapped at a time, with as many for the
 * communicator's other lane. The same on all ranks, or they would not remember the same ones.
 */
static int sets_most(const car_lane_t *lane)
{
    const uint32_t peers = lane->size > 1 ? (uint32_t) lane->size - 1 : 1;
    const int most = (int) (lane->comm->map_max / (4 * peers));

    return most < 1 ? 1 : most > CAR_LANE_SETS ? CAR_LANE_SETS : most;
}

bool car_sets_recall(car_lane_t *lane)
{
    const car_set_t *set = lane->sets;
    const int most = NULL != lane->comm ? sets_most(lane) : 0;

    while (set < lane->sets + most && !(set->mapped && is_set(lane, set))) {
        ++set;
    }
    if (set == lane->sets + most) {
        return false;
    }
    for (int r = 0; r < lane->size; ++r) {
        lane->said[r].in.bytes = set->bytes[2 * r];
        lane->said[r].out.bytes = set->bytes[2 * r + 1];
    }
    return true;
}

car_set_t *car_sets_find(car_lane_t *lane, const car_call_t *op, bool *seen)
{
    car_set_t *oldest = &lane->sets[0];

    for (int s = 0; s < sets_most(lane); ++s) {
        if (is_set(lane, &lane->sets[s])) {
            *seen = lane->sets[s].last != op->number;
            return &lane->sets[s];
        }
        oldest = lane->sets[s].last < oldest->last ? &lane->sets[s] : oldest;
    }
    forget_set(oldest);
    for (int r = 0; r < lane->size; ++r) {
        oldest->id[2 * r] = lane->said[r].in.id;
        oldest->id[2 * r + 1] = lane->said[r].out.id;
        oldest->bytes[2 * r] = lane->said[r].in.bytes;
        oldest->bytes[2 * r + 1] = lane->said[r].out.bytes;
    }
    *seen = false;
    return oldest;
}

bool car_sets_map(car_lane_t *lane, car_set_t *set)
{
    car_comm_t *comm = lane->comm;
    bool mapped = true;

    set->let_go = false;
    if (!car_lane_driver(lane)) {
        return false;
    }
    if (!lane->handles_heard) {
        car_agree_hear_handles(lane);
    }
    for (int i = 0; i < 2 * lane->size && mapped; ++i) {
        const int r = i / 2;
        const car_said_t *theirs = &lane->said[r];
        if (r != lane->rank) {
            set->held[i] =
                car_comm_hold(comm, r, 0 == i % 2 ? &theirs->in : &theirs->out, &set->base[i]);
            mapped = NULL != set->held[i];
        }
    }
    return mapped;
}

void car_lane_let_go(car_lane_t *lane, int r, uint64_t id)
{
    for (int s = 0; s < CAR_LANE_SETS; ++s) {
        car_set_t *set = &lane->sets[s];
        if (0 != set->id[0] && contains(set, r, id)) {
            car_sets_unmap(set);
            set->let_go = true;
        }
    }
}

bool car_sets_map_again(car_lane_t *lane, car_set_t *set)
{
    if (set->let_go && !car_sets_map(lane, set)) {
        lane->broken = true;
        car_control_break(
            lane->control, CAR_FAULT_DRIVER,
            "a buffer that a rank was about to free came again, and could not be mapped");
        return false;
    }
    return true;
}

void car_sets_use(const car_lane_t *lane, car_call_t *op, const car_set_t *set)
{
    for (int r = 0; r < lane->size; ++r) {
        const car_said_t *theirs = &lane->said[r];
        op->source[r] = set->base[2 * r] + theirs->in.offset;
        op->dest[r] = set->base[2 * r + 1] + theirs->out.offset;
    }
    op->source[lane->rank] = (CUdeviceptr) (uintptr_t) op->input.address;
    op->dest[lane->rank] = (CUdeviceptr) (uintptr_t) op->output.address;
    for (int i = 0; i < 2 * lane->size; ++i) {
        op->held[i] = set->held[i];
        if (NULL != set->held[i]) {
            car_registry_hold_again(set->held[i]);
        }
    }
}

void car_lane_forget_sets(car_lane_t *lane, bool alive)
{
    car_devices_lock();
    for (int s = 0; s < CAR_LANE_SETS && alive; ++s) {
        forget_set(&lane->sets[s]);
    }
    car_devices_unlock();
}
