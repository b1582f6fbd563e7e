/*
 * libFuzzer: rank 0 of three with peers that say anything. The whole engine runs, on a driver of
 * its own (driver.c). What the peers say is what rank 0 said, as a peer would say it, with bytes
 * changed as the input says: offers and steps of the set-up, records and counters of lanes, offers
 * of requests, pieces. Whatever they say, nothing may be touched that is not there, every call
 * ends, and no memory of the arena stays taken once all have left.
 */
/* Its inside, as somebody has it who writes to the segment. */
#include "../../coll_car/car_control.c"

#include <sched.h>

#include "car_comm.h"
#include "car_lane.h"
#include "car_offer.h"
#include "car_pending.h"
#include "car_persistent.h"
#include "car_setup.h"
#include "driver.h"

#define RANKS DRIVER_RANKS

/* A peer that says nothing more breaks the communicator in the end, as the death of one would. */
#define PATIENCE 200

static struct {
    const uint8_t *data;
    size_t left;
    car_control_t *control[RANKS];
    uint32_t tags[RANKS];
    uint64_t piece[RANKS];
    uint64_t called[RANKS][CAR_LANES_WITH_RECORDS]; /* whose record the peer has posted last */
    unsigned int waits;
    bool set_up;
} run;

static const car_params_t params = {.algorithm = CAR_ALGORITHM_AUTO,
                                    .launch = CAR_LAUNCH_PLAIN,
                                    .memory = DRIVER_ARENA,
                                    .push_max = 2000,
                                    .pull_max = 8000,
                                    .spin_us = 1,
                                    .alone_max = 6000,
                                    .zero_copy_min = 4096,
                                    .zero_copy_again = 4096,
                                    .map_max = 8,
                                    .map_bytes = 1 << 20,
                                    .first_epoch = 1};
static car_counters_t counters;

static unsigned int next(void)
{
    return 0 == run.left ? 0 : (--run.left, *run.data++);
}

/* Changes as many bytes as the input says; usually none. */
static void change(void *bytes, size_t size)
{
    const unsigned int n = next();

    for (unsigned int i = 0; n >= 0xc0 && i < n % 4 + 1; ++i) {
        const size_t at = (next() | next() << 8) % size;
        ((unsigned char *) bytes)[at] = (unsigned char) next();
    }
}

/* --- what peers say --------------------------------------------------------------------------- */

static void write_word(int arena, uint64_t offset, uint32_t value)
{
    if (offset <= DRIVER_ARENA - sizeof(value)) {
        memcpy((char *) (uintptr_t) driver_memory(arena) + offset, &value, sizeof(value));
    }
}

/*
 * The exchanges of the set-up that need more than a copy: a peer has an arena of its own, a tag in
 * it, and finds ours.
 */
static void as_peer(int r, uint64_t number, char bytes[CAR_RECORD_BYTES])
{
    car_offer_t offer;
    car_step_t step;

    memcpy(&offer, bytes, sizeof(offer));
    memcpy(&step, bytes, sizeof(step));
    if (1 == number) {
        offer.arena.bytes[0] ^= (unsigned char) r;
        offer.handle = driver_handle(r);
        memcpy(bytes, &offer, sizeof(offer));
    } else if (2 == number) {
        run.piece[0] = step.piece_offset;
    } else if (4 == number) {
        write_word(0, run.piece[0] + offsetof(car_flags_t, probe) + (size_t) r * sizeof(uint32_t),
                   run.tags[r]);
    }
}

static void remember(int r, uint64_t number, const char bytes[CAR_RECORD_BYTES])
{
    car_step_t step;

    memcpy(&step, bytes, sizeof(step));
    if (2 == number) {
        run.piece[r] = step.piece_offset;
    } else if (3 == number) {
        run.tags[r] = step.tag;
        write_word(r, run.piece[r] + offsetof(car_flags_t, tag), step.tag);
    }
}

static void exchange(int r)
{
    car_control_t *peer = run.control[r];
    char bytes[CAR_RECORD_BYTES];

    if (peer->exchanges < run.control[0]->exchanges) {
        memcpy(bytes, run.control[0]->mine, sizeof(bytes));
        as_peer(r, peer->exchanges + 1, bytes);
        change(bytes, sizeof(bytes));
        remember(r, peer->exchanges + 1, bytes);
        car_control_exchange_begin(peer, bytes, sizeof(bytes));
    }
}

/* The last call that rank 0 has posted a record of: its number is the record's first word. */
static uint64_t called(const car_lane_slot_t *records)
{
    uint64_t last = 0, number;

    for (int i = 0; i < CAR_CONTROL_WINDOW; ++i) {
        memcpy(&number, &records[i], sizeof(number));
        last = number > last ? number : last;
    }
    return last;
}

/*
 * A lane's records and counters: those of rank 0, some changed, and now and then those of rank 0
 * itself.
 */
static void lanes(int r)
{
    car_rank_area_t *areas = run.control[0]->segment->rank;

    for (int lane = 0; lane < CAR_LANES_WITH_RECORDS; ++lane) {
        const uint64_t call = called(areas[0].lane_record[lane]);
        car_lane_slot_t *slot = &areas[r].lane_record[lane][call % CAR_CONTROL_WINDOW];
        if (call != run.called[r][lane]) {
            run.called[r][lane] = call;
            memcpy(slot, &areas[0].lane_record[lane][call % CAR_CONTROL_WINDOW], sizeof(*slot));
            change(slot, sizeof(*slot));
        } else if (0
                       != memcmp(slot, &areas[0].lane_record[lane][call % CAR_CONTROL_WINDOW],
                                 sizeof(*slot))
                   && next() >= 0x80) {
            /* The second part. */
            memcpy(slot, &areas[0].lane_record[lane][call % CAR_CONTROL_WINDOW], sizeof(*slot));
            change(slot, sizeof(*slot));
        }
    }
    memcpy(areas[r].lane, areas[0].lane, sizeof(areas[0].lane));
    change(areas[r].lane, sizeof(areas[0].lane));
    /* Not before it is set up: what stands still there is a late peer, which is waited for. */
    if (run.set_up && 0xff == next()) {
        change(&areas[0], sizeof(areas[0]));
        change(run.control[0]->segment, offsetof(car_segment_t, rank));
    }
}

static void peers_go_on(void)
{
    for (int r = 1; r < RANKS; ++r) {
        exchange(r);
        lanes(r);
    }
    if (++run.waits > PATIENCE) {
        car_control_break(run.control[1], CAR_FAULT_DRIVER, "it takes too long");
    }
}

/* --- what rank 0 does ------------------------------------------------------------------------- */

static void fold(const void *context, const void *const operand[], int operands, size_t elements,
                 void *result)
{
    (void) context;
    memcpy(result, operand[operands - 1], elements * sizeof(float));
}

static car_buffer_t buffer_of(int index)
{
    return (car_buffer_t){.address = (void *) (uintptr_t) driver_memory(index),
                          .id = 100 + (unsigned long long) index,
                          .memory = CAR_MEMORY_DEVICE,
                          .context = (CUcontext) (void *) driver_memory(0),
                          .plain = true};
}

static car_call_t call_of(bool device, bool blocking)
{
    static float host[DRIVER_USER / sizeof(float)];
    car_call_t call = {.count = 1 + (next() | next() << 8) % (DRIVER_USER / sizeof(float)),
                       .fold = fold,
                       .call = blocking};
    CUcontext context;

    (void) car_reduction_find(CAR_TYPE_f32, CAR_OP_SUM, &call.reduction);
    (void) car_cuda()->CtxGetCurrent(&context);
    call.input = device ? buffer_of(DRIVER_USERS) : (car_buffer_t){.address = host};
    call.output = device ? buffer_of(DRIVER_USERS + 1) : call.input;
    call.input.context = call.output.context = device ? context : NULL;
    return call;
}

/* Calls that came through their records: a fuzzer whose calls all end before that finds nothing. */
static unsigned long agreed;

static void tell(void)
{
    fprintf(stderr, "calls that were agreed on: %lu\n", agreed);
}

static bool lane_call(car_lane_t *lane, bool device)
{
    car_call_t call = call_of(device, CAR_LANE_CALL == lane->index);

    if (call.call && lane->comm->takes_turns
        && !car_lane_use_piece(lane, call.count * sizeof(float))) {
        return false;
    }
    car_lane_enter(lane, &call);
    for (unsigned int polls = 0; !call.ended; ++polls) {
        (void) car_lane_poll(lane);
        peers_go_on();
        if (polls > 2 * PATIENCE) {
            fprintf(stderr, "a call does not end on a broken communicator\n");
            abort();
        }
    }
    lane->ended = NULL;
    agreed += CAR_PATH_UNDECIDED != call.path;
    return !call.failed;
}

static bool request(car_comm_t *comm)
{
    const car_call_t call = call_of(true, false);
    bool failed = false;

    car_persistent_t *p = car_persistent_create(comm, &call);
    if (NULL == p) {
        return !car_control_broken(run.control[0]);
    }
    for (unsigned int starts = next() % 3; starts > 0 && !failed; --starts) {
        car_persistent_start(p);
        for (unsigned int polls = 0; !car_persistent_poll(p, &failed); ++polls) {
            peers_go_on();
            if (polls > 2 * PATIENCE) {
                fprintf(stderr, "a start does not end on a broken communicator\n");
                abort();
            }
        }
    }
    car_persistent_destroy(p, true);
    return !failed;
}

static void use(car_comm_t *comm)
{
    static car_lane_t queue, calls;
    bool whole = true;

    run.set_up = true;
    car_lane_init(&queue, CAR_LANE_QUEUE, true, run.control[0], 0, RANKS, comm);
    car_lane_init(&calls, CAR_LANE_CALL, true, run.control[0], 0, RANKS, comm);
    car_lane_use_home(&queue);
    for (int i = 0; i < 12 && whole && run.left > 0; ++i) {
        run.waits = 0;
        switch (next() % 6) {
        case 0:
            whole = lane_call(&queue, false);
            break;
        case 1:
            whole = lane_call(&queue, true);
            break;
        case 2:
            whole = lane_call(&calls, true);
            break;
        case 3:
            whole = car_comm_grow(comm, CAR_PIECE_MIN + next() * (size_t) 4096);
            break;
        default:
            whole = request(comm);
            break;
        }
    }
    car_lane_close(&queue, true);
    car_lane_close(&calls, true);
    car_comm_destroy(comm, true, queue.piece_offset);
}

/* All have left: what is pending goes, and the arena is whole again. */
static void leave(car_device_t *device)
{
    for (int r = 1; r < RANKS; ++r) {
        atomic_store(&run.control[r]->segment->rank[r].gone, 1);
    }
    car_devices_lock();
    car_pending_reclaim();
    if (NULL != device && car_arena_free_bytes(&device->arena) != device->arena.bytes) {
        fprintf(stderr, "%zu bytes of the arena stay taken\n",
                device->arena.bytes - car_arena_free_bytes(&device->arena));
        abort();
    }
    car_devices_unlock();
    for (int r = 1; r < RANKS; ++r) {
        car_control_detach(run.control[r]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    car_control_place_t place;
    car_setup_state_t state = CAR_SETUP_UNDER_WAY;
    car_comm_t *comm = NULL;
    car_device_t *device = NULL;
    car_failure_t failure;

    static bool told;

    if (!told) {
        told = 0 == atexit(tell);
    }
    memset(&run, 0, sizeof(run));
    run.data = data;
    run.left = size;
    /* A full /dev/shm is another test's. */
    if (0 != car_control_create(RANKS, &place)) {
        return 0;
    }
    for (int r = 0; r < RANKS; ++r) {
        if (0 != car_control_attach(&place, r, RANKS, &run.control[r])) {
            abort();
        }
    }
    car_control_close(&place);
    car_setup_t *setup = car_setup_new();
    const car_comm_config_t config = {.rank = 0,
                                      .size = RANKS,
                                      .node_processes = RANKS,
                                      .control = run.control[0],
                                      .params = &params,
                                      .counters = &counters,
                                      .progress = peers_go_on};
    car_setup_begin(setup, &config);
    for (int i = 0; i < 12 && CAR_SETUP_UNDER_WAY == state; ++i) {
        peers_go_on();
        state = car_setup_poll(setup, &comm, &failure);
    }
    if (CAR_SETUP_UNDER_WAY == state) {
        abort();
    }
    car_setup_free(setup);
    if (CAR_SETUP_DONE == state) {
        device = comm->device;
        use(comm);
    } else if (NULL != comm) {
        device = comm->device;
        car_comm_destroy(comm, true, CAR_NO_PIECE);
    } else {
        car_control_detach(run.control[0]);
    }
    leave(device);
    return 0;
}
