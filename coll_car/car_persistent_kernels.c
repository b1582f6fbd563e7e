/*
 * Persistent requests that kernels do which wait for each other: launched at each start, again for
 * late peers, and from the first epoch when the last has come.
 */
#include "car_persistent_parts.h"

#include "car_clock.h"
#include "car_grow.h"
#include "car_pending.h"

/* How often a request that is under way asks the driver whether its kernel has failed. */
#define CAR_LOOK_POLLS 64
#define CAR_LOOK_NS 1000000

bool car_persistent_broken(car_persistent_t *p, const char *what, CUresult result)
{
    if (!p->failed) {
        car_comm_broken(p->comm, what, result);
    }
    p->failed = true;
    return false;
}

bool car_persistent_prepare_kernels(car_persistent_t *p)
{
    car_comm_t *branch = &p->branch;
    const car_cuda_t *cuda = p->comm->device->cuda;
    const car_reduction_t *reduction = &p->call.reduction;

    *branch = *p->comm;
    branch->stream = NULL;
    branch->foreseen.graph = NULL;
    branch->word = -1;
    branch->epoch = branch->params->first_epoch;
    branch->ticket = 0;
    branch->piece_bytes =
        car_layout_for(&branch->limits, p->call.count, reduction->element, reduction->unit);
    car_devices_lock();
    if (branch->piece_bytes <= car_grow_offered(branch, CAR_NO_PIECE, branch->piece_bytes)
        && car_arena_take(&branch->device->arena, branch->piece_bytes, CAR_ARENA_HIGH,
                          &branch->piece_offset)) {
        p->piece = branch->piece_offset;
        branch->word = car_device_take_word(branch->device);
    }
    car_devices_unlock();
    if (branch->word < 0
        || CUDA_SUCCESS
               != cuda->StreamCreateWithPriority(&branch->stream, CU_STREAM_NON_BLOCKING,
                                                 branch->device->priority)) {
        return false;
    }
    branch->peer[branch->rank].piece = branch->device->memory + branch->piece_offset;
    return CUDA_SUCCESS == car_comm_clear(branch);
}

void car_persistent_finish_kernels(car_persistent_t *p, const car_persistent_verdict_t *all)
{
    const car_call_t *call = &p->call;

    for (int r = 0; r < p->branch.size; ++r) {
        p->branch.peer[r].piece = p->branch.peer[r].memory + all[r].offset;
    }
    p->plan = car_plan_make(&p->branch.limits, call->count, call->reduction.element,
                            call->reduction.unit);
    car_comm_fill_args(&p->branch, &p->plan, &call->input, &call->output, call->count,
                       &call->reduction, &p->args);
}

static bool launch(car_persistent_t *p, bool again)
{
    car_comm_t *branch = &p->branch;
    car_cuda_guard_t guard;
    CUresult result = car_device_lost(branch->device)
                          ? CUDA_ERROR_CONTEXT_IS_DESTROYED
                          : car_cuda_enter(branch->device->cuda, branch->device->context, &guard);

    if (CUDA_SUCCESS != result) {
        return car_persistent_broken(p, "making the communicator's context current", result);
    }
    if (!again) {
        result =
            car_comm_settle(branch, branch->stream, &p->call.input, &p->call.output, false, false);
        p->args.epoch = p->args.first = branch->epoch;
        p->args.end = branch->epoch += (uint32_t) p->plan.rounds;
    } else {
        CAR_COUNT(branch->counters->relaunches, 1);
    }
    p->args.resume = again;
    p->args.ticket = ++branch->ticket;
    p->state = UNDER_WAY;
    if (CUDA_SUCCESS == result) {
        result =
            car_comm_launch(branch, &p->graph, &p->plan, p->call.reduction.kernel, &p->args);
    }
    car_cuda_leave(branch->device->cuda, &guard);
    return CUDA_SUCCESS == result
           || car_persistent_broken(p, "launching the allreduce kernel", result);
}

/*
 * The last epochs, as in docs/protocol.md, but nobody waits: a rank that has ended all starts
 * before says so (staged), and when all have, clears its memory and says that (reduced); when all
 * have, exchanges begin again at 1.
 */
static bool renew(car_persistent_t *p)
{
    car_cuda_guard_t guard;

    if (CLEARING == p->state) {
        for (int r = 0; r < p->branch.size; ++r) {
            if (atomic_load_explicit(&car_persistent_words(p, r)->staged, memory_order_acquire)
                < p->renewals) {
                return false;
            }
        }
        const car_cuda_t *cuda = p->branch.device->cuda;
        CUresult result = car_cuda_enter(cuda, p->branch.device->context, &guard);
        if (CUDA_SUCCESS == result) {
            result = car_comm_clear(&p->branch);
            car_cuda_leave(cuda, &guard);
        }
        if (CUDA_SUCCESS != result) {
            return car_persistent_broken(p, "clearing device memory", result);
        }
        p->state = CLEARED;
        atomic_store_explicit(&car_persistent_words(p, p->branch.rank)->reduced, p->renewals,
                              memory_order_release);
    }
    for (int r = 0; r < p->branch.size; ++r) {
        if (atomic_load_explicit(&car_persistent_words(p, r)->reduced, memory_order_acquire)
            < p->renewals) {
            return false;
        }
    }
    p->branch.epoch = 1;
    return launch(p, false);
}

void car_persistent_start_kernels(car_persistent_t *p)
{
    if (p->branch.epoch + p->plan.rounds > UINT32_MAX) {
        p->state = CLEARING;
        ++p->renewals;
        atomic_store_explicit(&car_persistent_words(p, p->branch.rank)->staged, p->renewals,
                              memory_order_release);
        return;
    }
    (void) launch(p, false);
}

/* While the kernel runs: what the next start will need, and now and then whether it has failed. */
static void look(car_persistent_t *p)
{
    car_cuda_guard_t guard;
    const car_cuda_t *cuda = p->branch.device->cuda;

    if (car_launch_wants_preparing(&p->branch.foreseen)
        && CUDA_SUCCESS == car_cuda_enter(cuda, p->branch.device->context, &guard)) {
        car_launch_prepare(cuda, &p->branch.foreseen);
        car_cuda_leave(cuda, &guard);
    }
    if (0 != ++p->polls % CAR_LOOK_POLLS) {
        return;
    }
    const uint64_t now = car_now();
    if (now - p->looked_ns < CAR_LOOK_NS
        || CUDA_SUCCESS != car_cuda_enter(cuda, p->branch.device->context, &guard)) {
        return;
    }
    p->looked_ns = now;
    const CUresult result = cuda->StreamQuery(p->branch.stream);
    if (CUDA_SUCCESS != result && CUDA_ERROR_NOT_READY != result) {
        (void) car_persistent_broken(p, "the allreduce kernel failed", result);
    }
    car_cuda_leave(cuda, &guard);
}

/* The ranks that have not begun this start. */
static uint32_t not_started(const car_persistent_t *p)
{
    uint32_t missing = 0;

    for (int r = 0; r < p->branch.size; ++r) {
        const uint64_t entered =
            atomic_load_explicit(&car_persistent_words(p, r)->entered, memory_order_acquire);
        missing |= (uint32_t) (entered < p->starts) << r;
    }
    return missing;
}

/*
 * This start waits for others: whether those are still there. Kernels do not say whose data they
 * lack.
 */
static void watch(car_persistent_t *p)
{
    const uint32_t late = not_started(p), others = ((UINT32_C(1) << p->branch.size) - 1)
                                                   & ~(UINT32_C(1) << p->branch.rank);
    const car_wait_t wait = {.kind = CAR_WAIT_START,
                             .number = p->starts,
                             .phase = 0 != late ? "before all have started it"
                                                : "after all have started it",
                             .missing = 0 != late ? late : others};

    (void) car_watch_ask(&p->watch, p->comm->control, &wait);
}

bool car_persistent_poll_kernels(car_persistent_t *p)
{
    if (CLEARING == p->state || CLEARED == p->state) {
        if (!renew(p) && car_watch_due(&p->watch)) {
            watch(p);
        }
        return false;
    }
    if (LEFT == p->state) {
        if (0 == not_started(p)) {
            (void) launch(p, true);
        }
        if (car_watch_due(&p->watch)) {
            watch(p);
        }
        return false;
    }
    uint32_t left;
    if (!car_host_word_reached(&p->branch.device->host_words[p->branch.word], p->args.ticket,
                               p->plan.blocks, &left)) {
        look(p);
        return false;
    }
    if (0 != left) {
        p->state = LEFT;
        return false;
    }
    car_comm_count(&p->branch, &p->plan);
    return true;
}
