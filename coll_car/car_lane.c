/*
 * What moves a lane: a call's agreement (car_agree.c), then its steps (car_step.c), until it ends.
 */
#include "car_lane.h"

#include <string.h>

#include "car_clock.h"
#include "car_lane_parts.h"
#include "car_pending.h"

/* How often a lane that waits for a kernel asks the driver whether that has failed. */
#define CAR_LOOK_POLLS 64
#define CAR_LOOK_NS 1000000

/* Polls of a call that is waited for between two calls of the progress function. */
#define CAR_PROGRESS_POLLS 16

void car_lane_init(car_lane_t *lane, int index, bool records, car_control_t *control, int rank,
                   int size, car_comm_t *comm)
{
    memset(lane, 0, sizeof(*lane));
    lane->index = index;
    lane->records = records;
    lane->control = control;
    lane->rank = rank;
    lane->size = size;
    lane->comm = comm;
    lane->word = -1;
    lane->piece_offset = lane->piece_new = CAR_NO_PIECE;
    lane->stage_next = lane->reduce_next = lane->gather_next = 1;
}

void car_lane_use_home(car_lane_t *lane)
{
    for (int r = 0; r < lane->size; ++r) {
        lane->staging[r] =
            lane->comm->home[r] + lane->comm->queue_offset + CAR_LANES * sizeof(uint32_t);
    }
    lane->slot_bytes = lane->comm->queue_slot;
    lane->shares = false;
}

bool car_lane_use_piece(car_lane_t *lane, uint64_t bytes)
{
    car_comm_t *comm = lane->comm;

    if (bytes > comm->limits.layout.staging_slot / 2 && comm->piece_bytes < CAR_PIECE_MAX) {
        const uint64_t wanted = 8 * bytes < CAR_PIECE_MAX ? 8 * bytes : CAR_PIECE_MAX;
        if (!car_lane_driver(lane)) {
            return false;
        }
        lane->broken = wanted > comm->piece_bytes && !car_comm_grow(comm, wanted);
        car_lane_leave(lane);
        if (lane->broken) {
            return false;
        }
    }
    for (int r = 0; r < lane->size; ++r) {
        lane->staging[r] = comm->peer[r].piece + comm->limits.layout.staging_offset;
    }
    lane->slot_bytes = comm->limits.layout.staging_slot / 2 / 128 * 128;
    return true;
}

void car_lane_enter(car_lane_t *lane, car_call_t *op)
{
    op->next = NULL;
    op->number = ++lane->calls;
    op->ended = op->failed = op->second = op->growing = op->copied = op->quick = false;
    op->device = CAR_MEMORY_HOST != op->input.memory || CAR_MEMORY_HOST != op->output.memory;
    if (NULL == lane->first) {
        lane->first = op;
    } else {
        lane->last->next = op;
    }
    lane->last = op;
    op->settled = false;
    if (lane->records) {
        op->path = CAR_PATH_UNDECIDED;
        memset(op->held, 0, sizeof(op->held));
        lane->undecided = NULL == lane->undecided ? op : lane->undecided;
    } else {
        car_lane_give_steps(lane, op);
    }
}

/* --- the driver ------------------------------------------------------------------------------- */

bool car_lane_broken(car_lane_t *lane, const char *what, CUresult result)
{
    if (!lane->broken) {
        lane->broken = true;
        car_comm_broken(lane->comm, what, result);
    }
    return false;
}

static CUresult make_stream(car_lane_t *lane)
{
    car_device_t *device = lane->comm->device;

    car_devices_lock();
    lane->word = car_device_take_word(device);
    car_devices_unlock();
    return lane->word < 0 ? CUDA_ERROR_OUT_OF_MEMORY
                          : device->cuda->StreamCreateWithPriority(
                              &lane->stream, CU_STREAM_NON_BLOCKING, device->priority);
}

bool car_lane_driver(car_lane_t *lane)
{
    const car_comm_t *comm = lane->comm;
    CUresult result;

    if (!lane->inside) {
        if (car_device_lost(comm->device)) {
            return car_lane_broken(lane, "the CUDA context was destroyed or reset",
                                   CUDA_ERROR_CONTEXT_IS_DESTROYED);
        }
        result = car_cuda_enter(comm->device->cuda, comm->device->context, &lane->guard);
        if (CUDA_SUCCESS != result) {
            return car_lane_broken(lane, "making the communicator's context current", result);
        }
        lane->inside = true;
    }
    if (NULL == lane->stream && CUDA_SUCCESS != (result = make_stream(lane))) {
        return car_lane_broken(lane, "creating a stream", result);
    }
    return true;
}

void car_lane_leave(car_lane_t *lane)
{
    if (lane->inside) {
        car_cuda_leave(lane->comm->device->cuda, &lane->guard);
        lane->inside = false;
    }
}

/* While a call waits, for its kernel or for others: what the next launch will need. */
static void prepare(car_lane_t *lane)
{
    if (NULL != lane->first && car_launch_wants_preparing(&lane->foreseen)
        && car_lane_driver(lane)) {
        car_launch_prepare(lane->comm->device->cuda, &lane->foreseen);
    }
}

/* Now and then, while kernels are under way: whether the driver has something to say. */
static void look(car_lane_t *lane)
{
    if (0 != ++lane->polls % CAR_LOOK_POLLS || car_lane_reached(lane, lane->ticket)) {
        return;
    }
    const uint64_t now = car_now();
    if (now - lane->looked_ns < CAR_LOOK_NS || !car_lane_driver(lane)) {
        return;
    }
    lane->looked_ns = now;
    const CUresult result = lane->comm->device->cuda->StreamQuery(lane->stream);
    if (CUDA_SUCCESS != result && CUDA_ERROR_NOT_READY != result) {
        (void) car_lane_broken(lane, "a kernel of an allreduce failed", result);
    }
}

bool car_lane_reached(const car_lane_t *lane, uint32_t ticket)
{
    if (0 == ticket || NULL == lane->stream) {
        return true;
    }
    const uint32_t reached = (uint32_t) (lane->comm->device->host_words[lane->word].word[0] >> 32);
    if ((int32_t) (reached - ticket) < 0) {
        return false;
    }
    atomic_thread_fence(memory_order_acquire);
    return true;
}

/* --- ends ------------------------------------------------------------------------------------- */

static void release_mappings(const car_lane_t *lane, car_call_t *op)
{
    car_devices_lock();
    for (int i = 0; i < 2 * lane->size; ++i) {
        if (NULL != op->held[i]) {
            car_registry_release(op->held[i]);
            op->held[i] = NULL;
        }
    }
    car_devices_unlock();
}

/* Takes the lane's first call out of it. */
void car_lane_end_first(car_lane_t *lane, bool failed)
{
    car_call_t *op = lane->first, **end = &lane->ended;

    lane->first = op->next;
    lane->last = NULL == op->next ? NULL : lane->last;
    lane->undecided = op == lane->undecided ? op->next : lane->undecided;
    op->next = NULL;
    op->failed = op->failed || failed;
    op->ended = true;
    if (lane->records && CAR_PATH_ZERO_COPY == op->path) {
        release_mappings(lane, op);
    }
    while (NULL != *end) {
        end = &(*end)->next;
    }
    *end = op;
}

void car_lane_remove_first(car_lane_t *lane)
{
    car_lane_end_first(lane, false);
}

static bool drained(car_lane_t *lane)
{
    return NULL == lane->stream || car_device_lost(lane->comm->device)
           || car_lane_reached(lane, lane->ticket)
           || car_comm_drained(lane->comm, lane->stream, &lane->draining_ns);
}

static void fail_all(car_lane_t *lane)
{
    lane->broken = true;
    while (NULL != lane->first) {
        car_lane_end_first(lane, true);
    }
}

/* Nothing has moved: whom the oldest call waits for, and whether that is still there. */
static void watch(car_lane_t *lane)
{
    const char *phase = "";
    uint32_t missing = car_lane_agree_missing(lane, &phase);

    if (0 == missing) {
        missing = car_lane_step_missing(lane, &phase);
    }
    const car_wait_t wait = {.kind = !lane->records                    ? CAR_WAIT_START
                                     : CAR_LANE_CALL == lane->index ? CAR_WAIT_CALL
                                                                    : CAR_WAIT_QUEUE,
                             .number = lane->first->number,
                             .phase = phase,
                             .missing = missing};
    (void) car_watch_ask(&lane->watch, lane->control, &wait);
}

/*
 * The application may have reset the device since the last poll: then the word that kernels tell
 * their end in is gone. (Not while it waits in a blocking call, which asks once: car_lane_finish.)
 */
static void look_for_device(car_lane_t *lane)
{
    if (NULL != lane->first && NULL != lane->stream && !lane->broken
        && car_device_lost(lane->comm->device)) {
        (void) car_lane_broken(lane, "the CUDA context was destroyed or reset",
                               CUDA_ERROR_CONTEXT_IS_DESTROYED);
    }
}

static bool move(car_lane_t *lane)
{
    bool moved = false, again;

    if (CAR_LANE_CALL != lane->index) {
        look_for_device(lane);
    }
    do {
        if (lane->broken || car_control_broken(lane->control) >= 0) {
            again = NULL != lane->first && drained(lane);
            if (again) {
                fail_all(lane);
            }
            return moved || again;
        }
        again = car_lane_agree(lane);
        again = car_lane_step(lane) || again;
        moved = moved || again;
    } while (again);
    if (NULL != lane->first && NULL != lane->stream) {
        look(lane);
    }
    if (moved) {
        lane->watch = (car_watch_t){0};
        return true;
    }
    prepare(lane);
    if (NULL != lane->first && car_watch_due(&lane->watch)) {
        watch(lane);
    }
    return false;
}

bool car_lane_poll(car_lane_t *lane)
{
    const bool moved = move(lane);

    car_lane_leave(lane);
    return moved;
}

void car_lane_finish(car_lane_t *lane, const car_call_t *op, void (*progress)(void))
{
    look_for_device(lane);
    for (unsigned int polls = 1; !op->ended; ++polls) {
        (void) move(lane);
        if (!op->ended && 0 == polls % CAR_PROGRESS_POLLS) {
            car_lane_leave(lane);
            progress();
        }
    }
    car_lane_leave(lane);
}

void car_lane_close(car_lane_t *lane, bool alive)
{
    car_cuda_guard_t guard;

    if (NULL == lane->comm) {
        return;
    }
    const car_cuda_t *cuda = lane->comm->device->cuda;
    bool stuck = false;
    if (alive && NULL != lane->stream && !car_device_lost(lane->comm->device)) {
        stuck = CUDA_SUCCESS != car_cuda_enter(cuda, lane->comm->device->context, &guard);
        if (!stuck) {
            for (int k = 0; k < CAR_KERNELS; ++k) {
                car_graph_destroy(cuda, &lane->graphs[k]);
            }
            lane->foreseen.graph = NULL;
            stuck = !car_cuda_drain(cuda, lane->stream);
            (void) cuda->StreamDestroy(lane->stream);
            car_cuda_leave(cuda, &guard);
        }
    }
    lane->stream = NULL;
    lane->comm->stuck = lane->comm->stuck || stuck;
    car_lane_forget_sets(lane, alive && !stuck);
    car_devices_lock();
    car_comm_retire(lane->comm, CAR_LANE_QUEUE, lane->piece_new);
    car_devices_unlock();
    lane->piece_new = CAR_NO_PIECE;
    if (lane->word >= 0 && !stuck) {
        car_devices_lock();
        car_device_give_word(lane->comm->device, lane->word);
        car_devices_unlock();
    }
    lane->word = -1;
}
