/*
 * How the ranks agree on what becomes of a call of a lane: by a record that each posts, and where
 * one round does not do, by its second part. All ranks decide from the same records, in the order
 * of the calls.
 */
#include <string.h>

#include "car_check.h"
#include "car_grow.h"
#include "car_lane_parts.h"
#include "car_pending.h"
#include "car_sets.h"

/* A step that is larger gains nothing: it takes many times what its launches cost. */
#define CAR_SLOT_MOST ((size_t) 4 << 20)
#define CAR_SLOT_LEAST                                                                             \
    ((size_t) 256 << 10) /* two are more than a first piece, so that they count as grown */

/* Calls that go without after something has been refused. */
#define CAR_PAUSE 64

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

static uint64_t bytes_of(const car_call_t *op)
{
    return op->count * op->reduction.element;
}

/* --- what a call may want: the same on all ranks, when it is the next to be decided ----------- */

static bool may_be_zero_copy(const car_lane_t *lane)
{
    return NULL != lane->comm && 0 != lane->comm->zero_copy_min;
}

static size_t slot_wanted(const car_call_t *op)
{
    size_t slot = CAR_SLOT_LEAST;

    while (slot < CAR_SLOT_MOST && slot < bytes_of(op)) {
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

static bool may_grow(const car_lane_t *lane, const car_call_t *op)
{
    return NULL != lane->comm && CAR_LANE_QUEUE == lane->index && bytes_of(op) > lane->slot_bytes
           && slot_wanted(op) > lane->slot_bytes && 0 == lane->grow_pause;
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

static uint64_t room_for(const car_lane_t *lane, const car_call_t *op)
{
    car_devices_lock();
    car_pending_reclaim();
    const uint64_t room = car_grow_offered(lane->comm, lane->piece_offset, piece_wanted(op));
    car_devices_unlock();
    return room;
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
    if (op->device && may_be_zero_copy(lane)) {
        tell_buffers(lane, op, mine);
    }
    if (may_grow(lane, op)) {
        mine->room = room_for(lane, op);
    }
    mine->exported = 0 != mine->in.id && 0 != mine->out.id;
    lane->entered = op->number;
    atomic_store_explicit(&car_control_lane(lane->control, lane->index, lane->rank)->entered,
                          op->number, memory_order_release);
}

/* The place of a record is free again when all ranks have read the one that it had before. */
static bool place_free(const car_lane_t *lane, uint64_t number)
{
    for (int r = 0; r < lane->size && number > CAR_CONTROL_WINDOW; ++r) {
        if (atomic_load_explicit(&car_control_lane(lane->control, lane->index, r)->settled,
                                 memory_order_acquire)
            < number - CAR_CONTROL_WINDOW) {
            return false;
        }
    }
    return true;
}

static bool post_next(car_lane_t *lane)
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

/* The ranks that have not entered it. */
static uint32_t not_entered(const car_lane_t *lane, uint64_t number)
{
    uint32_t missing = 0;

    for (int r = 0; r < lane->size; ++r) {
        const uint64_t entered = atomic_load_explicit(
            &car_control_lane(lane->control, lane->index, r)->entered, memory_order_acquire);
        missing |= (uint32_t) (entered < number) << r;
    }
    return missing;
}

/* --- comparing -------------------------------------------------------------------------------- */

static void tell_settled(const car_lane_t *lane)
{
    const uint64_t settled = lane->decided < lane->compared ? lane->decided : lane->compared;

    atomic_store_explicit(&car_control_lane(lane->control, lane->index, lane->rank)->settled,
                          settled, memory_order_release);
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

/*
 * Whether all ranks have made the same calls, as far as all have entered them; decisions may have
 * come before, where they needed no records. False: they have not, and the communicator is broken.
 */
static bool compare(car_lane_t *lane)
{
    const uint64_t before = lane->compared;

    while (lane->compared < lane->entered && 0 == not_entered(lane, lane->compared + 1)) {
        if (!all_the_same(lane, lane->compared + 1)) {
            lane->broken = true;
            return false;
        }
        ++lane->compared;
    }
    if (before != lane->compared) {
        tell_settled(lane);
    }
    return true;
}

/* --- hearing ---------------------------------------------------------------------------------- */

static bool damaged(car_lane_t *lane, int r, const char *what)
{
    lane->broken = true;
    return car_control_damaged(lane->control, r, what);
}

/* Copies everybody's record, and looks at the copies: they are what is used. False: broken. */
static bool hear(car_lane_t *lane, const car_call_t *op)
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
        const char *wrong = car_check_export(&said->in, bytes_of(op), op->reduction.alignment);
        wrong = NULL == wrong ? car_check_export(&said->out, bytes_of(op), op->reduction.alignment)
                              : wrong;
        if (NULL != wrong) {
            return damaged(lane, r, wrong);
        }
    }
    lane->heard = op->number;
    return true;
}

/* --- the second part -------------------------------------------------------------------------- */

static void say_second(car_lane_t *lane, car_call_t *op, bool ok, uint64_t offset)
{
    record_t *mine = record_of(lane, op, lane->rank);

    mine->ok = ok;
    mine->offset = offset;
    op->second = true;
    atomic_store_explicit(&mine->second, op->number, memory_order_release);
}

/* 1: all ranks have said yes; 0: one has said no; -1: one has not said anything yet. */
static int heard_second(car_lane_t *lane, const car_call_t *op)
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

/* --- a larger piece for the queue ------------------------------------------------------------- */

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
    say_second(lane, op, taken, offset);
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
            return damaged(lane, r, wrong);
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

/* --- decisions -------------------------------------------------------------------------------- */

/*
 * The same on all ranks for the same call: pauses are counted in calls that would have liked
 * something.
 */
static void count_pauses(car_lane_t *lane, const car_call_t *op)
{
    if (NULL == lane->comm) {
        return;
    }
    lane->grow_pause -= lane->grow_pause > 0 && bytes_of(op) > lane->slot_bytes ? 1 : 0;
}

static bool decided(car_lane_t *lane, car_call_t *op, car_path_t path)
{
    count_pauses(lane, op);
    /* looked at without the lock: look_for_peers */
    __atomic_store_n(&op->path, path, __ATOMIC_RELAXED);
    if (op->read && op->gone > lane->gone_heard) {
        lane->gone_heard = op->gone;
    }
    lane->undecided = op->next;
    lane->decided = op->number;
    tell_settled(lane);
    if (CAR_PATH_NONE != path) {
        car_lane_give_steps(lane, op);
    } else {
        car_lane_end_first(lane, false);
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

static car_path_t without_zero_copy(const car_lane_t *lane, const car_call_t *op)
{
    return 0 != op->call && !lane->comm->takes_turns ? CAR_PATH_NONE : CAR_PATH_STAGED;
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

/*
 * What is not mapped yet: a large call repays it at once, and so does one that would take turns on
 * a GPU else.
 */
static bool wants_mapping(const car_lane_t *lane, const car_call_t *op)
{
    return bytes_of(op) >= lane->comm->zero_copy_min || lane->comm->takes_turns;
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
            say_second(lane, op, car_sets_map(lane, set), 0);
        }
        const int heard = heard_second(lane, op);
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

static bool decide_growth(car_lane_t *lane, car_call_t *op, uint64_t room)
{
    if (!op->second) {
        take_piece(lane, op, room);
    }
    const int heard = heard_second(lane, op);
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
    return decided(lane, op, CAR_PATH_STAGED);
}

/*
 * A rank with device memory in a lane that shares some knows at once what becomes of a call that
 * wants nothing more. Where there is zero copy all ranks read all records, as they keep the same
 * sets.
 */
static bool plain(const car_lane_t *lane, const car_call_t *op)
{
    return NULL != lane->comm && op->device && 0 == op->call && !may_be_zero_copy(lane)
           && !may_grow(lane, op);
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
    if (op->number > lane->compared || !hear(lane, op)) {
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
    if (may_be_zero_copy(lane) && !op->read) {
        car_sets_drop_gone(lane, op);
    }
    if (0 != op->call && all_quick(lane)) {
        op->quick = true;
        return decided(lane, op, CAR_PATH_NONE);
    }
    if (!op->growing && may_be_zero_copy(lane) && all_exported(lane)) {
        const zero_copy_t answer = decide_zero_copy(lane, op);
        if (ZERO_COPY_NO != answer) {
            return ZERO_COPY_YES == answer ? decided(lane, op, CAR_PATH_ZERO_COPY) : false;
        }
        if (op->second) {
            /* The second part has been said: there is no other for this call. */
            return decided(lane, op, without_zero_copy(lane, op));
        }
    }
    if (may_grow(lane, op)) {
        const uint64_t room = least_room(lane);
        if (slot_in(room) > lane->slot_bytes) {
            return decide_growth(lane, op, room);
        }
        lane->grow_pause = CAR_PAUSE + 1;
    }
    return decided(lane, op, without_zero_copy(lane, op));
}

bool car_lane_agree(car_lane_t *lane)
{
    bool moved = false;

    if (!lane->records) {
        return false;
    }
    while (post_next(lane)) {
        moved = true;
    }
    return (lane->compared == lane->entered || compare(lane)) && (decide(lane) || moved);
}

static uint32_t second_missing(const car_lane_t *lane, const car_call_t *op)
{
    uint32_t missing = 0;

    for (int r = 0; r < lane->size; ++r) {
        const uint64_t said =
            atomic_load_explicit(&record_of(lane, op, r)->second, memory_order_acquire);
        missing |= (uint32_t) (op->number != said) << r;
    }
    return missing;
}

uint32_t car_lane_agree_missing(const car_lane_t *lane, const char **phase)
{
    const car_call_t *op = lane->undecided;

    if (!lane->records || NULL == op) {
        return 0;
    }
    if (op->number > lane->compared) {
        *phase = "before all have entered it";
        return not_entered(lane, op->number < lane->entered ? op->number : lane->entered);
    }
    if (op->second) {
        *phase = "agreeing on memory";
        return second_missing(lane, op);
    }
    *phase = "set-up";
    return NULL == lane->comm ? car_control_exchange_missing(lane->control) : 0;
}
