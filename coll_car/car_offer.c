/*
 * What a rank can offer to a communicator, and what all of them make of the offers: the limits that
 * its calls have on every rank.
 */
#include "car_offer.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "car_pending.h"

/*
 * Above this a rank's grid gains nothing: 64 blocks of 512 threads fill a Hopper link (reference
 * measurements), and two ranks on one H100 move 16 MB in 68 us with 128 blocks each, in 78 with 64
 * (November 2026).
 */
#define CAR_BLOCKS_ENOUGH 128

bool car_verdict_fail(car_verdict_t *verdict, CUresult result, const char *what)
{
    if (CUDA_SUCCESS == result) {
        return false;
    }
    verdict->failed = 1;
    snprintf(verdict->reason, sizeof(verdict->reason), "%s: %s", what, car_cuda_error(result));
    return true;
}

/* --- a rank's own ----------------------------------------------------------------------------- */

static CUresult create_stream(car_comm_t *comm)
{
    const car_cuda_t *cuda = comm->device->cuda;
    car_cuda_guard_t guard;

    CUresult result = car_cuda_enter(cuda, comm->device->context, &guard);
    if (CUDA_SUCCESS != result) {
        return result;
    }
    result = cuda->StreamCreateWithPriority(&comm->stream, CU_STREAM_NON_BLOCKING,
                                            comm->device->priority);
    if (CUDA_SUCCESS == result) {
        result = cuda->EventCreate(&comm->event, CU_EVENT_DISABLE_TIMING);
    }
    car_cuda_leave(cuda, &guard);
    return result;
}

/* Once for a device. Without a word for it there is nothing to measure with. */
static void choose_launch(car_comm_t *comm)
{
    car_device_t *device = comm->device;
    car_cuda_guard_t guard;
    bool ended = true;

    comm->launch = (car_launch_how_t) comm->params->launch;
    if (CAR_LAUNCH_AUTO != comm->launch) {
        return;
    }
    car_devices_lock();
    const int word = device->launch_chosen ? -1 : car_device_take_word(device);
    if (word >= 0 && CUDA_SUCCESS == car_cuda_enter(device->cuda, device->context, &guard)) {
        device->launch = car_launch_choose(device, comm->stream, word, &ended);
        device->launch_chosen = true;
        car_cuda_leave(device->cuda, &guard);
    }
    if (word >= 0 && ended) {
        car_device_give_word(device, word);
    }
    comm->launch = device->launch_chosen ? (car_launch_how_t) device->launch : CAR_LAUNCH_GRAPH;
    car_devices_unlock();
}

void car_offer_make(car_comm_t *comm, CUdeviceptr buffer, int node_processes, car_offer_t *offer)
{
    const car_cuda_t *cuda = car_cuda();
    CUcontext context;

    memset(offer, 0, sizeof(*offer));
    offer->verdict.failed = 1;
    if (NULL == cuda) {
        snprintf(offer->verdict.reason, CAR_REASON_BYTES, "the CUDA driver of this rank lacks %s",
                 NULL != car_cuda_missing() ? car_cuda_missing() : "everything");
        return;
    }
    if (!car_device_find_context(cuda, buffer, &context, offer->verdict.reason)) {
        return;
    }
    car_devices_lock();
    car_pending_reclaim();
    comm->device = car_device_get(cuda, context, comm->params->memory, offer->verdict.reason);
    if (NULL != comm->device) {
        comm->word = car_device_take_word(comm->device);
    }
    car_devices_unlock();
    if (NULL == comm->device) {
        return;
    }
    if (comm->word < 0) {
        snprintf(offer->verdict.reason, CAR_REASON_BYTES,
                 "more communicators than there are completion words");
        return;
    }
    offer->verdict.failed = 0;
    if (car_verdict_fail(&offer->verdict, create_stream(comm), "creating a stream")) {
        return;
    }
    choose_launch(comm);
    offer->pid = (int) getpid();
    offer->node_processes = node_processes;
    (void) cuda->DeviceGetCount(&offer->devices);
    offer->resident_blocks = comm->device->resident_blocks;
    offer->threads = comm->device->threads;
    offer->uuid = comm->device->uuid;
    offer->arena = comm->device->id;
    offer->arena_bytes = comm->device->arena.bytes;
    offer->handle = comm->device->handle;
    offer->algorithm = comm->params->algorithm;
    offer->two_shot_push_max = comm->params->two_shot_push_max;
    offer->blocks_wanted = comm->params->blocks;
    offer->threads_wanted = comm->params->threads;
    offer->first_epoch = comm->params->first_epoch;
    offer->side_by_side = comm->device->side_by_side;
    offer->two_phase = (int16_t) comm->params->two_phase;
    offer->map_max = comm->params->map_max;
    offer->stay_max = comm->params->stay_max;
    offer->generation = comm->device->generation;
    for (int s = 0; s < CAR_SHARINGS; ++s) {
        car_thresholds_find(comm->params, offer->generation, (car_sharing_t) s, comm->size,
                            &offer->thresholds[s]);
    }
}

/* --- of all ranks ----------------------------------------------------------------------------- */

/*
 * Processes that may run kernels on the GPU of rank r: those of this communicator, or the job's
 * share of a GPU.
 */
static int sharing(const car_offer_t *offers, int size, int r, int gpus)
{
    int here = 0;

    for (int q = 0; q < size; ++q) {
        here += 0 == memcmp(&offers[q].uuid, &offers[r].uuid, sizeof(offers[r].uuid));
    }
    const int known = offers[r].devices > gpus ? offers[r].devices : gpus;
    const int share = (offers[r].node_processes + known - 1) / known;
    return here > share ? here : share;
}

static int count_gpus(const car_offer_t *offers, int size)
{
    int gpus = 0;

    for (int r = 0; r < size; ++r) {
        int first = 1;
        for (int q = 0; q < r; ++q) {
            first &= 0 != memcmp(&offers[q].uuid, &offers[r].uuid, sizeof(offers[r].uuid));
        }
        gpus += first;
    }
    return gpus;
}

/* Whether another rank of the communicator is on the GPU of rank r. */
static bool shared(const car_offer_t *offers, int size, int r)
{
    bool found = false;

    for (int q = 0; q < size; ++q) {
        found =
            found
            || (q != r && 0 == memcmp(&offers[q].uuid, &offers[r].uuid, sizeof(offers[r].uuid)));
    }
    return found;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/*
 * All ranks work, unless those that share a GPU take turns on it: then the first on each does, so
 * that no turns are taken.
 */
static void divide_work(car_comm_t *comm, const car_offer_t *offers)
{
    comm->shares = 0;
    for (int r = 0; r < comm->size; ++r) {
        bool first = true;
        for (int q = 0; q < r; ++q) {
            first = first && 0 != memcmp(&offers[q].uuid, &offers[r].uuid, sizeof(offers[r].uuid));
        }
        comm->share[r] = first || !comm->takes_turns ? comm->shares++ : -1;
    }
}

/* Rank 0's hold, whatever the others have: a call that ranks do in different ways never ends. */
static void agree_on_thresholds(car_comm_t *comm, const car_offer_t *offers)
{
    const car_sharing_t sharing = 1 == comm->gpus ? CAR_ONE_GPU : CAR_SEVERAL_GPUS;
    const uint64_t *bytes = comm->thresholds.bytes;

    comm->generation = offers[0].generation;
    comm->thresholds = offers[0].thresholds[sharing];
    for (int r = 1; r < comm->size; ++r) {
        const car_thresholds_t *theirs = &offers[r].thresholds[sharing];
        comm->thresholds_differ =
            comm->thresholds_differ || 0 != memcmp(bytes, theirs->bytes, sizeof(theirs->bytes));
    }
    comm->limits.push_max = bytes[CAR_PUSH_MAX];
    comm->limits.pull_max = bytes[CAR_PULL_MAX];
    comm->alone_max = bytes[CAR_ALONE_MAX];
    comm->zero_copy_min = CAR_NEVER == bytes[CAR_ZERO_COPY_MIN] ? 0 : bytes[CAR_ZERO_COPY_MIN];
    comm->zero_copy_again = bytes[CAR_ZERO_COPY_AGAIN];
    comm->zero_copy_again =
        comm->zero_copy_again < comm->zero_copy_min ? comm->zero_copy_again : comm->zero_copy_min;
}

void car_offers_agree(car_comm_t *comm, const car_offer_t *offers)
{
    uint32_t blocks = CAR_BLOCKS_ENOUGH, threads = offers[0].threads;
    comm->gpus = count_gpus(offers, comm->size);
    for (int r = 0; r < comm->size; ++r) {
        comm->takes_turns = comm->takes_turns
                            || (CAR_TWO_PHASE_AUTO == offers[0].two_phase
                                    ? shared(offers, comm->size, r) && !offers[r].side_by_side
                                    : CAR_TWO_PHASE_ALWAYS == offers[0].two_phase);
    }
    if (comm->takes_turns) {
        atomic_store(&comm->device->takes_turns, true); /* other communicators' calls look at it */
    }
    for (int r = 0; r < comm->size; ++r) {
        /* Who takes turns on a GPU has all of it meanwhile. */
        const int among = comm->takes_turns ? 1 : sharing(offers, comm->size, r, comm->gpus);
        blocks = smaller(blocks, offers[r].resident_blocks / (uint32_t) among);
        threads = smaller(threads, offers[r].threads);
        comm->peer[r] = (car_peer_t){.arena = offers[r].arena,
                                     .arena_bytes = offers[r].arena_bytes,
                                     .pid = offers[r].pid};
    }
    divide_work(comm, offers);
    blocks = 0 == blocks ? 1 : blocks;
    comm->alone_blocks = smaller(CAR_BLOCKS_ENOUGH, offers[comm->rank].resident_blocks);
    if (0 != offers[0].blocks_wanted) {
        blocks = comm->alone_blocks = smaller(offers[0].blocks_wanted, CAR_MAX_BLOCKS);
    }
    if (0 != offers[0].threads_wanted) {
        threads = smaller(threads, offers[0].threads_wanted);
    }
    comm->limits = (car_limits_t){.ranks = comm->size,
                                  .algorithm = offers[0].algorithm,
                                  .two_shot_push_max = (uint64_t) offers[0].two_shot_push_max,
                                  .blocks = blocks,
                                  .threads = threads,
                                  .fixed_grid = 0 != offers[0].blocks_wanted
                                                || 0 != offers[0].threads_wanted};
    agree_on_thresholds(comm, offers);
    comm->map_max = offers[0].map_max;
    comm->stay_max = offers[0].stay_max;
    comm->piece_bytes = CAR_PIECE_MIN;
    comm->epoch = offers[0].first_epoch;
    car_layout_make(comm->piece_bytes, comm->size, &comm->limits.layout);
    comm->queue_offset = comm->limits.layout.queue_offset;
    comm->queue_slot = comm->limits.layout.queue_slot;
}
