/*
 * What is done with device memory in the phases of a step: by the kernel fold, and by copies where
 * that cannot use a buffer where it is.
 */
#include "car_step_parts.h"

/* --- kernels ---------------------------------------------------------------------------------- */

static CUdeviceptr slot_of(const car_lane_t *lane, uint64_t step, int r)
{
    return lane->staging[r] + step % CAR_LANE_STEPS * lane->slot_bytes;
}

/* Results of shares, behind the operands. */
static CUdeviceptr results_of(const car_lane_t *lane, uint64_t step, int r)
{
    return slot_of(lane, step, r) + CAR_LANE_STEPS * lane->slot_bytes;
}

static void add_source(car_fold_args_t *args, CUdeviceptr address)
{
    args->vector_source |= (uint16_t) ((0 == address % CAR_PACK_BYTES) << args->sources);
    args->source[args->sources++] = (const void *) (uintptr_t) address;
}

static void add_dest(car_fold_args_t *args, CUdeviceptr address)
{
    args->vector_dest |= (uint16_t) ((0 == address % CAR_PACK_BYTES) << args->dests);
    args->dest[args->dests++] = (void *) (uintptr_t) address;
}

static uint32_t next_ticket(uint32_t ticket)
{
    return ticket + 1 + (UINT32_MAX == ticket); /* never 0 */
}

/*
 * Launches a fold of `count` elements, whose arrays stand in `args`, with at most so many blocks;
 * *ticket is what to wait for.
 */
static bool fold_with(car_lane_t *lane, const car_call_t *op, uint64_t count, uint32_t blocks,
                      car_fold_args_t *args, uint32_t *ticket)
{
    const car_comm_t *comm = lane->comm;
    car_graph_t *graph = &lane->graphs[op->reduction.kernel];
    const uint32_t threads = comm->limits.threads;
    const uint64_t packs = count * op->reduction.element / CAR_PACK_BYTES + 1,
                   all = (packs + threads - 1) / threads;

    lane->ticket = next_ticket(lane->ticket);
    args->what = car_elements_of(&op->reduction, count);
    args->ended = (uint32_t *) (uintptr_t) (comm->home[lane->rank] + comm->queue_offset
                                            + (size_t) lane->index * sizeof(uint32_t));
    args->done = (uint64_t *) (uintptr_t) (comm->device->host_words_on_device
                                           + (size_t) lane->word * sizeof(car_host_word_t));
    args->ticket = *ticket = lane->ticket;
    const car_launch_t launch = {comm->device->functions[CAR_FOLD][op->reduction.kernel],
                                 all < blocks ? (uint32_t) all : blocks, threads, args,
                                 sizeof(*args)};
    const CUresult result = car_launch(comm->device->cuda, comm->launch, graph, &launch,
                                       &lane->foreseen, lane->stream);
    if (CUDA_SUCCESS != result) {
        return car_lane_broken(lane, "launching a kernel", result);
    }
    args->ticket = next_ticket(lane->ticket);
    car_launch_foresee(&lane->foreseen, graph, &launch);
    return true;
}

/* The same with this rank's part of the GPU. */
static bool fold(car_lane_t *lane, const car_call_t *op, uint64_t count, car_fold_args_t *args,
                 uint32_t *ticket)
{
    return fold_with(lane, op, count, lane->comm->limits.blocks, args, ticket);
}

/* --- users' buffers --------------------------------------------------------------------------- */

bool car_lane_settle_for_peers(const car_lane_t *lane, car_call_t *op)
{
    const car_cuda_t *cuda = lane->comm->device->cuda;

    if (CAR_STREAM_ORDER_LEGACY == lane->comm->params->stream_order
        || !car_buffer_settled(&op->input) || !car_buffer_settled(&op->output)) {
        if (CUDA_SUCCESS != car_buffer_wait(cuda, &op->input)
            || CUDA_SUCCESS != car_buffer_wait(cuda, &op->output)) {
            return false;
        }
        car_buffer_settle(cuda, &op->input);
        car_buffer_settle(cuda, &op->output);
    }
    op->settled = true;
    return true;
}

/* Before the first kernel of a call: what the application has put into its buffers comes first. */
static bool settle(car_lane_t *lane, car_call_t *op)
{
    if (op->settled) {
        return true;
    }
    if (CAR_PATH_ZERO_COPY == op->path) {
        return car_lane_settle_for_peers(lane, op)
               || car_lane_broken(lane, "following the default stream", CUDA_ERROR_UNKNOWN);
    }
    const size_t alignment = op->reduction.alignment;
    const CUresult result = car_comm_settle(lane->comm, lane->stream, &op->input, &op->output,
                                            !car_comm_usable(lane->comm, &op->input, alignment),
                                            !car_comm_usable(lane->comm, &op->output, alignment));
    op->settled = true;
    return CUDA_SUCCESS == result || car_lane_broken(lane, "following the default stream", result);
}

static CUdeviceptr address_of(const car_buffer_t *buffer, const car_call_t *op, uint64_t element)
{
    return (CUdeviceptr) (uintptr_t) buffer->address + element * op->reduction.element;
}

/* --- stage ------------------------------------------------------------------------------------ */

static bool to_staging(car_lane_t *lane, car_call_t *op, uint64_t step, uint32_t *ticket)
{
    const car_part_t part = car_step_part(op, step);
    const CUdeviceptr from = address_of(&op->input, op, part.start),
                      to = slot_of(lane, step, lane->rank);
    car_fold_args_t args = {0};

    if (car_comm_usable(lane->comm, &op->input, op->reduction.alignment)) {
        add_source(&args, from);
        add_dest(&args, to);
        return fold(lane, op, part.count, &args, ticket);
    }
    op->copied = true;
    const CUresult result = car_comm_copy(lane->comm, lane->stream, to, from,
                                          part.count * op->reduction.element, &op->input);
    *ticket = 0;
    return CUDA_SUCCESS == result || car_lane_broken(lane, "copying the input", result);
}

bool car_step_stage_on_device(car_lane_t *lane, car_call_t *op, uint64_t step, uint32_t *ticket)
{
    return settle(lane, op)
           && (CAR_PATH_ZERO_COPY == op->path || to_staging(lane, op, step, ticket));
}

/* --- reduce ----------------------------------------------------------------------------------- */

/*
 * A small call is one rank's: kernels of several processes on a GPU begin later than one's (8 ranks
 * on an H100 under MPS: 8 B in 11 us by one, in 13 to 18 by several, November 2026), and the others
 * need no launch. Each has its turn, so that none has all the work.
 */
static bool by_one(const car_lane_t *lane, const car_call_t *op)
{
    return op->count * op->reduction.element <= lane->comm->alone_max;
}

static car_part_t share_of_zero_copy(const car_lane_t *lane, const car_call_t *op)
{
    const car_comm_t *comm = lane->comm;
    const bool alone = by_one(lane, op);
    const int turn = comm->takes_turns ? 0 : (int) (op->number % (uint64_t) comm->size);
    const int index = alone ? (turn == comm->rank ? 0 : -1) : comm->share[comm->rank];

    return index < 0 ? (car_part_t){0, 0}
                     : car_step_share(op, op->count, index, alone ? 1 : comm->shares);
}

static bool reduce_zero_copy(car_lane_t *lane, const car_call_t *op, uint32_t *ticket)
{
    const car_part_t share = share_of_zero_copy(lane, op);
    const uint64_t bytes = share.start * op->reduction.element;
    const uint32_t blocks = by_one(lane, op) ? lane->comm->alone_blocks : lane->comm->limits.blocks;
    car_fold_args_t args = {.output_is_remote = lane->comm->gpus > 1};

    for (int i = 0; i < lane->size; ++i) {
        add_source(&args, op->source[i] + bytes);
        /* Each rank begins with its successor, so they do not all write to the same GPU at once. */
        add_dest(&args, op->dest[(lane->rank + 1 + i) % lane->size] + bytes);
    }
    *ticket = 0;
    return 0 == share.count || fold_with(lane, op, share.count, blocks, &args, ticket);
}

static bool reduce_staged(car_lane_t *lane, const car_call_t *op, uint64_t step, uint32_t *ticket)
{
    const car_part_t part = car_step_part(op, step);
    const car_part_t mine = lane->shares ? car_step_rank_share(lane, op, part.count, lane->rank)
                                         : (car_part_t){0, part.count};
    const uint64_t bytes = mine.start * op->reduction.element;
    car_fold_args_t args = {.output_is_remote = lane->shares || !op->output.plain};

    for (int i = 0; i < lane->size; ++i) {
        add_source(&args, slot_of(lane, step, i) + bytes);
        if (lane->shares) {
            add_dest(&args, results_of(lane, step, (lane->rank + 1 + i) % lane->size) + bytes);
        }
    }
    if (!lane->shares) {
        /*
         * What the user cannot be given directly goes beside the operand, which peers may still
         * read.
         */
        add_dest(&args, car_comm_usable(lane->comm, &op->output, op->reduction.alignment)
                            ? address_of(&op->output, op, part.start)
                            : results_of(lane, step, lane->rank));
    }
    *ticket = 0;
    return 0 == mine.count || fold(lane, op, mine.count, &args, ticket);
}

bool car_step_reduce_on_device(car_lane_t *lane, car_call_t *op, uint64_t step, uint32_t *ticket)
{
    return CAR_PATH_ZERO_COPY == op->path ? reduce_zero_copy(lane, op, ticket)
                                          : reduce_staged(lane, op, step, ticket);
}

/* --- gather ----------------------------------------------------------------------------------- */

bool car_step_gather_on_device(car_lane_t *lane, car_call_t *op, uint64_t step, uint32_t *ticket)
{
    const bool usable = car_comm_usable(lane->comm, &op->output, op->reduction.alignment);
    const car_part_t part = car_step_part(op, step);
    car_fold_args_t args = {.output_is_remote = !op->output.plain};
    bool done = true;

    *ticket = 0;
    if (CAR_PATH_ZERO_COPY == op->path || (usable && !lane->shares)) {
        return true;
    }
    if (!car_lane_driver(lane)) {
        return false;
    }
    if (usable) {
        add_source(&args, results_of(lane, step, lane->rank));
        add_dest(&args, address_of(&op->output, op, part.start));
        done = fold(lane, op, part.count, &args, ticket);
    } else {
        op->copied = true;
        const CUresult result =
            car_comm_copy_out(lane->comm, lane->stream, &op->output, part.start,
                              results_of(lane, step, lane->rank), part.count, &op->reduction);
        done = CUDA_SUCCESS == result || car_lane_broken(lane, "copying the result", result);
    }
    return done;
}
