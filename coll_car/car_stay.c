#include "car_stay.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "car_comm.h"
#include "car_pending.h"

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* --- whether there may be one ----------------------------------------------------------------- */

/* Something else looks at every kernel, and would show or wait for one that stays. */
static bool watched(void)
{
    static const char *const signs[] = {"CUDA_INJECTION64_PATH", "CUDA_INJECTION32_PATH",
                                        "NSYS_PROFILING_SESSION_ID",
                                        "NV_COMPUTE_PROFILER_PERFWORKS_DIR", "COMPUTE_PROFILE"};
    char line[128];
    int tracer = 0;

    for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); ++i) {
        if (NULL != getenv(signs[i])) {
            return true;
        }
    }
    FILE *status = fopen("/proc/self/status", "r");
    while (NULL != status && NULL != fgets(line, sizeof(line), status)) {
        if (1 == sscanf(line, "TracerPid: %d", &tracer)) {
            break;
        }
    }
    if (NULL != status) {
        fclose(status);
    }
    return 0 != tracer;
}

static bool launches_block(void)
{
    const char *blocking = getenv("CUDA_LAUNCH_BLOCKING");

    return NULL != blocking && 0 != strcmp(blocking, "0");
}

/* Of what all ranks' grids may have, as many as are resident with this kernel's shared memory. */
static uint32_t most_blocks(const car_comm_t *comm)
{
    const car_device_t *device = comm->device;
    const uint64_t resident =
        (uint64_t) comm->limits.blocks * device->resident_to_stay / device->resident_blocks;

    return smaller(smaller(comm->params->stay_blocks, CAR_DONE_WORDS),
                   resident > 1 ? (uint32_t) resident : 1);
}

bool car_stay_allowed(car_comm_t *comm)
{
    car_stay_t *stay = &comm->stay;

    if (!stay->asked) {
        stay->asked = true;
        stay->most = most_blocks(comm);
        stay->may = CAR_STAY_OFF != comm->params->stay
                    && CAR_STREAM_ORDER_NONE == comm->params->stream_order
                    && comm->device->sees_writes_of_others && !launches_block() && !watched();
    }
    return stay->may;
}

/* --- its grid --------------------------------------------------------------------------------- */

/*
 * Handing on a call from block to block takes as long as so many packets more of a thread: one
 * block does such a call.
 */
#define FOR_ONE_BLOCK 2

/*
 * What a call wants: a block for each of its own, as far as there are words for their ends, or one
 * for all.
 */
static car_stay_grid_t wanted_grid(const car_comm_t *comm, const car_plan_t *plan)
{
    const bool by_one = plan->blocks * (uint32_t) (comm->size - 1) <= FOR_ONE_BLOCK;
    const uint32_t limit = by_one ? 1 : comm->stay.most;

    return (car_stay_grid_t) {smaller(plan->blocks, limit), plan->threads};
}

bool car_stay_fits(const car_comm_t *comm, const car_plan_t *plan)
{
    return plan->blocks <= CAR_SHARE_MOST * wanted_grid(comm, plan).blocks;
}

static bool covers(car_stay_grid_t grid, car_stay_grid_t wanted)
{
    return grid.blocks >= wanted.blocks && grid.threads >= wanted.threads;
}

static car_stay_grid_t larger_of(car_stay_grid_t a, car_stay_grid_t b)
{
    return (car_stay_grid_t) {a.blocks > b.blocks ? a.blocks : b.blocks,
                              a.threads > b.threads ? a.threads : b.threads};
}

uint32_t car_stay_sharers(const car_comm_t *comm, const car_plan_t *plan)
{
    return 1 == wanted_grid(comm, plan).blocks ? 1 : comm->stay.grid.blocks;
}

/* --- words of host memory --------------------------------------------------------------------- */

/* Numbers are given in turn, and one stay goes before the next begins. */
static bool has_gone(const car_device_t *device, uint32_t number)
{
    const uint32_t gone = (uint32_t) device->host_words[CAR_GONE_WORD].word[0];

    atomic_thread_fence(memory_order_acquire);
    return (int32_t) (gone - number) >= 0;
}

/*
 * The kernel waits for the bell of the ticket behind the last. All words at once: which of them it
 * sees first does not matter.
 */
static void write_bell(car_comm_t *comm, uint32_t ticket, const uint32_t word[2 * CAR_BELL_PACKETS])
{
    volatile uint64_t *bell = comm->device->host_words[comm->stay.bell].word;

    /* What this rank knows of, its user's data above all, is before any of the words. */
    atomic_thread_fence(memory_order_release);
    for (int i = 0; i < 2 * CAR_BELL_PACKETS; ++i) {
        bell[i] = (uint64_t) ticket << 32 | word[i];
    }
}

_Static_assert(2 * CAR_BELL_PACKETS <= CAR_DONE_WORDS, "a bell fits a line of the host");

/* --- ringing ---------------------------------------------------------------------------------- */

static void gone(car_comm_t *comm)
{
    comm->stay.here = false;
    car_pace_gone(&comm->stay.pace);
}

void car_stay_send_away(car_comm_t *comm)
{
    car_stay_t *stay = &comm->stay;
    uint32_t word[2 * CAR_BELL_PACKETS] = {0};

    if (!stay->here) {
        return;
    }
    word[2 * CAR_BELL_EPOCH + 1] = CAR_BELL_GO;
    write_bell(comm, comm->ticket + 1, word);
    gone(comm);
}

static bool same_reduction(const car_reduction_t *a, const car_reduction_t *b)
{
    return a->kernel == b->kernel && a->type == b->type && a->op == b->op && a->data == b->data
           && a->element == b->element && a->alignment == b->alignment;
}

bool car_stay_here(car_comm_t *comm, const car_plan_t *plan, const car_reduction_t *reduction)
{
    car_stay_t *stay = &comm->stay;

    if (!stay->here) {
        return false;
    }
    if (has_gone(comm->device, stay->number)) {
        gone(comm);
        return false;
    }
    const car_stay_grid_t wanted = wanted_grid(comm, plan);
    stay->largest = larger_of(stay->largest, wanted);
    if (!same_reduction(reduction, &stay->reduction) || !covers(stay->grid, wanted)) {
        car_stay_send_away(comm);
        return false;
    }
    return true;
}

bool car_stay_likely(car_comm_t *comm)
{
    car_stay_t *stay = &comm->stay;

    if (stay->here && has_gone(comm->device, stay->number)) {
        gone(comm);
    }
    return stay->here || car_pace_wants(&stay->pace) || CAR_STAY_ALWAYS == comm->params->stay;
}

bool car_stay_ready(const car_comm_t *comm, const car_plan_t *plan,
                    const car_reduction_t *reduction)
{
    const car_stay_t *stay = &comm->stay;
    car_device_t *device = comm->device;

    if (stay->here) {
        return same_reduction(reduction, &stay->reduction)
               && covers(stay->grid, wanted_grid(comm, plan));
    }
    return (stay->like || CAR_STAY_ALWAYS == comm->params->stay)
           && has_gone(device, atomic_load(&device->staying));
}

void car_stay_ring(car_comm_t *comm, const car_plan_t *plan, const car_kernel_args_t *args)
{
    const uintptr_t input = (uintptr_t) args->input, output = (uintptr_t) args->output;
    const uint32_t word[2 * CAR_BELL_PACKETS] = {
        [2 * CAR_BELL_INPUT] = (uint32_t) input,
        [2 * CAR_BELL_INPUT + 1] = (uint32_t) ((uint64_t) input >> 32),
        [2 * CAR_BELL_OUTPUT] = (uint32_t) output,
        [2 * CAR_BELL_OUTPUT + 1] = (uint32_t) ((uint64_t) output >> 32),
        [2 * CAR_BELL_ELEMENTS] = (uint32_t) args->what.count,
        [2 * CAR_BELL_ELEMENTS + 1] = (uint32_t) args->tile,
        [2 * CAR_BELL_EPOCH] = args->epoch,
        [2 * CAR_BELL_EPOCH + 1] = (args->vector_input ? CAR_BELL_VECTOR_INPUT : 0u)
                                   | (args->vector_output ? CAR_BELL_VECTOR_OUTPUT : 0u)
                                   | (car_stay_sharers(comm, plan) > 1 ? CAR_BELL_SHARED : 0u)
                                   | plan->blocks << CAR_BELL_BLOCKS_SHIFT};

    write_bell(comm, args->ticket, word);
}

bool car_stay_gone(const car_comm_t *comm)
{
    return has_gone(comm->device, comm->stay.number);
}

void car_stay_missed(car_comm_t *comm)
{
    CAR_COUNT(comm->counters->stays_missed, 1);
    gone(comm);
}

void car_stay_served(car_comm_t *comm)
{
    car_pace_served(&comm->stay.pace);
}

void car_stay_left(car_comm_t *comm)
{
    car_stay_send_away(comm);
}

/* --- when the program calls ------------------------------------------------------------------- */

static uint64_t stay_ns(const car_comm_t *comm)
{
    return comm->params->stay_us * UINT64_C(1000);
}

void car_stay_begin(car_comm_t *comm, uint64_t number, const car_reduction_t *reduction,
                    uint64_t now)
{
    car_stay_t *stay = &comm->stay;

    if (!stay->begun) {
        stay->begun = true;
        stay->like = same_reduction(reduction, &stay->last);
        stay->last = *reduction;
        car_pace_begin(&stay->pace, now, number, stay_ns(comm));
    }
}

void car_stay_end(car_comm_t *comm, uint64_t now)
{
    car_stay_t *stay = &comm->stay;

    stay->begun = false;
    if (!car_pace_end(&stay->pace, now, stay->here, stay_ns(comm))
        && CAR_STAY_ALWAYS != comm->params->stay) {
        car_stay_send_away(comm);
    }
}

/* --- launching -------------------------------------------------------------------------------- */

/* A stay is no must: without a word for its bell there is none. */
static bool has_bell(car_comm_t *comm)
{
    car_stay_t *stay = &comm->stay;

    if (stay->bell < 0) {
        car_devices_lock();
        stay->bell = car_device_take_word(comm->device);
        car_devices_unlock();
    }
    return stay->bell >= 0;
}

/* Takes the number of the next stay on this device; false while another one has not gone. */
static bool take_number(car_comm_t *comm)
{
    car_device_t *device = comm->device;
    uint32_t present = atomic_load(&device->staying);

    if (!has_gone(device, present)
        || !atomic_compare_exchange_strong(&device->staying, &present, present + 1)) {
        return false;
    }
    comm->stay.number = present + 1;
    return true;
}

bool car_stay_wanted(car_comm_t *comm)
{
    const car_stay_t *stay = &comm->stay;
    /* A call that differs from the one before is not likely to have a successor like itself. */
    const bool pays = car_pace_wants(&stay->pace) && stay->like;

    return !atomic_load(&comm->device->takes_turns)
           && (pays || CAR_STAY_ALWAYS == comm->params->stay) && has_bell(comm)
           && take_number(comm);
}

bool car_stay_launch(car_comm_t *comm, const car_plan_t *plan, const car_reduction_t *reduction,
                     const car_kernel_args_t *args)
{
    static const uint32_t nothing[2 * CAR_BELL_PACKETS];
    car_stay_t *stay = &comm->stay;
    car_device_t *device = comm->device;
    const CUdeviceptr words = device->host_words_on_device;
    const car_stay_grid_t wanted = wanted_grid(comm, plan);

    stay->grid = larger_of(wanted, stay->largest);
    stay->largest = wanted;
    car_stay_args_t all = {
        .call = *args,
        .bell = (const void *) (uintptr_t) (words + (size_t) stay->bell * sizeof(car_host_word_t)),
        .gone = (uint64_t *) (uintptr_t) (words + CAR_GONE_WORD * sizeof(car_host_word_t)),
        .number = stay->number,
        .stay_ns = comm->params->stay_us * 1000,
        .total_ns = comm->params->stay_total_us * 1000,
        .blocks = plan->blocks,
        .shared = car_stay_sharers(comm, plan)};

    /*
     * Nobody looks at the bell now. Whatever ticket it had, it has not the one that the kernel will
     * wait for.
     */
    write_bell(comm, args->ticket, nothing);
    const car_launch_t launch = {device->functions[CAR_STAY][reduction->kernel], stay->grid.blocks,
                                 stay->grid.threads, &all, sizeof(all)};
    const CUresult result = car_launch(device->cuda, comm->launch, &stay->graphs[reduction->kernel],
                                       &launch, NULL, comm->stream);
    if (CUDA_SUCCESS != result) {
        /* Nothing is there that could say so. */
        device->host_words[CAR_GONE_WORD].word[0] = stay->number;
        car_pace_stays(&stay->pace);
        gone(comm);
        return false;
    }
    stay->reduction = *reduction;
    stay->here = true;
    car_pace_stays(&stay->pace);
    CAR_COUNT(comm->counters->stays, 1);
    return true;
}

/* --- the end ---------------------------------------------------------------------------------- */

void car_stay_destroy(car_comm_t *comm)
{
    car_stay_t *stay = &comm->stay;
    for (int k = 0; k < CAR_KERNELS; ++k) {
        car_graph_destroy(comm->device->cuda, &stay->graphs[k]);
    }
}

void car_stay_release(car_comm_t *comm)
{
    if (comm->stay.bell >= 0 && !comm->stuck) {
        car_device_give_word(comm->device, comm->stay.bell);
        comm->stay.bell = -1;
    }
}
