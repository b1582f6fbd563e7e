/*
 * The records of a lane's calls: what each rank says of a call and hears of it from all others, in
 * a first part and, where one round does not do, in a second.
 */
#include <stddef.h>
#include <string.h>

#include "car_agree_parts.h"
#include "car_check.h"
#include "car_pending.h"
#include "car_sets.h"

/* What a rank says of itself and its buffers. */
enum {
    SAID_DEVICE = 1,  /* they are not host memory */
    SAID_CONTEXT = 2, /* it has a CUDA context */
    SAID_QUICK = 4,   /* car_said_t.quick */
    SAID_GONE = 8     /* allocations are gone */
};

/*
 * Ranks that call at the same time read each other's records out of each other's caches, a line at
 * a time: so the first line has all that a call takes whose buffers have come before, and what
 * stands in the others from the call that had the place before is not written again.
 */
typedef struct {
    _Alignas(64) _Atomic uint64_t number; /* the call whose record this is: stored last */
    car_what_t what;
    uint32_t flags, unused;
    uint64_t in, in_offset, out, out_offset; /* id and offset as in car_export_t; or both ids 0 */

    uint64_t room;                   /* of a call that may grow */
    uint64_t gone[CAR_GONE_AT_ONCE]; /* SAID_GONE */
    uint64_t in_bytes, out_bytes;    /* and the rest of these, where there are ids */
    CUipcMemHandle in_handle, out_handle;

    /* The second part: */
    _Atomic uint64_t second; /* the call whose second part this is */
    uint64_t offset;         /* of the piece that the rank has taken */
    uint32_t ok;
} record_t;

_Static_assert(sizeof(record_t) <= CAR_LANE_RECORD_BYTES, "a record fits");
_Static_assert(64 == offsetof(record_t, room), "the first line is the first line");

static record_t *record_at(const car_lane_t *lane, uint64_t number, int r)
{
    return car_control_lane_record(lane->control, lane->index, number, r);
}

static record_t *record_of(const car_lane_t *lane, const car_call_t *op, int r)
{
    return record_at(lane, op->number, r);
}

/* --- posting ---------------------------------------------------------------------------------- */

/*
 * Says how peers may use the buffers, where they may, and what of this rank's memory is gone;
 * SAID_GONE or nothing.
 */
static uint32_t tell_buffers(car_lane_t *lane, car_call_t *op, record_t *record)
{
    car_comm_t *comm = lane->comm;
    car_posted_t *posted = &lane->posted[op->number % CAR_CONTROL_WINDOW];
    car_export_t in, out;
    uint64_t gone[CAR_GONE_AT_ONCE];

    if (!car_comm_usable(comm, &op->input, op->reduction.alignment)
        || !car_comm_usable(comm, &op->output, op->reduction.alignment) || !car_lane_driver(lane)) {
        return 0;
    }
    car_devices_lock();
    car_registry_export(comm->device, &op->input, &in);
    if (op->output.address != op->input.address) {
        car_registry_export(comm->device, &op->output, &out);
    } else {
        out = in;
    }
    car_registry_forget_freed(comm->device, in.id, out.id);
    op->gone = lane->gone_heard;
    car_registry_gone(comm->device, &op->gone, gone);
    car_devices_unlock();
    const uint32_t gone_flag = 0 != gone[0] ? SAID_GONE : 0;
    if (0 != gone_flag) {
        memcpy(record->gone, gone, sizeof(gone));
    }
    if (0 == in.id || 0 == out.id || !car_lane_settle_for_peers(lane, op)) {
        return gone_flag;
    }
    record->in = in.id;
    record->in_offset = in.offset;
    record->out = out.id;
    record->out_offset = out.offset;
    if (posted->in != in.id || posted->out != out.id) {
        record->in_bytes = in.bytes;
        record->in_handle = in.handle;
        record->out_bytes = out.bytes;
        record->out_handle = out.handle;
        posted->in = in.id;
        posted->out = out.id;
    }
    return gone_flag;
}

static bool quick(const car_lane_t *lane, const car_call_t *op)
{
    return 0 != op->call && op->device && NULL != lane->comm && !lane->comm->takes_turns
           && car_comm_quick(lane->comm, op->call, &op->input, &op->output, op->count,
                             &op->reduction);
}

static void post(car_lane_t *lane, car_call_t *op)
{
    record_t *record = record_of(lane, op, lane->rank);
    car_posted_t *posted = &lane->posted[op->number % CAR_CONTROL_WINDOW];
    uint32_t flags = (op->device ? SAID_DEVICE : 0) | (quick(lane, op) ? SAID_QUICK : 0)
                     | (NULL != lane->comm || car_cuda_in_use() ? SAID_CONTEXT : 0);

    record->what = lane->what[op->number % CAR_CONTROL_WINDOW] =
        car_what_of(op->count, &op->reduction);
    record->in = record->out = 0;
    op->gone = 0;
    op->read = false;
    if (op->device && car_agree_may_be_zero_copy(lane)) {
        flags |= tell_buffers(lane, op, record);
    }
    const uint64_t room = car_agree_may_grow(lane, op) ? car_agree_room(lane, op) : 0;
    if (posted->room != room) {
        record->room = posted->room = room;
    }
    record->flags = flags;
    lane->entered = op->number;
    atomic_store_explicit(&record->number, op->number, memory_order_release);
}

/* The place of a record is free again when all ranks have read the one that it had before. */
static bool place_free(car_lane_t *lane, uint64_t number)
{
    return number <= CAR_CONTROL_WINDOW || car_lane_all_settled(lane, number - CAR_CONTROL_WINDOW);
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
        const uint64_t theirs =
            atomic_load_explicit(&record_at(lane, number, r)->number, memory_order_acquire);
        missing |= (uint32_t) (theirs != number) << r;
    }
    return missing;
}

/* --- comparing -------------------------------------------------------------------------------- */

void car_agree_tell_settled(car_lane_t *lane)
{
    const uint64_t settled = lane->decided < lane->compared ? lane->decided : lane->compared;

    if (lane->settled != settled) {
        lane->settled = settled;
        atomic_store_explicit(&car_lane_words(lane, lane->rank)->settled, settled,
                              memory_order_release);
    }
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

void car_agree_hear_handles(car_lane_t *lane)
{
    for (int r = 0; r < lane->size; ++r) {
        car_said_t *said = &lane->said[r];
        const record_t *theirs = record_at(lane, lane->heard, r);
        if (0 != said->in.id) {
            said->in.handle = theirs->in_handle;
            said->out.handle = theirs->out_handle;
        }
    }
    lane->handles_heard = true;
}

static void hear_bytes(car_lane_t *lane)
{
    for (int r = 0; r < lane->size; ++r) {
        car_said_t *said = &lane->said[r];
        const record_t *theirs = record_at(lane, lane->heard, r);
        if (0 != said->in.id) {
            said->in.bytes = theirs->in_bytes;
            said->out.bytes = theirs->out_bytes;
        }
    }
}

static void hear_one(car_lane_t *lane, const car_call_t *op, int r)
{
    car_said_t *said = &lane->said[r];
    const record_t *theirs = record_of(lane, op, r);
    const uint32_t flags = theirs->flags;

    said->device = 0 != (flags & SAID_DEVICE);
    said->context = 0 != (flags & SAID_CONTEXT);
    said->quick = 0 != (flags & SAID_QUICK);
    said->in.id = theirs->in;
    said->in.offset = theirs->in_offset;
    said->out.id = theirs->out;
    said->out.offset = theirs->out_offset;
    said->gone[0] = 0;
    if (0 != (flags & SAID_GONE)) {
        memcpy(said->gone, theirs->gone, sizeof(said->gone));
    }
    if (car_agree_may_grow(lane, op)) {
        said->room = theirs->room;
    }
}

bool car_agree_hear(car_lane_t *lane, const car_call_t *op)
{
    const uint64_t bytes = car_call_bytes(op), alignment = op->reduction.alignment;

    if (op->number == lane->heard) {
        return true;
    }
    for (int r = 0; r < lane->size; ++r) {
        hear_one(lane, op, r);
    }
    lane->heard = op->number;
    lane->handles_heard = false;
    if (!car_sets_recall(lane)) {
        hear_bytes(lane);
        car_agree_hear_handles(lane);
    }
    for (int r = 0; r < lane->size; ++r) {
        const car_said_t *said = &lane->said[r];
        const char *wrong = car_check_export(&said->in, bytes, alignment);
        wrong = NULL == wrong ? car_check_export(&said->out, bytes, alignment) : wrong;
        if (NULL != wrong) {
            return car_agree_damaged(lane, r, wrong);
        }
    }
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
