#include "coll_car_module.h"

#include "coll_car_bounce.h"
#include "coll_car_progress.h"
#include "coll_car_request.h"
#include "coll_car_types.h"

/* --- leaving a call to the saved module ------------------------------------------------------- */

static int saved_allreduce(mca_coll_car_module_t *module, const void *sbuf, void *rbuf,
                           coll_car_count_t count, struct ompi_datatype_t *dtype,
                           struct ompi_op_t *op)
{
    return module->saved.allreduce.function(sbuf, rbuf, count, dtype, op, module->comm,
                                            module->saved.allreduce.module);
}

/*
 * The saved module sees host memory only. Whether the copies work is this rank's affair, the call
 * is everybody's: it is made in any case, and the error returned afterwards, on all ranks if an
 * operand was missing. Only without host memory for the copy it cannot be made: then the other
 * ranks wait for this one, as they would for one that had died, and the error should end the job.
 */
static int bounced_allreduce(mca_coll_car_module_t *module, const car_cuda_t *cuda,
                             const car_buffer_t *input, const car_buffer_t *output,
                             coll_car_count_t count, struct ompi_datatype_t *dtype,
                             struct ompi_op_t *op)
{
    coll_car_bounce_t bounce;

    CAR_COUNT(mca_coll_car_component.counters.calls_bounced, 1);
    int rc = coll_car_bounce_take(&bounce, cuda, input, output, count, dtype);
    if (OMPI_SUCCESS != rc) {
        return rc;
    }
    bool copied = coll_car_bounce_in(&bounce);
    if (!copied) {
        coll_car_spoil(module);
    }
    rc = saved_allreduce(module, bounce.sbuf, bounce.rbuf, count, dtype, op);
    if (OMPI_SUCCESS == rc) {
        copied = coll_car_bounce_out(&bounce) && copied;
    }
    coll_car_bounce_give(&bounce);
    return OMPI_SUCCESS == rc && !copied ? OMPI_ERROR : rc;
}

/*
 * Whether the saved module cannot take the buffer as it is. Open MPI's own staging component fails
 * on memory that belongs to no context (pools, cuMemCreate) if Open MPI has looked at a buffer
 * before CUDA was initialised.
 */
static bool needs_bounce(const mca_coll_car_module_t *module, const car_buffer_t *buffer)
{
    return CAR_MEMORY_DEVICE == buffer->memory
           && (!coll_car_saved_takes_device(&module->saved) || NULL == buffer->context);
}

static int forward(mca_coll_car_module_t *module, const void *sbuf, void *rbuf,
                   coll_car_count_t count, struct ompi_datatype_t *dtype, struct ompi_op_t *op)
{
    const car_cuda_t *cuda = module->no_device_memory ? NULL : car_cuda();

    CAR_COUNT(mca_coll_car_component.counters.calls_forwarded, 1);
    if (NULL != cuda && 0 != count) {
        const car_buffer_t output = car_buffer_look(cuda, rbuf);
        const car_buffer_t input = MPI_IN_PLACE == sbuf ? output : car_buffer_look(cuda, sbuf);
        if (needs_bounce(module, &input) || needs_bounce(module, &output)) {
            return bounced_allreduce(module, cuda, MPI_IN_PLACE == sbuf ? NULL : &input, &output,
                                     count, dtype, op);
        }
    }
    return saved_allreduce(module, sbuf, rbuf, count, dtype, op);
}

int coll_car_forward(mca_coll_car_module_t *module, const void *sbuf, void *rbuf,
                     coll_car_count_t count, struct ompi_datatype_t *dtype, struct ompi_op_t *op)
{
    const int rc = forward(module, sbuf, rbuf, count, dtype, op);
    return OMPI_SUCCESS == rc && coll_car_is_spoiled(module) ? OMPI_ERROR : rc;
}

/* --- the kinds of buffers that the ranks bring ------------------------------------------------ */

typedef struct {
    bool device;  /* some rank brings device memory */
    bool context; /* every rank read so far has a CUDA context */
    bool broken;  /* the communicator is */
} kinds_t;

/* Looks at a line between two calls of opal_progress(), which costs more than they do. */
#define LINE_POLLS 32

static uint32_t not_posted(const mca_coll_car_module_t *module)
{
    uint32_t missing = 0;
    car_line_t line;

    for (int r = 0; r < ompi_comm_size(module->comm); ++r) {
        missing |= (uint32_t) !car_control_posted(module->control, module->call, r, &line) << r;
    }
    return missing;
}

/* Waits for rank r's line; false once the communicator is broken. */
static bool wait_for_line(mca_coll_car_module_t *module, int r, car_line_t *line,
                          car_watch_t *watch)
{
    for (unsigned int polls = 1; !car_control_posted(module->control, module->call, r, line);
         ++polls) {
        if (0 != polls % LINE_POLLS) {
            continue;
        }
        if (car_control_broken(module->control) >= 0) {
            return false;
        }
        coll_car_progress();
        if (car_watch_due(watch)) {
            const car_wait_t wait = {CAR_WAIT_CALL, module->call, "before all have entered it",
                                     not_posted(module), 0};
            (void) car_watch_ask(watch, module->control, &wait);
        }
    }
    return true;
}

/*
 * Reads the lines of all ranks, or only until one says device memory, and compares what they say of
 * the call.
 */
static kinds_t read_lines(mca_coll_car_module_t *module, const car_what_t *what, bool all)
{
    kinds_t seen = {.device = false, .context = true};
    const int size = ompi_comm_size(module->comm);
    car_watch_t watch = {0};

    for (int r = 0; r < size && (all || !seen.device) && !seen.broken; ++r) {
        car_line_t line;
        seen.broken =
            !wait_for_line(module, r, &line, &watch)
            || !car_watch_agree(module->control, CAR_WAIT_CALL, module->call, what, r, &line.what);
        seen.device = seen.device || line.device;
        seen.context = seen.context && line.context;
    }
    return seen;
}

/* What one call is about, once its buffers have been looked at. */
typedef struct {
    const void *sbuf; /* as the caller gave them */
    void *rbuf;
    coll_car_count_t count;
    struct ompi_datatype_t *dtype;
    struct ompi_op_t *op;
    const car_buffer_t *input; /* NULL: in place */
    const car_buffer_t *output;
    const coll_car_reduction_t *found;
    bool device;
} call_t;

static CUdeviceptr device_address(const call_t *call)
{
    if (NULL != call->input && CAR_MEMORY_HOST != call->input->memory) {
        return (CUdeviceptr) (uintptr_t) call->input->address;
    }
    return CAR_MEMORY_HOST != call->output->memory ? (CUdeviceptr) (uintptr_t) call->output->address
                                                   : 0;
}

static uint64_t elements_of(const call_t *call)
{
    return (uint64_t) call->count * call->found->per_element;
}

static size_t bytes_of(const call_t *call)
{
    return elements_of(call) * call->found->reduction.element;
}

/* What of an operand is folded at a time: several ranks' fit the first-level cache. */
#define FOLD_BYTES 4096

/*
 * Open MPI's operations leave in `next` what (acc, next) comes to, so the operands are copied
 * beside, in turn to one place and the other, and no operand is written before all have been read.
 */
void coll_car_fold(const void *fold, const void *const operand[], int operands, size_t elements,
                   void *result)
{
    const coll_car_fold_t *f = fold;
    _Alignas(64) char beside[2][FOLD_BYTES];
    /* with its gaps */
    const size_t bytes = elements * f->element,
                 size = (size_t) (f->one->super.ub - f->one->super.lb);
    const size_t most = FOLD_BYTES / size * size;

    for (size_t at = 0; at < bytes; at += most) {
        const size_t part = bytes - at < most ? bytes - at : most;
        void *acc = (char *) operand[0] + at;
        for (int r = 1; r < operands; ++r) {
            void *next = beside[r % 2];
            memcpy(next, (const char *) operand[r] + at, part);
            ompi_op_reduce(f->op, acc, next, (coll_car_count_t) (part / size), f->one);
            acc = next;
        }
        memmove((char *) result + at, acc, part);
    }
}

/*
 * A call that fits goes through the control segment if all ranks bring host memory. All ranks
 * answer alike.
 */
static bool fits_control(const mca_coll_car_module_t *module, const call_t *call)
{
    const size_t bytes = bytes_of(call);

    return bytes <= module->host_max && bytes <= car_control_room(module->control)
           && CAR_NO_GAPS == call->found->reduction.data;
}

typedef enum { TO_KERNELS, TO_CONTROL, TO_SAVED, TO_NOBODY } where_t;

/*
 * Posts this rank's line, with its operand if that is small and in host memory, and decides with
 * all others where the call goes: to nobody if the communicator has broken. Sets the communicator
 * up on the first call with device memory.
 */
static where_t where_to(mca_coll_car_module_t *module, const call_t *call)
{
    const bool active = COLL_CAR_ACTIVE == module->state, fits = fits_control(module, call);
    car_control_t *control = module->control;

    ++module->call;
    if (fits && !call->device) {
        memcpy(car_control_payload(control, module->call, ompi_comm_rank(module->comm)),
               NULL == call->input ? call->rbuf : call->sbuf, bytes_of(call));
    }
    const car_line_t mine = {.device = call->device,
                             .context = active || car_cuda_in_use(),
                             .what = car_what_of(elements_of(call), &call->found->reduction)};
    car_control_post(control, module->call, mine);
    if (active && call->device) {
        return TO_KERNELS;
    }
    const kinds_t seen = read_lines(module, &mine.what, !active);
    if (seen.broken) {
        return TO_NOBODY;
    }
    if (!seen.device) {
        return fits ? TO_CONTROL : TO_SAVED;
    }
    if (!active && seen.context) {
        coll_car_activate(module, device_address(call));
    }
    return COLL_CAR_ACTIVE == module->state   ? TO_KERNELS
           : COLL_CAR_BROKEN == module->state ? TO_NOBODY
                                              : TO_SAVED;
}

/* All operands stand in the control segment: every rank folds them. */
static void fold_in_control(mca_coll_car_module_t *module, const call_t *call)
{
    const coll_car_fold_t fold = {call->op, call->found->one, call->found->reduction.element};
    const void *operands[CAR_MAX_RANKS] = {car_control_payload(module->control, module->call, 0)};

    for (int r = 1; r < ompi_comm_size(module->comm); ++r) {
        operands[r] = car_control_payload(module->control, module->call, r);
    }
    coll_car_fold(&fold, operands, ompi_comm_size(module->comm), bytes_of(call) / fold.element,
                  call->rbuf);
    CAR_COUNT(mca_coll_car_component.counters.calls_host_small, 1);
}

/* --- calls that the host takes from phase to phase -------------------------------------------- */

/* After so many small calls whose buffers had not come before, the next so many do not ask. */
#define STRANGERS 16
#define STRANGERS_PAUSE 256

/*
 * After a call for which all ranks had kernels that stay, so many small ones do not ask whether
 * they still have: who has not launches one. What asking costs (about 1 us) is up to a quarter of
 * such a call. One that takes several rounds with the present piece exchanges it then.
 */
#define QUICK 31

/*
 * Whether a call goes to the lane first: it may be zero copy, or kernels may not wait for each
 * other. The same on all ranks: what a call came to they all know.
 */
static bool for_lane(mca_coll_car_module_t *module, const call_t *call)
{
    const car_comm_t *engine = module->engine;
    const size_t bytes = bytes_of(call);

    if (engine->takes_turns) {
        return true;
    }
    if (0 == engine->zero_copy_min || bytes < engine->zero_copy_again
        || CAR_ALGORITHM_AUTO != engine->limits.algorithm) {
        return false;
    }
    if (1 == module->call % CAR_PACE_FRESH) {
        /*
         * what calls take without such kernels is learnt anew now: that is what they would do, zero
         * copy
         */
        module->quick = 0;
    }
    if (module->quick > 0 && car_comm_is_small(engine, bytes) && bytes <= engine->limits.push_max) {
        --module->quick;
        return false;
    }
    if (bytes < engine->zero_copy_min && module->strangers >= STRANGERS) {
        module->strangers =
            module->strangers < STRANGERS + STRANGERS_PAUSE ? module->strangers + 1 : 0;
        return false;
    }
    return true;
}

/* Does the call in the lane, or finds with all ranks that it is not for that: CAR_PATH_NONE. */
static car_path_t lane_allreduce(mca_coll_car_module_t *module, const call_t *call, bool *failed)
{
    const coll_car_fold_t fold = {call->op, call->found->one, call->found->reduction.element};
    car_lane_t *lane = &module->calls;
    car_call_t op = {.input = NULL == call->input ? *call->output : *call->input,
                   .output = *call->output,
                   .count = elements_of(call),
                   .reduction = call->found->reduction,
                   .fold = coll_car_fold,
                   .fold_context = &fold,
                   .call = module->call};

    if (lane->comm->takes_turns && !car_lane_use_piece(lane, bytes_of(call))) {
        *failed = true;
        return CAR_PATH_STAGED;
    }
    car_lane_enter(lane, &op);
    car_lane_finish(lane, &op, coll_car_progress);
    lane->ended = NULL;
    *failed = op.failed;
    coll_car_count(&op);
    if (op.quick) {
        module->quick = QUICK;
    } else {
        module->strangers = CAR_PATH_ZERO_COPY == op.path ? 0 : module->strangers + 1;
    }
    if (CAR_PATH_NONE != op.path) {
        car_comm_small_ended(module->engine);
    }
    return op.path;
}

/* `other` is what is left of a call that kernels have served when its phases are subtracted. */
static void count_time(uint64_t before, uint64_t entered, uint64_t posted)
{
    car_counters_t *c = &mca_coll_car_component.counters;
    const uint64_t all = car_timing_now(&mca_coll_car_component.params) - entered,
                   post = posted - entered;
    const uint64_t phases = post + c->ns_launch + c->ns_wait - before;

    CAR_COUNT(c->ns_post, post);
    CAR_COUNT(c->ns_other, all > phases ? all - phases : 0);
}

/* The communicator has broken in this call, or before it. */
static int broken(mca_coll_car_module_t *module)
{
    (void) coll_car_is_broken(module);
    return coll_car_error(module);
}

static int watched_allreduce(mca_coll_car_module_t *module, const void *sbuf, void *rbuf,
                             coll_car_count_t count, struct ompi_datatype_t *dtype,
                             struct ompi_op_t *op, const coll_car_reduction_t *found)
{
    const uint64_t entered = car_timing_now(&mca_coll_car_component.params);
    const uint64_t before =
        mca_coll_car_component.counters.ns_launch + mca_coll_car_component.counters.ns_wait;
    const car_cuda_t *cuda = car_cuda();
    const bool in_place = MPI_IN_PLACE == sbuf || sbuf == rbuf;
    const car_buffer_t output = car_buffer_look(cuda, rbuf);
    const car_buffer_t input = in_place ? output : car_buffer_look(cuda, sbuf);
    const call_t call = {.sbuf = sbuf,
                         .rbuf = rbuf,
                         .count = count,
                         .dtype = dtype,
                         .op = op,
                         .input = in_place ? NULL : &input,
                         .output = &output,
                         .found = found,
                         .device =
                             CAR_MEMORY_HOST != input.memory || CAR_MEMORY_HOST != output.memory};
    bool failed;

    switch (where_to(module, &call)) {
    case TO_CONTROL:
        fold_in_control(module, &call);
        return OMPI_SUCCESS;
    case TO_SAVED:
        if (!call.device) {
            CAR_COUNT(mca_coll_car_component.counters.calls_host, 1);
            return saved_allreduce(module, sbuf, rbuf, count, dtype, op);
        }
        return coll_car_forward(module, sbuf, rbuf, count, dtype, op);
    case TO_NOBODY:
        return broken(module);
    default:
        break;
    }
    const uint64_t posted = car_timing_now(&mca_coll_car_component.params);
    if (for_lane(module, &call) && CAR_PATH_NONE != lane_allreduce(module, &call, &failed)) {
        return failed ? broken(module) : OMPI_SUCCESS;
    }
    if (!car_comm_allreduce(module->engine, module->call, call.input, call.output,
                            elements_of(&call), &found->reduction)) {
        return broken(module);
    }
    if (OPAL_UNLIKELY(mca_coll_car_component.params.timing)) {
        count_time(before, entered, posted);
    }
    return OMPI_SUCCESS;
}

int mca_coll_car_allreduce(const void *sbuf, void *rbuf, coll_car_count_t count,
                           struct ompi_datatype_t *dtype, struct ompi_op_t *op,
                           struct ompi_communicator_t *comm, mca_coll_base_module_t *base)
{
    mca_coll_car_module_t *module = (mca_coll_car_module_t *) base;
    coll_car_reduction_t found;
    bool known;

    (void) comm;
    if (OPAL_LIKELY(COLL_CAR_OFF == module->state && module->firm)) {
        /* On a node without a GPU this is all that coll/car costs. */
        return module->no_device_memory ? saved_allreduce(module, sbuf, rbuf, count, dtype, op)
                                        : coll_car_forward(module, sbuf, rbuf, count, dtype, op);
    }
    if (OPAL_UNLIKELY(!module->firm || module->behind)) {
        coll_car_catch_up(module);
    }
    if (coll_car_is_broken(module)) {
        return coll_car_error(module);
    }
    if (0 == count || !coll_car_find_reduction(dtype, op, &found, &known)) {
        return coll_car_forward(module, sbuf, rbuf, count, dtype, op);
    }
    if (COLL_CAR_ASLEEP == module->state) {
        const int rc = coll_car_wake(module);
        if (OMPI_SUCCESS != rc) {
            return rc;
        }
    }
    if (COLL_CAR_OFF == module->state || (found.ready_made && (!module->ready_made || !known))) {
        return coll_car_forward(module, sbuf, rbuf, count, dtype, op);
    }
    return watched_allreduce(module, sbuf, rbuf, count, dtype, op, &found);
}
