/*
 * Small calls, for which a kernel may have stayed (car_stay.h): it is rung for, or else one is
 * launched, which may stay.
 */
#include "car_run_parts.h"

bool car_run_is_small(const car_comm_t *comm, const car_data_t *data, const car_plan_t *plan)
{
    return CAR_ONE_SHOT_PUSH == plan->algorithm && 1 == plan->rounds && car_stay_fits(comm, plan)
           && car_comm_is_small(comm, data->count * data->reduction->element)
           && comm->epoch < UINT32_MAX && !data->stage_input && !data->stage_output
           && data->input->plain && data->output->plain && car_buffer_settled(data->input)
           && car_buffer_settled(data->output);
}

/*
 * Rings for it. CAR_ENDED with *left: the kernel has gone in the middle of it, and one is to be
 * launched that resumes.
 */
static car_end_t ring(car_wait_for_t *w, const car_data_t *data, const car_plan_t *plan,
                      uint32_t *left)
{
    car_comm_t *comm = w->comm;
    const uint64_t before = car_timing_now(comm->params);
    const car_kernel_args_t args = {.input = data->input->address,
                                    .output = data->output->address,
                                    .what.count = data->count,
                                    .tile = plan->tile,
                                    .epoch = comm->epoch,
                                    .ticket = comm->ticket + 1,
                                    .vector_input = car_run_aligned(data->input->address),
                                    .vector_output = car_run_aligned(data->output->address)};

    car_stay_ring(comm, plan, &args);
    const car_end_t end = car_run_wait(w, args.ticket, car_stay_sharers(comm, plan), true, left);
    if (CAR_MISSED == end) {
        car_stay_missed(comm);
        return end;
    }
    ++comm->ticket;
    if (comm->params->timing) {
        CAR_COUNT(comm->counters->ns_wait, car_timing_now(comm->params) - before);
    }
    return end;
}

void car_comm_small_ended(car_comm_t *comm)
{
    if (comm->stay.begun) {
        car_stay_end(comm, car_now());
    }
}

bool car_run_small(car_wait_for_t *w, const car_data_t *data, car_plan_t *plan)
{
    car_comm_t *comm = w->comm;
    uint32_t left = 0;

    car_stay_begin(comm, w->number, data->reduction, car_now());
    const car_end_t end =
        car_stay_here(comm, plan, data->reduction) ? ring(w, data, plan, &left) : CAR_MISSED;
    bool done = false;

    if (CAR_MISSED == end) {
        done = car_run_launched(w, data, plan, true, false);
    } else if (CAR_ENDED == end && 0 != left) {
        car_stay_left(comm);
        done = car_run_launched(w, data, plan, true, true);
    } else if (CAR_ENDED == end) {
        car_stay_served(comm);
        ++comm->epoch;
        car_comm_count(comm, plan);
        CAR_COUNT(comm->counters->calls_stayed, 1);
        done = car_run_compare_lines(w);
    }
    car_comm_small_ended(comm);
    return done;
}

bool car_comm_quick(car_comm_t *comm, uint64_t number, const car_buffer_t *input,
                    const car_buffer_t *output, uint64_t count, const car_reduction_t *reduction)
{
    if (!car_stay_allowed(comm) || !car_comm_is_small(comm, count * reduction->element)) {
        return false;
    }
    car_stay_begin(comm, number, reduction, car_now());
    if (!car_stay_likely(comm)) {
        return false; /* nothing more is worth looking at: the others wait to hear of this call */
    }
    const car_data_t data = car_run_data(comm, input, output, count, reduction);
    const car_plan_t plan =
        car_plan_make(&comm->limits, count, reduction->element, reduction->unit);
    return car_run_is_small(comm, &data, &plan) && car_stay_ready(comm, &plan, reduction);
}
