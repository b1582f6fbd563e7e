/*
 * The steps of a lane's calls. Each has three phases, and a counter of every rank says how far it
 * has come:
 *
 *   stage   this rank's operands are put where peers can read them                  -> staged
 *   reduce  when all have staged: operands of all ranks are folded                   -> reduced
 *   gather  where ranks have folded shares, when all have: results come together     -> done
 *
 * Two steps are under way at a time: step k + 2 is staged when all ranks are done with step k.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "car_lane_parts.h"

/* Shares of less are not worth a third phase: every rank folds it all. */
#define CAR_SHARE_LEAST 2048

/* --- what steps are --------------------------------------------------------------------------- */

void car_lane_give_steps(car_lane_t *lane, car_call_t *op)
{
    const size_t element = op->reduction.element;

    op->step_elements =
        CAR_PATH_ZERO_COPY == op->path ? op->count
        : CAR_PATH_HOST == op->path
            ? car_control_chunk_bytes(lane->control) / CAR_PACK_BYTES * CAR_PACK_BYTES / element
            : lane->slot_bytes / CAR_PACK_BYTES * CAR_PACK_BYTES / element;
    op->steps = (op->count + op->step_elements - 1) / op->step_elements;
    op->first_step = lane->steps + 1;
    lane->steps += op->steps;
}

static car_call_t *op_of(const car_lane_t *lane, uint64_t step)
{
    car_call_t *op = lane->first;

    while (step >= op->first_step + op->steps) {
        op = op->next;
    }
    return op;
}

/* The elements of a step: `start` is the first one's number in the call. */
typedef struct {
    uint64_t start, count;
} part_t;

static part_t part_of(const car_call_t *op, uint64_t step)
{
    const uint64_t start = (step - op->first_step) * op->step_elements;
    return (part_t){start,
                    op->count - start < op->step_elements ? op->count - start : op->step_elements};
}

/* The index-th of `shares` shares of so many elements: whole packs, but for the last. */
static part_t share_number(const car_call_t *op, uint64_t count, int index, int shares)
{
    const uint64_t pack = CAR_PACK_BYTES / op->reduction.element;
    const uint64_t packs = (count + pack - 1) / pack,
                   each = (packs + (uint64_t) shares - 1) / (uint64_t) shares * pack;
    const uint64_t start = each * (uint64_t) index < count ? each * (uint64_t) index : count;
    return (part_t){start, count - start < each ? count - start : each};
}

static part_t share_of(const car_lane_t *lane, const car_call_t *op, uint64_t count, int r)
{
    return share_number(op, count, r, lane->size);
}

/* Whether ranks fold a share of each step, and so need each other's results. */
static bool by_shares(const car_lane_t *lane, const car_call_t *op)
{
    switch (op->path) {
    case CAR_PATH_ZERO_COPY:
        return true;
    case CAR_PATH_HOST:
        return op->count * op->reduction.element
               >= (uint64_t) CAR_SHARE_LEAST * (uint64_t) lane->size;
    default:
        return lane->shares;
    }
}

/* --- counters --------------------------------------------------------------------------------- */

static car_lane_words_t *words(const car_lane_t *lane, int r)
{
    return car_control_lane(lane->control, lane->index, r);
}

#define ALL_AT_LEAST(lane, counter, value)                                                         \
    for (int r = 0; r < (lane)->size; ++r) {                                                       \
        if (atomic_load_explicit(&words((lane), r)->counter, memory_order_acquire) < (value)) {    \
            return false;                                                                          \
        }                                                                                          \
    }                                                                                              \
    return true

bool car_lane_all_staged(const car_lane_t *lane, uint64_t value)
{
    ALL_AT_LEAST(lane, staged, value);
}

static bool all_reduced(const car_lane_t *lane, uint64_t value)
{
    ALL_AT_LEAST(lane, reduced, value);
}

bool car_lane_all_done(const car_lane_t *lane, uint64_t value) { ALL_AT_LEAST(lane, done, value); }

#define BEHIND(lane, counter, value)                                                               \
    uint32_t behind = 0;                                                                           \
    for (int r = 0; r < (lane)->size; ++r) {                                                       \
        const uint64_t come =                                                                      \
            atomic_load_explicit(&words((lane), r)->counter, memory_order_acquire);                \
        behind |= (uint32_t) (come < (value)) << r;                                                \
    }                                                                                              \
    return behind

static uint32_t behind_staging(const car_lane_t *lane, uint64_t step)
{
    BEHIND(lane, staged, step);
}

static uint32_t behind_reducing(const car_lane_t *lane, uint64_t step)
{
    BEHIND(lane, reduced, step);
}

static uint32_t behind_ending(const car_lane_t *lane, uint64_t step) { BEHIND(lane, done, step); }

uint32_t car_lane_step_missing(const car_lane_t *lane, const char **phase)
{
    const uint32_t others = ~(UINT32_C(1) << lane->rank);
    uint32_t missing = 0;

    if (lane->gather_next
        <= atomic_load_explicit(&words(lane, lane->rank)->reduced, memory_order_relaxed)) {
        *phase = "until all have reduced their shares";
        missing = others & behind_reducing(lane, lane->gather_next);
    }
    if (0 == missing && lane->reduce_next < lane->stage_next) {
        *phase = "until all operands are there";
        missing = others & behind_staging(lane, lane->reduce_next);
    }
    if (0 == missing && lane->stage_next > CAR_LANE_STEPS && lane->stage_next <= lane->steps) {
        *phase = "until memory of an earlier step is free";
        missing = others & behind_ending(lane, lane->stage_next - CAR_LANE_STEPS);
    }
    return missing;
}

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

/*
 * Launches a fold of `count` elements, whose arrays stand in `args`, with at most so many blocks;
 * *ticket is what to wait for.
 */
static bool fold_with(car_lane_t *lane, const car_call_t *op, uint64_t count, uint32_t blocks,
                      car_fold_args_t *args, uint32_t *ticket)
{
    const car_comm_t *comm = lane->comm;
    const uint32_t threads = comm->limits.threads;
    const uint64_t packs = count * op->reduction.element / CAR_PACK_BYTES + 1,
                   all = (packs + threads - 1) / threads;

    lane->ticket += 0 == lane->ticket + 1 ? 2 : 1; /* never 0 */
    args->what = car_elements_of(&op->reduction, count);
    args->ended = (uint32_t *) (uintptr_t) (comm->home[lane->rank] + comm->queue_offset
                                            + (size_t) lane->index * sizeof(uint32_t));
    args->done = (uint64_t *) (uintptr_t) (comm->device->host_words_on_device
                                           + (size_t) lane->word * sizeof(car_host_word_t));
    args->ticket = *ticket = lane->ticket;
    const CUresult result =
        car_launch(comm->device->cuda, comm->launch, &lane->graphs[op->reduction.kernel],
                   comm->device->functions[CAR_FOLD][op->reduction.kernel],
                   all < blocks ? (uint32_t) all : blocks, threads, lane->stream, args);
    return CUDA_SUCCESS == result || car_lane_broken(lane, "launching a kernel", result);
}

/* The same with this rank's part of the GPU. */
static bool fold(car_lane_t *lane, const car_call_t *op, uint64_t count, car_fold_args_t *args,
                 uint32_t *ticket)
{
    return fold_with(lane, op, count, lane->comm->limits.blocks, args, ticket);
}

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

/* --- the host's own copies -------------------------------------------------------------------- */

/*
 * There may be no comm to break. Where the ranks have just agreed to leave all later calls to the
 * saved module, some may do so already, and would wait there for those that have heard of a break:
 * so nothing is broken, the call goes on, and it and all later ones end in an error, as those do
 * that are left to the saved module (protocol.md, "Spoiled"). True then.
 */
static bool host_broken(car_lane_t *lane, car_call_t *op, const char *what)
{
    char reason[CAR_REASON_BYTES];

    op->failed = true;
    snprintf(reason, sizeof(reason), "rank %d: %s", lane->rank, what);
    if (lane->off) {
        car_control_spoil(lane->control, reason);
        return true;
    }
    lane->broken = true;
    car_control_break(lane->control, CAR_FAULT_DRIVER, reason);
    return false;
}

/* To or from a chunk of the control segment. False: broken. */
static bool copy_host(car_lane_t *lane, car_call_t *op, void *to, const void *from, size_t bytes,
                      const car_buffer_t *buffer)
{
    if (CAR_MEMORY_DEVICE != buffer->memory) {
        memcpy(to, from, bytes);
        return true;
    }
    return CUDA_SUCCESS == car_buffer_copy(car_cuda(), to, from, bytes, buffer)
           || host_broken(lane, op, "copying between a device buffer and host memory failed");
}

static bool chunk_in(car_lane_t *lane, car_call_t *op, uint64_t step)
{
    const part_t part = part_of(op, step);
    const size_t element = op->reduction.element;

    return copy_host(lane, op, car_control_chunk(lane->control, step, lane->rank),
                     (const char *) op->input.address + part.start * element, part.count * element,
                     &op->input);
}

/*
 * Results to the user's buffer, from `start` on in the call; where elements have gaps, around
 * these.
 */
static bool results_out(car_lane_t *lane, car_call_t *op, uint64_t start, uint64_t count,
                        const char *results)
{
    const size_t element = op->reduction.element, bytes = count * element;
    char *to = (char *) op->output.address + start * element;
    char *merged;

    if (CAR_NO_GAPS == op->reduction.data || 0 == bytes) {
        return copy_host(lane, op, to, results, bytes, &op->output);
    }
    merged = malloc(bytes);
    if (NULL == merged) {
        return host_broken(lane, op, "no host memory for a result");
    }
    bool copied = copy_host(lane, op, merged, to, bytes, &op->output);
    for (size_t i = 0; i < bytes && copied; ++i) {
        if (0 != (op->reduction.data >> i % CAR_PACK_BYTES & 1)) {
            merged[i] = results[i];
        }
    }
    copied = copied && copy_host(lane, op, to, merged, bytes, &op->output);
    free(merged);
    return copied;
}

/*
 * Folds elements of all ranks' chunks into this rank's own chunk, or beside it, where others still
 * read that.
 */
static void chunks_fold(const car_lane_t *lane, const car_call_t *op, uint64_t step, part_t part,
                        char *result)
{
    const void *operands[CAR_MAX_RANKS];

    for (int r = 0; r < lane->size; ++r) {
        operands[r] = (const char *) car_control_chunk(lane->control, step, r)
                      + part.start * op->reduction.element;
    }
    if (part.count > 0) {
        op->fold(op->fold_context, operands, lane->size, part.count, result);
    }
}

/* --- stage ------------------------------------------------------------------------------------ */

static bool stage_on_device(car_lane_t *lane, car_call_t *op, uint64_t step, uint32_t *ticket)
{
    const part_t part = part_of(op, step);
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

static bool stage(car_lane_t *lane)
{
    const uint64_t step = lane->stage_next;
    uint32_t *ticket = &lane->stage_ticket[step % CAR_LANE_STEPS];

    if (step > lane->steps
        || (step > CAR_LANE_STEPS && !car_lane_all_done(lane, step - CAR_LANE_STEPS))) {
        return false;
    }
    car_call_t *op = op_of(lane, step);
    *ticket = 0;
    if (CAR_PATH_HOST == op->path) {
        if (!chunk_in(lane, op, step)) {
            return false;
        }
    } else {
        if (!car_lane_driver(lane)) {
            return false;
        }
        const bool ready =
            settle(lane, op)
            && (CAR_PATH_ZERO_COPY == op->path || stage_on_device(lane, op, step, ticket));
        if (!ready) {
            return false;
        }
    }
    ++lane->stage_next;
    return true;
}

static bool tell_staged(car_lane_t *lane)
{
    const uint64_t step = lane->staged + 1;

    if (step >= lane->stage_next
        || !car_lane_reached(lane, lane->stage_ticket[step % CAR_LANE_STEPS])) {
        return false;
    }
    lane->staged = step;
    atomic_store_explicit(&words(lane, lane->rank)->staged, step, memory_order_release);
    return true;
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

static part_t share_of_zero_copy(const car_lane_t *lane, const car_call_t *op)
{
    const car_comm_t *comm = lane->comm;
    const bool alone = by_one(lane, op);
    const int turn = comm->takes_turns ? 0 : (int) (op->number % (uint64_t) comm->size);
    const int index = alone ? (turn == comm->rank ? 0 : -1) : comm->share[comm->rank];

    return index < 0 ? (part_t){0, 0}
                     : share_number(op, op->count, index, alone ? 1 : comm->shares);
}

static bool reduce_zero_copy(car_lane_t *lane, const car_call_t *op, uint32_t *ticket)
{
    const part_t share = share_of_zero_copy(lane, op);
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
    const part_t part = part_of(op, step);
    const part_t mine =
        lane->shares ? share_of(lane, op, part.count, lane->rank) : (part_t){0, part.count};
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

static bool reduce_on_host(car_lane_t *lane, car_call_t *op, uint64_t step)
{
    const part_t part = part_of(op, step);

    if (by_shares(lane, op)) {
        const part_t mine = share_of(lane, op, part.count, lane->rank);
        chunks_fold(lane, op, step, mine,
                    (char *) car_control_chunk(lane->control, step, lane->rank)
                        + mine.start * op->reduction.element);
        return true;
    }
    _Alignas(CAR_PACK_BYTES) char beside[CAR_SHARE_LEAST * CAR_MAX_RANKS];
    chunks_fold(lane, op, step, (part_t){0, part.count}, beside);
    return results_out(lane, op, part.start, part.count, beside);
}

static bool reduce(car_lane_t *lane)
{
    const uint64_t step = lane->reduce_next;
    uint32_t *ticket = &lane->reduce_ticket[step % CAR_LANE_STEPS];
    bool launched = true;

    if (step >= lane->stage_next) {
        return false;
    }
    car_call_t *op = op_of(lane, step);
    /*
     * Records of zero copy say as much as its counter would: who has posted one has his buffers
     * ready.
     */
    if (!(lane->records && CAR_PATH_ZERO_COPY == op->path) && !car_lane_all_staged(lane, step)) {
        return false;
    }
    *ticket = 0;
    if (CAR_PATH_HOST == op->path) {
        launched = reduce_on_host(lane, op, step);
    } else {
        if (!car_lane_driver(lane)) {
            return false;
        }
        launched = CAR_PATH_ZERO_COPY == op->path ? reduce_zero_copy(lane, op, ticket)
                                                  : reduce_staged(lane, op, step, ticket);
    }
    lane->reduce_next += launched ? 1 : 0;
    return launched;
}

static bool tell_reduced(car_lane_t *lane)
{
    const uint64_t step = lane->reduced + 1;

    if (step >= lane->reduce_next
        || !car_lane_reached(lane, lane->reduce_ticket[step % CAR_LANE_STEPS])) {
        return false;
    }
    lane->reduced = step;
    atomic_store_explicit(&words(lane, lane->rank)->reduced, step, memory_order_release);
    return true;
}

/* --- gather ----------------------------------------------------------------------------------- */

static bool gather_on_host(car_lane_t *lane, car_call_t *op, uint64_t step)
{
    const part_t part = part_of(op, step);
    bool out = true;

    for (int r = 0; r < lane->size && out; ++r) {
        const part_t share = share_of(lane, op, part.count, r);
        out = 0 == share.count
              || results_out(lane, op, part.start + share.start, share.count,
                             (const char *) car_control_chunk(lane->control, step, r)
                                 + share.start * op->reduction.element);
    }
    return out;
}

/*
 * Results to the user: by a kernel where those were shares, by a copy where kernels cannot reach
 * his buffer.
 */
static bool gather_on_device(car_lane_t *lane, car_call_t *op, uint64_t step, uint32_t *ticket)
{
    const bool usable = car_comm_usable(lane->comm, &op->output, op->reduction.alignment);
    const part_t part = part_of(op, step);
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

static bool gather(car_lane_t *lane)
{
    const uint64_t step = lane->gather_next;

    if (step > lane->reduced) {
        return false;
    }
    car_call_t *op = op_of(lane, step);
    if (by_shares(lane, op) && !all_reduced(lane, step)) {
        return false;
    }
    uint32_t *ticket = &lane->gather_ticket[step % CAR_LANE_STEPS];
    *ticket = 0;
    if (CAR_PATH_HOST == op->path) {
        if (by_shares(lane, op) && !gather_on_host(lane, op, step)) {
            return false;
        }
    } else if (!gather_on_device(lane, op, step, ticket)) {
        return false;
    }
    ++lane->gather_next;
    return true;
}

static bool tell_done(car_lane_t *lane)
{
    const uint64_t step = lane->done + 1;

    if (step >= lane->gather_next
        || !car_lane_reached(lane, lane->gather_ticket[step % CAR_LANE_STEPS])) {
        return false;
    }
    lane->done = step;
    atomic_store_explicit(&words(lane, lane->rank)->done, step, memory_order_release);
    if (step == lane->first->first_step + lane->first->steps - 1) {
        car_lane_end_first(lane, lane->off && car_control_spoiled(lane->control));
    }
    return true;
}

/* Latest phases first: what they free is wanted by the others. */
bool car_lane_step(car_lane_t *lane)
{
    bool moved = false;

    if (NULL == lane->first || lane->broken) {
        return false;
    }
    moved = gather(lane);
    moved = (!lane->broken && tell_done(lane)) || moved;
    if (NULL == lane->first || lane->broken) {
        return moved;
    }
    moved = tell_reduced(lane) || moved;
    moved = reduce(lane) || moved;
    moved = tell_staged(lane) || moved;
    return (!lane->broken && stage(lane)) || moved;
}
