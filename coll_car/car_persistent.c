/*
 * Persistent requests: how all ranks agree on a way to do one, what it takes, and its end. Those by
 * kernels run in car_persistent_kernels.c, the others in a lane.
 */
#include "car_persistent_parts.h"

#include <stdlib.h>
#include <string.h>

#include "car_check.h"
#include "car_grow.h"
#include "car_pending.h"

/* Least staging of a request that goes from phase to phase: four slots of a page. */
#define CAR_STAGING_LEAST ((size_t) 4 * 4096)
#define CAR_STAGING_MOST ((size_t) 4 << 20)

/* --- what the ranks tell each other ----------------------------------------------------------- */

typedef struct {
    uint64_t free_lanes[CAR_LANES / 64];
    uint64_t room;
    int usable; /* kernels can use both buffers where they are */
    uint64_t gone[CAR_GONE_AT_ONCE];
    car_export_t in, out;
} offer_t;

_Static_assert(sizeof(offer_t) <= CAR_RECORD_BYTES, "an offer fits a record");

/* Nobody uses it: every rank has freed what it used it for. */
static bool lane_free(const car_comm_t *comm, int index)
{
    for (int r = 0; r < comm->size; ++r) {
        if (0
            != atomic_load_explicit(&car_control_lane(comm->control, index, r)->used,
                                    memory_order_acquire)
                   % 2) {
            return false;
        }
    }
    return true;
}

/*
 * Pieces of requests that all ranks have freed go back; under the lock. A lane that is offered for
 * the next request is one of `free_lanes`, so what was retired under its number has gone by then.
 */
static void reclaim(car_comm_t *comm, const uint64_t *free_lanes)
{
    for (int i = 0; i < comm->retired_count;) {
        const int index = comm->retired[i].index;
        if (0 != (free_lanes[index / 64] >> index % 64 & 1)) {
            car_arena_give(&comm->device->arena, comm->retired[i].offset);
            comm->retired[i] = comm->retired[--comm->retired_count];
        } else {
            ++i;
        }
    }
}

static size_t bytes_of(const car_persistent_t *p)
{
    return p->call.count * p->call.reduction.element;
}

/* --- by a lane -------------------------------------------------------------------------------- */

static bool map_buffers(car_persistent_t *p, const offer_t *offers)
{
    car_comm_t *comm = p->comm;
    bool mapped = true;

    car_devices_lock();
    for (int r = 0; r < comm->size && mapped; ++r) {
        const car_export_t *told[2] = {&offers[r].in, &offers[r].out};
        CUdeviceptr *address[2] = {&p->call.source[r], &p->call.dest[r]};
        for (int i = 0; i < 2 && mapped; ++i) {
            if (r == comm->rank) {
                *address[i] =
                    (CUdeviceptr) (uintptr_t) (0 == i ? p->call.input : p->call.output).address;
                continue;
            }
            car_import_t **held = &p->call.held[2 * r + i];
            *held = car_comm_hold(comm, r, told[i], address[i]);
            *address[i] += told[i]->offset;
            mapped = NULL != *held;
        }
    }
    car_devices_unlock();
    return mapped;
}

static void release_buffers(car_persistent_t *p)
{
    car_devices_lock();
    for (int i = 0; i < 2 * CAR_MAX_RANKS; ++i) {
        if (NULL != p->call.held[i]) {
            car_registry_release(p->call.held[i]);
            p->call.held[i] = NULL;
        }
    }
    car_devices_unlock();
}

static bool take_staging(car_persistent_t *p, uint64_t bytes)
{
    car_devices_lock();
    const bool taken = bytes >= CAR_STAGING_LEAST
                       && car_arena_take(&p->comm->device->arena, bytes, CAR_ARENA_HIGH, &p->piece);
    car_devices_unlock();
    return taken;
}

static void finish_lane(car_persistent_t *p, uint64_t room, const car_persistent_verdict_t *all)
{
    const car_comm_t *comm = p->comm;

    car_lane_init(&p->lane, p->index, false, comm->control, comm->rank, comm->size, p->comm);
    p->call.path = BY_ZERO_COPY == p->how ? CAR_PATH_ZERO_COPY : CAR_PATH_STAGED;
    p->lane.slot_bytes = room / CAR_LANE_SLOTS / 128 * 128;
    for (int r = 0; r < comm->size; ++r) {
        p->lane.staging[r] = comm->peer[r].memory + all[r].offset;
    }
}

/* --- making one ------------------------------------------------------------------------------- */

static void make_offer(car_persistent_t *p, offer_t *offer)
{
    car_comm_t *comm = p->comm;
    const car_call_t *call = &p->call;
    size_t staging = 4 * bytes_of(p);

    memset(offer, 0, sizeof(*offer));
    offer->usable = car_comm_usable(comm, &call->input, call->reduction.alignment)
                    && car_comm_usable(comm, &call->output, call->reduction.alignment);
    staging = staging < CAR_STAGING_LEAST  ? CAR_STAGING_LEAST
              : staging > CAR_STAGING_MOST ? CAR_STAGING_MOST
                                           : staging;
    for (int i = CAR_LANES_WITH_RECORDS; i < CAR_LANES; ++i) {
        offer->free_lanes[i / 64] |= (uint64_t) lane_free(comm, i) << i % 64;
    }
    car_devices_lock();
    car_pending_reclaim();
    reclaim(comm, offer->free_lanes);
    offer->room = car_grow_offered(comm, CAR_NO_PIECE, staging);
    if (offer->usable) {
        car_registry_export(comm->device, &call->input, &offer->in);
        offer->out = offer->in;
        if (call->output.address != call->input.address) {
            car_registry_export(comm->device, &call->output, &offer->out);
        }
    }
    car_registry_forget_freed(comm->device, offer->in.id, offer->out.id);
    car_registry_gone(comm->device, &comm->gone_told, offer->gone);
    car_devices_unlock();
}

/* Mappings of what peers have freed since they last told. */
static void drop_gone(const car_comm_t *comm, const offer_t *offers)
{
    car_cuda_guard_t guard;
    bool any = false;

    for (int r = 0; r < comm->size; ++r) {
        any = any || (r != comm->rank && 0 != offers[r].gone[0]);
    }
    if (!any || CUDA_SUCCESS != car_cuda_enter(comm->device->cuda, comm->device->context, &guard)) {
        return;
    }
    car_devices_lock();
    for (int r = 0; r < comm->size; ++r) {
        if (r != comm->rank) {
            car_registry_drop(comm->device, &comm->peer[r].arena, offers[r].gone);
        }
    }
    car_devices_unlock();
    car_cuda_leave(comm->device->cuda, &guard);
}

/* What all ranks find from everybody's offers. */
typedef struct {
    int index; /* of a lane that is free on all; -1: none */
    uint64_t room;
    bool usable, exported;
} agreed_t;

static agreed_t read_offers(const car_persistent_t *p, const offer_t *offers)
{
    agreed_t a = {.index = -1, .room = UINT64_MAX, .usable = true, .exported = true};

    for (int i = CAR_LANES - 1; i >= CAR_LANES_WITH_RECORDS; --i) {
        bool free_on_all = true;
        for (int r = 0; r < p->comm->size; ++r) {
            free_on_all = free_on_all && 0 != (offers[r].free_lanes[i / 64] >> i % 64 & 1);
        }
        a.index = free_on_all ? i : a.index;
    }
    for (int r = 0; r < p->comm->size; ++r) {
        a.room = offers[r].room < a.room ? offers[r].room : a.room;
        a.usable = a.usable && offers[r].usable;
        a.exported = a.exported && 0 != offers[r].in.id && 0 != offers[r].out.id;
    }
    return a;
}

/* The ways of doing it, the best first. */
static car_persistent_how_t first_way(const car_persistent_t *p, const agreed_t *a)
{
    const car_comm_t *comm = p->comm;
    const bool kernels = a->usable && !comm->takes_turns;
    const car_plan_t plan = car_plan_make(&comm->limits, p->call.count, p->call.reduction.element,
                                          p->call.reduction.unit);

    if (a->index < 0) {
        return BY_NONE;
    }
    const bool small = bytes_of(p) < comm->zero_copy_again;
    const bool forced = CAR_ALGORITHM_AUTO != comm->limits.algorithm;
    if (kernels && (forced || (small && CAR_ONE_SHOT_PUSH == plan.algorithm))) {
        return BY_KERNELS;
    }
    return a->exported && 0 != comm->zero_copy_min ? BY_ZERO_COPY
           : kernels                               ? BY_KERNELS
                                                   : BY_STAGING;
}

static car_persistent_how_t next_way(const car_persistent_t *p, const agreed_t *a)
{
    switch (p->how) {
    case BY_ZERO_COPY:
        return a->usable && !p->comm->takes_turns ? BY_KERNELS : BY_STAGING;
    case BY_KERNELS:
        return BY_STAGING;
    default:
        return BY_NONE;
    }
}

static void close_stream(car_persistent_t *p)
{
    const car_cuda_t *cuda = p->comm->device->cuda;
    car_cuda_guard_t guard;

    if (CUDA_SUCCESS != car_cuda_enter(cuda, p->comm->device->context, &guard)) {
        p->comm->stuck = true;
        return;
    }
    car_graph_destroy(cuda, &p->graph);
    p->comm->stuck = !car_cuda_drain(cuda, p->branch.stream) || p->comm->stuck;
    (void) cuda->StreamDestroy(p->branch.stream);
    car_cuda_leave(cuda, &guard);
}

/*
 * Gives back what a way has taken; the piece at once where no peer has learned of it, else when all
 * have freed theirs. What is stuck is not given back.
 */
static void undo(car_persistent_t *p, bool alive, bool known)
{
    car_comm_t *comm = p->comm;

    if (BY_KERNELS == p->how && alive && NULL != p->branch.stream) {
        close_stream(p);
    }
    p->branch.stream = NULL;
    if (BY_KERNELS != p->how && known) {
        car_lane_close(&p->lane, alive);
    }
    if (BY_ZERO_COPY == p->how && !comm->stuck) {
        release_buffers(p);
    }
    car_devices_lock();
    if (BY_KERNELS == p->how && p->branch.word >= 0 && !comm->stuck) {
        car_device_give_word(comm->device, p->branch.word);
    }
    p->branch.word = -1;
    if (CAR_NO_PIECE != p->piece && !comm->stuck) {
        if (known) {
            car_comm_retire(comm, p->index, p->piece);
        } else {
            car_arena_give(&comm->device->arena, p->piece);
        }
    }
    p->piece = CAR_NO_PIECE;
    car_devices_unlock();
}

static bool prepare(car_persistent_t *p, const agreed_t *a, const offer_t *offers)
{
    car_cuda_guard_t guard;
    const car_cuda_t *cuda = p->comm->device->cuda;
    bool ready;

    if (CUDA_SUCCESS != car_cuda_enter(cuda, p->comm->device->context, &guard)) {
        return false;
    }
    ready = BY_KERNELS == p->how     ? car_persistent_prepare_kernels(p)
            : BY_ZERO_COPY == p->how ? map_buffers(p, offers)
                                     : take_staging(p, a->room);
    car_cuda_leave(cuda, &guard);
    return ready;
}

/* The lane's counters, before any rank may read them for this request. */
static void use_lane(car_persistent_t *p)
{
    car_lane_words_t *mine = car_persistent_words(p, p->comm->rank);

    atomic_store_explicit(&mine->entered, 0, memory_order_relaxed);
    atomic_store_explicit(&mine->staged, 0, memory_order_relaxed);
    atomic_store_explicit(&mine->reduced, 0, memory_order_relaxed);
    atomic_store_explicit(&mine->done, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&mine->used, 1, memory_order_release);
}

/* The lane is free for another request once all ranks have said so. */
static void leave_lane(car_persistent_t *p)
{
    if (!p->comm->stuck) {
        atomic_fetch_add_explicit(&car_persistent_words(p, p->comm->rank)->used, 1,
                                  memory_order_release);
    }
}

/* Whether what the ranks have said can be. False: broken. */
static bool offers_sane(const car_persistent_t *p, const offer_t *offers)
{
    const uint64_t bytes = bytes_of(p), alignment = p->call.reduction.alignment;

    for (int r = 0; r < p->comm->size; ++r) {
        const char *wrong = car_check_export(&offers[r].in, bytes, alignment);
        wrong = NULL == wrong ? car_check_export(&offers[r].out, bytes, alignment) : wrong;
        if (NULL != wrong) {
            return car_control_damaged(p->comm->control, r, wrong);
        }
    }
    return true;
}

static bool pieces_sane(const car_persistent_t *p, const agreed_t *a,
                        const car_persistent_verdict_t *all)
{
    const uint64_t bytes = BY_KERNELS == p->how   ? p->branch.piece_bytes
                           : BY_STAGING == p->how ? a->room
                                                  : 0;

    for (int r = 0; r < p->comm->size; ++r) {
        const char *wrong = car_check_piece(all[r].offset, bytes, p->comm->peer[r].arena_bytes);
        if (NULL != wrong) {
            return car_control_damaged(p->comm->control, r, wrong);
        }
    }
    return true;
}

/*
 * Tries the ways one after the other until all ranks have one; false if the communicator has
 * broken.
 */
static bool find_way(car_persistent_t *p, const agreed_t *a, const offer_t *offers)
{
    car_comm_t *comm = p->comm;
    car_persistent_verdict_t mine, all[CAR_MAX_RANKS];

    for (p->how = first_way(p, a); BY_NONE != p->how; p->how = next_way(p, a)) {
        mine.ok = prepare(p, a, offers);
        mine.offset = CAR_NO_PIECE == p->piece ? 0 : p->piece;
        if (!car_watch_exchange(comm->control, &mine, sizeof(mine), all, comm->progress,
                                "MPI_Allreduce_init")) {
            /* Some rank may have heard of the piece. */
            undo(p, true, true);
            return false;
        }
        bool ok = true;
        for (int r = 0; r < comm->size; ++r) {
            ok = ok && all[r].ok;
        }
        if (ok && !pieces_sane(p, a, all)) {
            undo(p, true, true);
            return false;
        }
        if (ok) {
            if (BY_KERNELS == p->how) {
                car_persistent_finish_kernels(p, all);
            } else {
                finish_lane(p, a->room, all);
            }
            return true;
        }
        undo(p, true, false);
    }
    return true;
}

car_persistent_t *car_persistent_create(car_comm_t *comm, const car_call_t *call)
{
    car_persistent_t *p = calloc(1, sizeof(*p));
    unsigned char no_memory = NULL == p, any[CAR_MAX_RANKS];
    offer_t mine, offers[CAR_MAX_RANKS];

    if (car_device_lost(comm->device)) {
        car_comm_broken(comm, "the CUDA context was destroyed or reset",
                        CUDA_ERROR_CONTEXT_IS_DESTROYED);
    }
    /* Without memory on one rank there is no request on any. */
    bool together =
        car_watch_exchange(comm->control, &no_memory, 1, any, comm->progress, "MPI_Allreduce_init");
    for (int r = 0; r < comm->size && together; ++r) {
        no_memory |= any[r];
    }
    if (NULL == p || !together || no_memory) {
        free(p);
        return NULL;
    }
    p->comm = comm;
    p->call = *call;
    p->piece = CAR_NO_PIECE;
    p->branch.word = -1;
    make_offer(p, &mine);
    together = car_watch_exchange(comm->control, &mine, sizeof(mine), offers, comm->progress,
                                  "MPI_Allreduce_init")
               && offers_sane(p, offers);
    if (together) {
        const agreed_t agreed = read_offers(p, offers);
        drop_gone(comm, offers);
        p->index = agreed.index;
        if (p->index >= 0) {
            use_lane(p);
        }
        together = find_way(p, &agreed, offers);
        if (p->index >= 0 && (!together || BY_NONE == p->how)) {
            leave_lane(p);
        }
    }
    if (!together || BY_NONE == p->how) {
        free(p);
        return NULL;
    }
    return p;
}

/* --- its life --------------------------------------------------------------------------------- */

void car_persistent_start(car_persistent_t *p)
{
    ++p->starts;
    p->watch = (car_watch_t){0};
    if (BY_KERNELS == p->how && (p->failed || car_control_broken(p->comm->control) >= 0)) {
        p->state = LEFT; /* nothing is under way */
    } else if (BY_KERNELS == p->how) {
        atomic_store_explicit(&car_persistent_words(p, p->comm->rank)->entered, p->starts,
                              memory_order_release);
        car_persistent_start_kernels(p);
    } else {
        car_lane_enter(&p->lane, &p->call);
        (void) car_lane_poll(&p->lane);
    }
}

bool car_persistent_poll(car_persistent_t *p, bool *failed)
{
    bool ended;

    if (BY_KERNELS == p->how) {
        p->failed = p->failed || car_control_broken(p->comm->control) >= 0;
        if (!p->failed && car_device_lost(p->comm->device)) {
            /* Its word is gone. */
            (void) car_persistent_broken(p, "the CUDA context was destroyed or reset",
                                         CUDA_ERROR_CONTEXT_IS_DESTROYED);
        }
        ended = p->failed ? LEFT == p->state
                                || car_comm_drained(&p->branch, p->branch.stream, &p->draining_ns)
                          : car_persistent_poll_kernels(p);
    } else {
        (void) car_lane_poll(&p->lane);
        ended = p->call.ended;
        if (ended) {
            p->lane.ended = NULL;
            p->failed = p->call.failed;
        }
    }
    *failed = p->failed;
    return ended;
}

const car_call_t *car_persistent_call(const car_persistent_t *p)
{
    return &p->call;
}

void car_persistent_destroy(car_persistent_t *p, bool alive)
{
    undo(p, alive && !car_device_lost(p->comm->device), true);
    leave_lane(p);
    free(p);
}
