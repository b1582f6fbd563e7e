/*
 * How the ranks agree on what becomes of a call of a lane: by a record that each posts, and where
 * one round does not do, by its second part. All ranks decide from the same records, in the order
 * of the calls.
 */
#include "car_agree_parts.h"
#include "car_pending.h"
#include "car_sets.h"

/* --- what the records say --------------------------------------------------------------------- */

static bool all_exported(const car_lane_t *lane)
{
    for (int r = 0; r < lane->size; ++r) {
        const car_said_t *theirs = &lane->said[r];
        if (0 == theirs->in.id || 0 == theirs->out.id) {
            return false;
        }
    }
    return true;
}

/*
 * What is zero copy for one kernel of one rank may be quicker still without any launch; but packets
 * come from all ranks or from none.
 */
static bool all_quick(const car_lane_t *lane)
{
    for (int r = 0; r < lane->size; ++r) {
        if (!lane->said[r].quick) {
            return false;
        }
    }
    return true;
}

/* What the ranks bring, from everybody's records. */
static void read_kinds(const car_lane_t *lane, bool *device, bool *context)
{
    *device = false;
    *context = true;
    for (int r = 0; r < lane->size; ++r) {
        const car_said_t *theirs = &lane->said[r];
        *device = *device || theirs->device;
        *context = *context && theirs->context;
    }
}

/* --- decisions -------------------------------------------------------------------------------- */

static bool decided(car_lane_t *lane, car_call_t *op, car_path_t path)
{
    car_agree_count_pause(lane, op);
    /* looked at without the lock: look_for_peers */
    __atomic_store_n(&op->path, path, __ATOMIC_RELAXED);
    if (op->read && op->gone > lane->gone_heard) {
        lane->gone_heard = op->gone;
    }
    lane->undecided = op->next;
    lane->decided = op->number;
    car_agree_tell_settled(lane);
    if (CAR_PATH_NONE != path) {
        car_lane_give_steps(lane, op);
    } else {
        car_lane_end_first(lane, false);
    }
    return true;
}

static car_path_t without_zero_copy(const car_lane_t *lane, const car_call_t *op)
{
    return 0 != op->call && !lane->comm->takes_turns ? CAR_PATH_NONE : CAR_PATH_STAGED;
}

/*
 * What is not mapped yet: a large call repays it at once, and so does one that would take turns on
 * a GPU else.
 */
static bool wants_mapping(const car_lane_t *lane, const car_call_t *op)
{
    return car_call_bytes(op) >= lane->comm->zero_copy_min || lane->comm->takes_turns;
}

typedef enum { ZERO_COPY_NO, ZERO_COPY_YES, ZERO_COPY_WAIT } zero_copy_t;

/*
 * Mapping takes a millisecond: buffers of small calls are mapped when they come for the second
 * time.
 */
static zero_copy_t decide_zero_copy(car_lane_t *lane, car_call_t *op)
{
    bool seen;

    car_devices_lock();
    car_set_t *set = car_sets_find(lane, op, &seen);
    set->last = op->number;
    zero_copy_t answer = set->mapped ? ZERO_COPY_YES : ZERO_COPY_NO;
    if (!set->mapped && set->pause > 0 && !op->second) {
        --set->pause;
    } else if (!set->mapped && (op->second || seen || wants_mapping(lane, op))) {
        if (!op->second) {
            car_agree_say_second(lane, op, car_sets_map(lane, set), 0);
        }
        const int heard = car_agree_heard_second(lane, op);
        answer = heard < 0 ? ZERO_COPY_WAIT : heard > 0 ? ZERO_COPY_YES : ZERO_COPY_NO;
        set->mapped = ZERO_COPY_YES == answer;
        if (ZERO_COPY_NO == answer) {
            car_sets_unmap(set);
            set->pause = CAR_PAUSE;
        }
    }
    if (ZERO_COPY_YES == answer && !car_sets_map_again(lane, set)) {
        answer = ZERO_COPY_WAIT;
    } else if (ZERO_COPY_YES == answer) {
        car_sets_use(lane, op, set);
    }
    car_devices_unlock();
    return answer;
}

/*
 * A rank with device memory in a lane that shares some knows at once what becomes of a call that
 * wants nothing more. Where there is zero copy all ranks read all records, as they keep the same
 * sets.
 */
static bool plain(const car_lane_t *lane, const car_call_t *op)
{
    return NULL != lane->comm && op->device && 0 == op->call && !car_agree_may_be_zero_copy(lane)
           && !car_agree_may_grow(lane, op);
}

static bool decide(car_lane_t *lane)
{
    car_call_t *op = lane->undecided;
    bool device, context;

    if (NULL == op || op->number > lane->entered) {
        return false;
    }
    if (plain(lane, op)) {
        return decided(lane, op, CAR_PATH_STAGED);
    }
    if (op->number > lane->compared || !car_agree_hear(lane, op)) {
        return false;
    }
    read_kinds(lane, &device, &context);
    if (!device) {
        return decided(lane, op, 0 != op->call ? CAR_PATH_NONE : CAR_PATH_HOST);
    }
    if (NULL == lane->comm) {
        const car_attach_t attached = context ? lane->attach(lane, op) : CAR_ATTACH_NEVER;
        lane->off = lane->off || (context && CAR_ATTACH_NEVER == attached);
        if (CAR_ATTACH_DONE != attached) {
            return CAR_ATTACH_NEVER == attached ? decided(lane, op, CAR_PATH_HOST) : false;
        }
    }
    if (car_agree_may_be_zero_copy(lane) && !op->read) {
        car_sets_drop_gone(lane, op);
    }
    if (0 != op->call && all_quick(lane)) {
        op->quick = true;
        return decided(lane, op, CAR_PATH_NONE);
    }
    if (!op->growing && car_agree_may_be_zero_copy(lane) && all_exported(lane)) {
        const zero_copy_t answer = decide_zero_copy(lane, op);
        if (ZERO_COPY_NO != answer) {
            return ZERO_COPY_YES == answer ? decided(lane, op, CAR_PATH_ZERO_COPY) : false;
        }
        if (op->second) {
            /* The second part has been said: there is no other for this call. */
            return decided(lane, op, without_zero_copy(lane, op));
        }
    }
    if (car_agree_may_grow(lane, op) && !car_agree_grow(lane, op)) {
        return false;
    }
    return decided(lane, op, without_zero_copy(lane, op));
}

bool car_lane_agree(car_lane_t *lane)
{
    bool moved = false;

    if (!lane->records) {
        return false;
    }
    while (car_agree_post_next(lane)) {
        moved = true;
    }
    return (lane->compared == lane->entered || car_agree_compare(lane)) && (decide(lane) || moved);
}

uint32_t car_lane_agree_missing(const car_lane_t *lane, const char **phase)
{
    const car_call_t *op = lane->undecided;

    if (!lane->records || NULL == op) {
        return 0;
    }
    if (op->number > lane->compared) {
        *phase = "before all have entered it";
        return car_agree_not_entered(lane, op->number < lane->entered ? op->number : lane->entered);
    }
    if (op->second) {
        *phase = "agreeing on memory";
        return car_agree_second_missing(lane, op);
    }
    *phase = "set-up";
    return NULL == lane->comm ? car_control_exchange_missing(lane->control) : 0;
}
