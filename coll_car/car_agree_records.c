/*
 * The records of a lane's calls: what each rank says of a call and hears of it from all others, in
 * a first part and, where one round does not do, in a second.
 */
#include <string.h>

#include "car_agree_parts.h"
#include "car_check.h"
#include "car_pending.h"

typedef struct {
    car_said_t said;
    car_what_t what;
    /* The second part: */
    _Atomic uint64_t second; /* the call whose second part this is */
    uint64_t offset;         /* of the piece that the rank has taken */
    uint32_t ok;
} record_t;

_Static_assert(sizeof(record_t) <= CAR_LANE_RECORD_BYTES, "a record fits");

static record_t *record_at(const car_lane_t *lane, uint64_t number, int r)
{
    return car_control_lane_record(lane->control, lane->index, number, r);
}

static record_t *record_of(const car_lane_t *lane, const car_call_t *op, int r)
{
    return record_at(lane, op->number, r);
}

/* --- posting ---------------------------------------------------------------------------------- */

static void tell_buffers(car_lane_t *lane, car_call_t *op, car_said_t *mine)
{
    car_comm_t *comm = lane->comm;

    if (!car_comm_usable(comm, &op->input, op->reduction.alignment)
        || !car_comm_usable(comm, &op->output, op->reduction.alignment) || !car_lane_driver(lane)) {
        return;
    }
    car_devices_lock();
    car_registry_export(comm->device, &op->input, &mine->in);
    mine->out = mine->in;
    if (op->output.address != op->input.address) {
        car_registry_export(comm->device, &op->output, &mine->out);
    }
    car_registry_forget_freed(comm->device, mine->in.id, mine->out.id);
    op->gone = lane->gone_heard;
    car_registry_gone(comm->device, &op->gone, mine->gone);
    car_devices_unlock();
    if (0 != mine->in.id && 0 != mine->out.id && !car_lane_settle_for_peers(lane, op)) {
        mine->in.id = 0;
    }
}

static void post(car_lane_t *lane, car_call_t *op)
{
    record_t *record = record_of(lane, op, lane->rank);
    car_said_t *mine = &record->said;

    mine->device = op->device;
    mine->context = NULL != lane->comm || car_cuda_in_use();
    mine->quick =
        0 != op->call && op->device && NULL != lane->comm && !lane->comm->takes_turns
        && car_comm_quick(lane->comm, op->call, &op->input, &op->output, op->count, &op->reduction);
    record->what = lane->what[op->number % CAR_CONTROL_WINDOW] =
        car_what_of(op->count, &op->reduction);
    mine->room = 0;
    mine->in.id = mine->out.id = 0;
    memset(mine->gone, 0, sizeof(mine->gone));
    op->gone = 0;
    op->read = false;
    if (op->device && car_agree_may_be_zero_copy(lane)) {
        tell_buffers(lane, op, mine);
    }
    if (car_agree_may_grow(lane, op)) {
        mine->room = car_agree_room(lane, op);
    }
    mine->exported = 0 != mine->in.id && 0 != mine->out.id;
    lane->entered = op->number;
    atomic_store_explicit(&car_lane_words(lane, lane->rank)->entered, op->number,
                          memory_order_release);
}

/* The place of a record is free again when all ranks have read the one that it had before. */
static bool place_free(const car_lane_t *lane, uint64_t number)
{
    for (int r = 0; r < lane->size && number > CAR_CONTROL_WINDOW; ++r) {
        if (atomic_load_explicit(&car_lane_words(lane, r)->settled, memory_order_acquire)
            < number - CAR_CONTROL_WINDOW) {
            return false;
        }
    }
    return true;
}

bool car_agree_post_next(car_lane_t *lane)
{
    car_call_t *op = lane->undecided;

    while (NULL != op && op->number <= lane->entered) {
        op = op->next;
    }
    if (NULL == op || !place_free(lane, op->number)) {
        return false;
    }
    post(lane, op);
    return true;
}

uint32_t car_agree_not_entered(const car_lane_t *lane, uint64_t number)
{
    uint32_t missing = 0;

    for (int r = 0; r < lane->size; ++r) {
        const uint64_t entered =
            atomic_load_explicit(&car_lane_words(lane, r)->entered, memory_order_acquire);
        missing |= (uint32_t) (entered < number) << r;
    }
    return missing;
}

/* --- comparing -------------------------------------------------------------------------------- */

void car_agree_tell_settled(const car_lane_t *lane)
{
    const uint64_t settled = lane->decided < lane->compared ? lane->decided : lane->compared;

    atomic_store_explicit(&car_lane_words(lane, lane->rank)->settled, settled,
                          memory_order_release);
}

static bool all_the_same(const car_lane_t *lane, uint64_t number)
{
    const car_wait_kind_t kind = CAR_LANE_CALL == lane->index ? CAR_WAIT_CALL : CAR_WAIT_QUEUE;
    const car_what_t mine = lane->what[number % CAR_CONTROL_WINDOW];

    for (int r = 0; r < lane->size; ++r) {
        const car_what_t theirs = record_at(lane, number, r)->what;
        if (!car_watch_agree(lane->control, kind, number, &mine, r, &theirs)) {
            return false;
        }
    }
    return true;
}

bool car_agree_compare(car_lane_t *lane)
{
    const uint64_t before = lane->compared;

    while (lane->compared < lane->entered && 0 == car_agree_not_entered(lane, lane->compared + 1)) {
        if (!all_the_same(lane, lane->compared + 1)) {
            lane->broken = true;
            return false;
        }
        ++lane->compared;
    }
    if (before != lane->compared) {
        car_agree_tell_settled(lane);
    }
    return true;
}

/* --- hearing ---------------------------------------------------------------------------------- */

bool car_agree_damaged(car_lane_t *lane, int r, const char *what)
{
    lane->broken = true;
    return car_control_damaged(lane->control, r, what);
}

bool car_agree_hear(car_lane_t *lane, const car_call_t *op)
{
    for (int r = 0; r < lane->size && op->number != lane->heard; ++r) {
        car_said_t *said = &lane->said[r];
        const car_said_t *theirs = &record_of(lane, op, r)->said;
        /* One line of the cache, and more only where there is more. */
        memcpy(said, theirs, offsetof(car_said_t, in));
        said->in.id = said->out.id = 0;
        if (said->exported) {
            memcpy(&said->in, &theirs->in, sizeof(said->in) + sizeof(said->out));
        }
        const uint64_t bytes = car_call_bytes(op), alignment = op->reduction.alignment;
        const char *wrong = car_check_export(&said->in, bytes, alignment);
        wrong = NULL == wrong ? car_check_export(&said->out, bytes, alignment) : wrong;
        if (NULL != wrong) {
            return car_agree_damaged(lane, r, wrong);
        }
    }
    lane->heard = op->number;
    return true;
}

/* --- the second part -------------------------------------------------------------------------- */

void car_agree_say_second(car_lane_t *lane, car_call_t *op, bool ok, uint64_t offset)
{
    record_t *mine = record_of(lane, op, lane->rank);

    mine->ok = ok;
    mine->offset = offset;
    op->second = true;
    atomic_store_explicit(&mine->second, op->number, memory_order_release);
}

int car_agree_heard_second(car_lane_t *lane, const car_call_t *op)
{
    int all = 1;

    for (int r = 0; r < lane->size; ++r) {
        record_t *record = record_of(lane, op, r);
        if (op->number != atomic_load_explicit(&record->second, memory_order_acquire)) {
            return -1;
        }
        all = all && record->ok;
        lane->piece_said[r] = record->offset;
    }
    return all;
}

uint32_t car_agree_second_missing(const car_lane_t *lane, const car_call_t *op)
{
    uint32_t missing = 0;

    for (int r = 0; r < lane->size; ++r) {
        const uint64_t said =
            atomic_load_explicit(&record_of(lane, op, r)->second, memory_order_acquire);
        missing |= (uint32_t) (op->number != said) << r;
    }
    return missing;
}
