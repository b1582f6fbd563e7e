/*
 * One allreduce: launch, wait for the word that the kernel leaves in host memory, launch again for
 * a late peer.
 */
#include <stdatomic.h>
#include <string.h>

#include "car_run_parts.h"

/*
 * Polls of the completion word between two calls of the progress function, and before the first of
 * these, some 3 us: the least that a kernel takes. 4096 gain next to nothing (docs/performance.md,
 * "A kernel that stays").
 */
#define CAR_POLLS 16
#define CAR_POLLS_ALONE 1024

/* Polls between two looks at the lines that others have posted. */
#define CAR_POLLS_LINES 128

/* How often a wait looks whether the driver or a peer has failed. */
#define CAR_LOOK_NS 1000000

static bool broken(car_comm_t *comm, const char *what, CUresult result)
{
    car_comm_broken(comm, what, result);
    return false;
}

/* --- launching -------------------------------------------------------------------------------- */

CUresult car_comm_launch(car_comm_t *comm, car_graph_t *graph, const car_plan_t *plan,
                         car_kernel_t kernel, car_kernel_args_t *args)
{
    const car_launch_t now = {comm->device->functions[plan->algorithm][kernel], plan->blocks,
                              plan->threads, args, sizeof(*args)};
    const CUresult result = car_launch(comm->device->cuda, comm->launch, graph, &now,
                                       &comm->foreseen, comm->stream);

    if (CUDA_SUCCESS == result) {
        car_kernel_args_t again = *args;
        car_launch_t next = now;
        next.argument = &again;
        again.epoch = again.first = args->end;
        again.end = args->end + (args->end - args->epoch);
        again.ticket = args->ticket + 1;
        again.resume = false;
        car_launch_foresee(&comm->foreseen, graph, &next);
    }
    return result;
}

bool car_run_compare_lines(car_wait_for_t *w)
{
    const car_comm_t *comm = w->comm;
    car_line_t line;

    for (int r = 0; r < comm->size && !w->disagree; ++r) {
        if (0 == (w->agreed >> r & 1) && car_control_posted(comm->control, w->number, r, &line)) {
            w->disagree =
                !car_watch_agree(comm->control, CAR_WAIT_CALL, w->number, &w->what, r, &line.what);
            w->agreed |= UINT32_C(1) << r;
        }
    }
    return !w->disagree;
}

static uint32_t everybody(const car_comm_t *comm)
{
    return (UINT32_C(1) << comm->size) - 1;
}

/* What the driver says of the stream, whatever the caller's context. */
static CUresult ask(const car_comm_t *comm)
{
    const car_cuda_t *cuda = comm->device->cuda;
    car_cuda_guard_t guard;
    CUresult result = car_cuda_enter(cuda, comm->device->context, &guard);

    if (CUDA_SUCCESS == result) {
        result = cuda->StreamQuery(comm->stream);
        car_cuda_leave(cuda, &guard);
    }
    return result;
}

car_end_t car_run_wait(car_wait_for_t *w, uint32_t ticket, uint32_t blocks, bool rung,
                       uint32_t *left)
{
    car_comm_t *comm = w->comm;
    const car_host_word_t *line = &comm->device->host_words[comm->word];
    uint64_t next_look = 0;

    for (unsigned int polls = 1; !car_host_word_reached(line, ticket, blocks, left); ++polls) {
        /* In this order: the end of its calls is there when it says that it has gone. */
        if (rung && car_stay_gone(comm) && !car_host_word_reached(line, ticket, blocks, left)) {
            return CAR_MISSED;
        }
        if (0 == polls % CAR_POLLS_LINES && everybody(comm) != w->agreed && !w->disagree) {
            (void) car_run_compare_lines(w);
        }
        if (0 != polls % CAR_POLLS || polls < CAR_POLLS_ALONE) {
            continue;
        }
        comm->progress();
        if (0 != polls % (64 * CAR_POLLS)) {
            continue;
        }
        const uint64_t now = car_now();
        if (now < next_look) {
            continue;
        }
        next_look = now + CAR_LOOK_NS;
        const CUresult result = ask(comm);
        if (rung && CUDA_SUCCESS == result && !car_host_word_reached(line, ticket, blocks, left)) {
            return CAR_MISSED; /* whatever it has failed to say, nothing is there any more */
        }
        if (CUDA_SUCCESS != result && CUDA_ERROR_NOT_READY != result) {
            uint64_t since = 0;
            (void) broken(comm, "the allreduce kernel failed", result);
            while (!car_host_word_reached(line, ticket, blocks, left)
                   && !car_comm_drained(comm, comm->stream, &since)) {
                comm->progress();
            }
            return CAR_FAILED;
        }
    }
    return CAR_ENDED;
}

/*
 * After a kernel has left: there is no use in launching it again before all peers have entered the
 * call, and none if they have entered another.
 */
static bool wait_for_peers(car_wait_for_t *w)
{
    car_comm_t *comm = w->comm;

    while (car_run_compare_lines(w) && everybody(comm) != w->agreed
           && car_control_broken(comm->control) < 0) {
        comm->progress();
        if (car_watch_due(&w->watch)) {
            const car_wait_t wait = {CAR_WAIT_CALL, w->number, "before all have entered it",
                                     everybody(comm) & ~w->agreed, 0};
            (void) car_watch_ask(&w->watch, comm->control, &wait);
        }
    }
    return car_control_broken(comm->control) < 0;
}

/*
 * All have entered the call, and yet a kernel has left once more: one of them does not do its part,
 * or is slow. Who waits, too, is not the one; but he may have died since he said so.
 */
static bool still_there(car_wait_for_t *w)
{
    car_comm_t *comm = w->comm;

    car_control_say_waiting(comm->control, w->number);
    if (car_watch_due(&w->watch)) {
        const car_wait_t wait = {CAR_WAIT_CALL, w->number, "after all have entered it",
                                 car_control_not_waiting(comm->control, w->number),
                                 everybody(comm)};
        return car_watch_ask(&w->watch, comm->control, &wait);
    }
    return true;
}

/*
 * The exchanges from args->first to args->end, until every block has finished. `resume`: they have
 * left them once already. `reduction` tells what a kernel that is to stay after its call will
 * reduce; NULL: the kernel ends with it.
 */
static bool run(car_wait_for_t *w, const car_plan_t *plan, car_kernel_t kernel,
                car_kernel_args_t *args, bool resume, const car_reduction_t *reduction)
{
    car_comm_t *comm = w->comm;
    uint32_t left;

    for (;; resume = true) {
        if (resume) {
            if (!wait_for_peers(w) || !still_there(w)) {
                return false;
            }
            CAR_COUNT(comm->counters->relaunches, 1);
        }
        const uint64_t before = car_timing_now(comm->params);
        args->ticket = ++comm->ticket;
        args->resume = resume;
        const bool stays = !resume && NULL != reduction && car_stay_wanted(comm)
                           && car_stay_launch(comm, plan, reduction, args);
        const CUresult result =
            stays ? CUDA_SUCCESS
                  : car_comm_launch(comm, &comm->graphs[plan->algorithm][kernel], plan, kernel,
                                    args);
        if (CUDA_SUCCESS != result) {
            return broken(comm, "launching the allreduce kernel", result);
        }
        const uint64_t launched = car_timing_now(comm->params);
        car_launch_prepare(comm->device->cuda, &comm->foreseen);
        const uint32_t blocks = stays ? car_stay_sharers(comm, plan) : plan->blocks;
        if (CAR_ENDED != car_run_wait(w, args->ticket, blocks, false, &left)) {
            return false;
        }
        if (comm->params->timing) {
            CAR_COUNT(comm->counters->ns_launch, launched - before);
            CAR_COUNT(comm->counters->ns_wait, car_timing_now(comm->params) - launched);
        }
        /*
         * Whoever has sent us data had posted his line before: by now, each is one read of a line
         * of the cache.
         */
        if (0 == left) {
            return car_run_compare_lines(w);
        }
        if (stays) {
            car_stay_left(comm);
        }
    }
}

/* --- staging ---------------------------------------------------------------------------------- */

/*
 * The usual call is one launch. Where a buffer has to be staged, the exchanges are done as many at
 * a time as the staging holds; the peers neither know nor care.
 */
static bool run_staged(car_wait_for_t *w, const car_plan_t *plan, car_kernel_args_t *args,
                       const car_data_t *data)
{
    car_comm_t *comm = w->comm;
    const size_t element = data->reduction->element;
    const CUdeviceptr local = comm->peer[comm->rank].piece + comm->limits.layout.local_offset;
    const uint64_t at_once = comm->limits.layout.local_bytes / (plan->round * element);
    const uint32_t end = args->end;

    for (uint64_t k = 0; k < plan->rounds; k += at_once) {
        const uint64_t start = k * plan->round;
        const uint64_t rounds = plan->rounds - k < at_once ? plan->rounds - k : at_once;
        const uint64_t elements = rounds * plan->round < data->count - start ? rounds * plan->round
                                                                             : data->count - start;
        const CUdeviceptr biased = local - start * element;
        CUresult result;

        args->first = end - (uint32_t) plan->rounds + (uint32_t) k;
        args->end = args->first + (uint32_t) rounds;
        if (data->stage_input) {
            result = car_comm_copy(comm, comm->stream, local,
                                   (CUdeviceptr) (uintptr_t) data->input->address + start * element,
                                   elements * element, data->input);
            if (CUDA_SUCCESS != result) {
                return broken(comm, "copying the input", result);
            }
            args->input = (const void *) (uintptr_t) biased;
            args->vector_input = car_run_aligned(args->input);
        }
        if (data->stage_output) {
            args->output = (void *) (uintptr_t) biased;
            args->vector_output = car_run_aligned(args->output);
            args->output_is_remote = 0;
        }
        if (!run(w, plan, data->reduction->kernel, args, false, NULL)) {
            return false;
        }
        if (data->stage_output) {
            result = car_comm_copy_out(comm, comm->stream, data->output, start, local, elements,
                                       data->reduction);
            if (CUDA_SUCCESS != result) {
                return broken(comm, "copying the result", result);
            }
        }
    }
    return true;
}

void car_comm_fill_args(const car_comm_t *comm, const car_plan_t *plan, const car_buffer_t *input,
                        const car_buffer_t *output, uint64_t count,
                        const car_reduction_t *reduction, car_kernel_args_t *args)
{
    const car_layout_t *layout = &comm->limits.layout;

    memset(args, 0, sizeof(*args));
    args->input = input->address;
    args->output = output->address;
    args->what = car_elements_of(reduction, count);
    args->tile = plan->tile;
    for (int r = 0; r < comm->size; ++r) {
        args->piece[r] = (char *) (uintptr_t) comm->peer[r].piece;
    }
    args->own = (car_own_words_t *) (args->piece[comm->rank] + layout->own_offset);
    args->done = (uint64_t *) (uintptr_t) (comm->device->host_words_on_device
                                           + (size_t) comm->word * sizeof(car_host_word_t));
    args->push_offset = layout->push_offset;
    args->push_slot = layout->push_slot;
    args->staging_offset = layout->staging_offset;
    args->staging_slot = layout->staging_slot;
    args->two_shot_slot = layout->two_shot_slot;
    args->epoch = args->first = comm->epoch;
    args->end = comm->epoch + (uint32_t) plan->rounds;
    args->rank = (uint32_t) comm->rank;
    args->size = (uint32_t) comm->size;
    args->spin_ns = comm->params->spin_us * 1000;
    args->vector_input = car_run_aligned(args->input);
    args->vector_output = car_run_aligned(args->output);
    args->output_is_remote = !output->plain;
}

/* --- the call --------------------------------------------------------------------------------- */

/*
 * The last epochs: all ranks clear their flags and packets together and begin again at 1. The first
 * exchange says that every kernel of the calls before has ended; the second, that all memory is
 * clear.
 */
static bool renew(car_comm_t *comm)
{
    char nothing = 0, all[CAR_MAX_RANKS];

    if (!car_watch_exchange(comm->control, &nothing, 1, all, comm->progress,
                            "the end of the epochs")) {
        return false;
    }
    const CUresult result = car_comm_clear(comm);
    if (CUDA_SUCCESS != result) {
        return broken(comm, "clearing device memory", result);
    }
    if (!car_watch_exchange(comm->control, &nothing, 1, all, comm->progress,
                            "the end of the epochs")) {
        return false;
    }
    comm->epoch = 1;
    return true;
}

void car_comm_count(const car_comm_t *comm, const car_plan_t *plan)
{
    unsigned long long *const by_algorithm[CAR_ALGORITHMS] = {&comm->counters->calls_one_shot_push,
                                                              &comm->counters->calls_two_shot_push,
                                                              &comm->counters->calls_one_shot_pull,
                                                              &comm->counters->calls_two_shot};
    CAR_COUNT(*by_algorithm[plan->algorithm], 1);
}

/*
 * What takes an exchange of all ranks before the call itself: a larger piece, the end of the
 * epochs. Who makes another call might want no exchange, or one of another kind, so all lines are
 * read first: the exchange would wait for them anyway.
 */
static bool prepare(car_wait_for_t *w, const car_data_t *data, car_plan_t *plan)
{
    car_comm_t *comm = w->comm;
    const car_reduction_t *reduction = data->reduction;

    if (plan->rounds > 1 && comm->piece_bytes < CAR_PIECE_MAX) {
        const size_t piece =
            car_plan_piece(&comm->limits, data->count, reduction->element, reduction->unit);
        if (piece > comm->piece_bytes && !(wait_for_peers(w) && car_comm_grow(comm, piece))) {
            return false;
        }
        *plan = car_plan_make(&comm->limits, data->count, reduction->element, reduction->unit);
    }
    return comm->epoch + plan->rounds <= UINT32_MAX || (wait_for_peers(w) && renew(comm));
}

static bool run_call(car_wait_for_t *w, const car_data_t *data, car_plan_t *plan, bool small,
                     bool left)
{
    car_comm_t *comm = w->comm;
    const car_reduction_t *reduction = data->reduction;
    car_kernel_args_t args;

    if (!left && !prepare(w, data, plan)) {
        return false;
    }
    const CUresult result = car_comm_settle(comm, comm->stream, data->input, data->output,
                                            data->stage_input, data->stage_output);
    if (CUDA_SUCCESS != result) {
        return broken(comm, "following the default stream", result);
    }
    car_comm_fill_args(comm, plan, data->input, data->output, data->count, reduction, &args);
    const bool done = data->stage_input || data->stage_output
                          ? run_staged(w, plan, &args, data)
                          : run(w, plan, reduction->kernel, &args, left, small ? reduction : NULL);
    comm->epoch += (uint32_t) plan->rounds;
    car_comm_count(comm, plan);
    CAR_COUNT(comm->counters->calls_staged, data->stage_input || data->stage_output);
    return done;
}

bool car_run_launched(car_wait_for_t *w, const car_data_t *data, car_plan_t *plan, bool small,
                      bool left)
{
    car_comm_t *comm = w->comm;
    car_cuda_guard_t guard;
    const CUresult result = car_cuda_enter(comm->device->cuda, comm->device->context, &guard);

    if (CUDA_SUCCESS != result) {
        return broken(comm, "making the communicator's context current", result);
    }
    const bool done = run_call(w, data, plan, small, left);
    car_cuda_leave(comm->device->cuda, &guard);
    return done;
}

bool car_comm_allreduce(car_comm_t *comm, uint64_t call, const car_buffer_t *input,
                        const car_buffer_t *output, uint64_t count,
                        const car_reduction_t *reduction)
{
    const car_data_t data =
        car_run_data(comm, NULL == input ? output : input, output, count, reduction);
    car_wait_for_t w = {.comm = comm,
                        .number = call,
                        .what = car_what_of(count, reduction),
                        .agreed = UINT32_C(1) << comm->rank};

    if (car_control_broken(comm->control) >= 0) {
        return false;
    }
    if (car_device_lost(comm->device)) {
        return broken(comm, "the CUDA context was destroyed or reset",
                      CUDA_ERROR_CONTEXT_IS_DESTROYED);
    }
    car_plan_t plan = car_plan_make(&comm->limits, count, reduction->element, reduction->unit);
    if (car_stay_allowed(comm) && car_run_is_small(comm, &data, &plan)) {
        return car_run_small(&w, &data, &plan);
    }
    car_stay_send_away(comm);
    comm->stay.begun = false; /* it was no small call, after all */
    return car_run_launched(&w, &data, &plan, false, false);
}
