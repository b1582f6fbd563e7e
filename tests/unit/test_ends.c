/* How communicators end: what kernels or peers may still use is not given to anybody else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "car_comm.h"
#include "car_lane_parts.h"
#include "car_offer.h"
#include "car_pending.h"
#include "car_setup.h"
#include "driver.h"

#define RANKS 2

static const car_params_t params = {.algorithm = CAR_ALGORITHM_AUTO,
                                    .launch = CAR_LAUNCH_PLAIN,
                                    .memory = DRIVER_ARENA,
                                    .push_max = 2000,
                                    .pull_max = 8000,
                                    .spin_us = 1,
                                    .map_max = 8,
                                    .map_bytes = 1 << 20,
                                    .first_epoch = 1};
static car_counters_t counters;
static car_control_t *control, *peer;
static car_setup_t *setup;
static car_step_t step; /* what the peer says next */

static void nothing(void)
{
}

static car_device_t *device(void)
{
    char reason[CAR_REASON_BYTES];
    CUcontext context;

    assert_int_equal(CUDA_SUCCESS, car_cuda()->CtxGetCurrent(&context));
    return car_device_get(car_cuda(), context, DRIVER_ARENA, reason);
}

static size_t unused(void)
{
    return car_arena_free_bytes(&device()->arena);
}

static int words_taken(void)
{
    int taken = 0;

    for (int i = 0; i < CAR_HOST_WORDS / 64; ++i) {
        taken += __builtin_popcountll(device()->host_words_used[i]);
    }
    return taken;
}

static void begin(void)
{
    car_control_place_t place;

    assert_int_equal(0, car_control_create(RANKS, &place));
    assert_int_equal(0, car_control_attach(&place, 0, RANKS, &control));
    assert_int_equal(0, car_control_attach(&place, 1, RANKS, &peer));
    car_control_close(&place);
    const car_comm_config_t config = {.rank = 0,
                                      .size = RANKS,
                                      .node_processes = RANKS,
                                      .control = control,
                                      .params = &params,
                                      .counters = &counters,
                                      .progress = nothing};
    setup = car_setup_new();
    memset(&step, 0, sizeof(step));
    car_setup_begin(setup, &config);
}

static void peer_offers(void)
{
    car_offer_t offer = {.pid = getpid(),
                         .node_processes = RANKS,
                         .devices = 1,
                         .resident_blocks = 64,
                         .threads = 512,
                         .arena.bytes = {1},
                         .arena_bytes = DRIVER_ARENA,
                         .handle = driver_handle(1),
                         .algorithm = CAR_ALGORITHM_AUTO,
                         .generation = 90,
                         .first_epoch = 1};

    memset(&offer.uuid, 1, sizeof(offer.uuid));
    car_control_exchange_begin(peer, &offer, sizeof(offer));
}

static void put_word(int arena, size_t offset, uint32_t value)
{
    memcpy((char *) (uintptr_t) driver_memory(arena) + offset, &value, sizeof(value));
}

/*
 * The peer's piece lies where this rank's does, in an arena of its own. What it writes here is its
 * tag, as it is for rank 0.
 */
static void peer_goes_on(uint64_t number)
{
    car_step_t all[RANKS];

    car_control_exchange_begin(peer, &step, sizeof(step));
    assert_true(car_control_exchange_test(peer, sizeof(step), all));
    step.piece_offset = all[0].piece_offset;
    if (2 == number) {
        step.tag = 4711;
        put_word(1, step.piece_offset + offsetof(car_flags_t, tag), step.tag);
    } else if (3 == number) {
        put_word(0, step.piece_offset + offsetof(car_flags_t, probe) + sizeof(uint32_t), step.tag);
    }
}

static car_setup_state_t poll_setup(car_comm_t **comm)
{
    car_failure_t failure;

    return car_setup_poll(setup, comm, &failure);
}

static car_comm_t *communicator(void)
{
    car_comm_t *comm = NULL;

    begin();
    peer_offers();
    for (uint64_t number = 2; CAR_SETUP_UNDER_WAY == poll_setup(&comm); ++number) {
        assert_true(number < 6);
        peer_goes_on(number);
    }
    assert_non_null(comm);
    car_setup_free(setup);
    return comm;
}

/* The peer has freed it, too: what is not kept for another reason goes. */
static void peer_leaves(void)
{
    car_control_depart(peer);
    car_control_detach(peer);
    car_devices_lock();
    car_pending_reclaim();
    car_devices_unlock();
}

static void what_all_ranks_have_left_is_given_back(void **state)
{
    (void) state;
    const size_t before = unused();
    const int words = words_taken();
    car_comm_t *comm = communicator();
    assert_true(unused() < before);
    assert_int_equal(words + 1, words_taken());
    car_comm_destroy(comm, true, CAR_NO_PIECE);
    assert_int_equal(words, words_taken());
    assert_true(unused() < before);
    peer_leaves();
    assert_int_equal(before, unused());
}

/* Another communicator would take the word of a kernel that ends late for its own. */
static void what_kernels_may_still_use_is_kept(void **state)
{
    static const CUresult says[] = {CUDA_ERROR_NOT_READY, CUDA_ERROR_UNKNOWN};

    (void) state;
    for (size_t i = 0; i < sizeof(says) / sizeof(says[0]); ++i) {
        car_comm_t *comm = communicator();
        car_lane_t lane;
        car_lane_init(&lane, CAR_LANE_QUEUE, true, comm->control, 0, RANKS, comm);
        assert_true(car_lane_driver(&lane));
        car_lane_leave(&lane);
        const size_t before = unused();
        const int words = words_taken();
        driver_streams = says[i];
        car_lane_close(&lane, true);
        assert_int_equal(words, words_taken());
        car_comm_destroy(comm, true, lane.piece_offset);
        driver_streams = CUDA_SUCCESS;
        assert_int_equal(words, words_taken());
        /* The peers keep theirs as long: this rank does not say that it has gone. */
        car_control_depart(peer);
        assert_false(car_control_all_gone(peer));
        peer_leaves();
        assert_int_equal(before, unused());
    }
}

static void a_setup_of_what_has_broken_goes_no_further(void **state)
{
    car_comm_t *comm;

    (void) state;
    const size_t before = unused();
    const int words = words_taken();
    begin();
    peer_offers();
    car_control_break(peer, CAR_FAULT_LATE, "");
    assert_int_equal(CAR_SETUP_BROKEN, poll_setup(&comm));
    assert_null(comm);
    assert_int_equal(1, car_control_exchanges(control));
    car_setup_free(setup);
    car_control_detach(control);
    assert_int_equal(before, unused());
    assert_int_equal(words, words_taken());
    peer_leaves();
}

static void peers_may_probe_a_piece_of_what_has_broken(void **state)
{
    car_comm_t *comm;

    (void) state;
    const size_t before = unused();
    begin();
    peer_offers();
    assert_int_equal(CAR_SETUP_UNDER_WAY, poll_setup(&comm));
    car_control_break(peer, CAR_FAULT_LATE, "");
    assert_int_equal(CAR_SETUP_BROKEN, poll_setup(&comm));
    assert_non_null(comm);
    car_setup_free(setup);
    car_comm_destroy(comm, true, CAR_NO_PIECE);
    assert_true(unused() < before);
    peer_leaves();
    assert_int_equal(before, unused());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_all_ranks_have_left_is_given_back),
        cmocka_unit_test(what_kernels_may_still_use_is_kept),
        cmocka_unit_test(a_setup_of_what_has_broken_goes_no_further),
        cmocka_unit_test(peers_may_probe_a_piece_of_what_has_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
