#include "coll_car_module.h"

#include <stdlib.h>

#include "coll_car_types.h"

/* --- leaving a call to the saved module ---------------------------------------------------------------------- */

static int saved_allreduce(mca_coll_car_module_t *module, const void *sbuf, void *rbuf, coll_car_count_t count,
                           struct ompi_datatype_t *dtype, struct ompi_op_t *op)
{
    return module->saved.function(sbuf, rbuf, count, dtype, op, module->comm, module->saved.module);
}

/* A copy of a device buffer in host memory. */
typedef struct {
    void *memory;
    bool pinned;
    size_t bytes;
    ptrdiff_t gap; /* from the buffer's address to its first byte of data */
} bounce_t;

/* Above this, pinning costs less than what copies gain by it. */
#define PIN_FROM_BYTES (64 * 1024)

static bool bounce_take(const car_cuda_t *cuda, bounce_t *bounce, coll_car_count_t count, struct ompi_datatype_t *dtype)
{
    bounce->bytes = (size_t) opal_datatype_span(&dtype->super, (int64_t) count, &bounce->gap);
    if (bounce->bytes >= PIN_FROM_BYTES) {
        CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
        (void) cuda->ThreadExchangeStreamCaptureMode(&mode);
        bounce->pinned = CUDA_SUCCESS
                         == cuda->MemHostAlloc(&bounce->memory, bounce->bytes, CU_MEMHOSTALLOC_PORTABLE);
        (void) cuda->ThreadExchangeStreamCaptureMode(&mode);
    }
    if (!bounce->pinned) {
        bounce->memory = malloc(bounce->bytes);
    }
    return NULL != bounce->memory;
}

static void bounce_give(const car_cuda_t *cuda, bounce_t *bounce)
{
    if (bounce->pinned) {
        CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
        (void) cuda->ThreadExchangeStreamCaptureMode(&mode);
        (void) cuda->MemFreeHost(bounce->memory);
        (void) cuda->ThreadExchangeStreamCaptureMode(&mode);
    } else {
        free(bounce->memory);
    }
}

static bool bounce_in(const car_cuda_t *cuda, bounce_t *bounce, const car_buffer_t *buffer)
{
    return CUDA_SUCCESS
           == car_buffer_copy(cuda, bounce->memory, (char *) buffer->address + bounce->gap, bounce->bytes, buffer);
}

static bool bounce_out(const car_cuda_t *cuda, const bounce_t *bounce, const car_buffer_t *buffer)
{
    return CUDA_SUCCESS
           == car_buffer_copy(cuda, (char *) buffer->address + bounce->gap, bounce->memory, bounce->bytes, buffer);
}

/*
 * The saved module sees host memory only. Whether the copies work is this rank's affair, the call is everybody's: it is
 * made in any case, and the error returned afterwards. Only without host memory for the copy it cannot be made: then the
 * other ranks wait for this one, as they would for one that had died, and the error should end the job.
 */
static int bounced_allreduce(mca_coll_car_module_t *module, const car_cuda_t *cuda, const car_buffer_t *input,
                             const car_buffer_t *output, coll_car_count_t count, struct ompi_datatype_t *dtype,
                             struct ompi_op_t *op)
{
    bounce_t in = {0}, out = {0};
    const void *sbuf = NULL == input ? MPI_IN_PLACE : input->address;
    void *rbuf = output->address;
    bool copied = true;

    CAR_COUNT(mca_coll_car_component.counters.calls_bounced, 1);
    if (NULL != input && CAR_MEMORY_DEVICE == input->memory) {
        if (!bounce_take(cuda, &in, count, dtype)) {
            return OMPI_ERR_OUT_OF_RESOURCE;
        }
        copied = bounce_in(cuda, &in, input);
        sbuf = (char *) in.memory - in.gap;
    }
    if (CAR_MEMORY_DEVICE == output->memory) {
        if (!bounce_take(cuda, &out, count, dtype)) {
            bounce_give(cuda, &in);
            return OMPI_ERR_OUT_OF_RESOURCE;
        }
        /* Also where it is no input: bytes between the elements of a derived type are to stay as they are. */
        copied = bounce_in(cuda, &out, output) && copied;
        rbuf = (char *) out.memory - out.gap;
    }
    int rc = saved_allreduce(module, sbuf, rbuf, count, dtype, op);
    if (OMPI_SUCCESS == rc && NULL != out.memory) {
        copied = bounce_out(cuda, &out, output) && copied;
    }
    bounce_give(cuda, &in);
    bounce_give(cuda, &out);
    return OMPI_SUCCESS == rc && !copied ? OMPI_ERROR : rc;
}

/*
 * Whether the saved module cannot take the buffer as it is. Open MPI's own staging component fails on memory that belongs to
 * no context (pools, cuMemCreate) if Open MPI has looked at a buffer before CUDA was initialised.
 */
static bool needs_bounce(const mca_coll_car_module_t *module, const car_buffer_t *buffer)
{
    return CAR_MEMORY_DEVICE == buffer->memory
           && (!coll_car_saved_takes_device(&module->saved) || NULL == buffer->context);
}

int coll_car_forward(mca_coll_car_module_t *module, const void *sbuf, void *rbuf, coll_car_count_t count,
                     struct ompi_datatype_t *dtype, struct ompi_op_t *op)
{
    const car_cuda_t *cuda = module->no_device_memory ? NULL : car_cuda();

    CAR_COUNT(mca_coll_car_component.counters.calls_forwarded, 1);
    if (NULL != cuda && 0 != count) {
        const car_buffer_t output = car_buffer_look(cuda, rbuf);
        const car_buffer_t input = MPI_IN_PLACE == sbuf ? output : car_buffer_look(cuda, sbuf);
        if (needs_bounce(module, &input) || needs_bounce(module, &output)) {
            return bounced_allreduce(module, cuda, MPI_IN_PLACE == sbuf ? NULL : &input, &output, count, dtype, op);
        }
    }
    return saved_allreduce(module, sbuf, rbuf, count, dtype, op);
}

/* --- the kinds of buffers that the ranks bring --------------------------------------------------------------- */

typedef struct {
    bool device;  /* some rank brings device memory */
    bool context; /* every rank read so far has a CUDA context */
} kinds_t;

/* Looks at a line between two calls of opal_progress(), which costs more than they do. */
#define LINE_POLLS 32

/*
 * Reads the lines of all ranks, or only until one says device memory. A communicator that breaks while a line is missing
 * counts as device memory: the call must not go to the saved module, and the engine finds out.
 */
static kinds_t read_lines(mca_coll_car_module_t *module, const car_control_t *control, bool all)
{
    kinds_t seen = {.device = false, .context = true};
    const int size = ompi_comm_size(module->comm);

    for (int r = 0; r < size && (all || !seen.device); ++r) {
        car_line_t line;
        for (unsigned int polls = 1; !car_control_posted(control, module->call, r, &line); ++polls) {
            if (0 != polls % LINE_POLLS) {
                continue;
            }
            if (car_control_broken(control) >= 0) {
                return (kinds_t){.device = true, .context = true};
            }
            coll_car_progress();
        }
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
    return CAR_MEMORY_HOST != call->output->memory ? (CUdeviceptr) (uintptr_t) call->output->address : 0;
}

static size_t bytes_of(const call_t *call)
{
    return (size_t) call->count * call->found->per_element * call->found->reduction.element;
}

static car_control_t *control_of(const mca_coll_car_module_t *module)
{
    return COLL_CAR_ACTIVE == module->state ? module->engine->control : module->control;
}

/* What of an operand is folded at a time: several ranks' fit the first-level cache. */
#define FOLD_BYTES 4096

/* A call that fits goes through the control segment if all ranks bring host memory. All ranks answer alike. */
static bool fits_control(const mca_coll_car_module_t *module, const call_t *call)
{
    const size_t bytes = bytes_of(call);

    return bytes <= module->host_max && bytes <= car_control_room(control_of(module))
           && CAR_NO_GAPS == call->found->reduction.data;
}

typedef enum { TO_KERNELS, TO_CONTROL, TO_SAVED } where_t;

/*
 * Posts this rank's line, with its operand if that is small and in host memory, and decides with all others where the
 * call goes. Sets the communicator up on the first call with device memory.
 */
static where_t where_to(mca_coll_car_module_t *module, const call_t *call)
{
    const bool active = COLL_CAR_ACTIVE == module->state, fits = fits_control(module, call);
    car_control_t *control = control_of(module);

    ++module->call;
    if (fits && !call->device) {
        memcpy(car_control_payload(control, module->call, ompi_comm_rank(module->comm)),
               NULL == call->input ? call->rbuf : call->sbuf, bytes_of(call));
    }
    car_control_post(control, module->call,
                     (car_line_t){.device = call->device, .context = active || car_cuda_in_use()});
    if (active && call->device) {
        return TO_KERNELS;
    }
    const kinds_t seen = read_lines(module, control, !active);
    if (!seen.device) {
        return fits ? TO_CONTROL : TO_SAVED;
    }
    if (!active && seen.context) {
        coll_car_activate(module, device_address(call));
    }
    return COLL_CAR_ACTIVE == module->state ? TO_KERNELS : TO_SAVED;
}

/*
 * All operands stand in the control segment: every rank folds them, from rank 0 on. Open MPI's operations leave in `next`
 * what (acc, next) comes to, so the operands are copied, in turn to the output and beside it.
 */
static void fold_in_control(mca_coll_car_module_t *module, const call_t *call)
{
    car_control_t *control = control_of(module);
    _Alignas(64) char beside[FOLD_BYTES];
    const int size = ompi_comm_size(module->comm);
    struct ompi_datatype_t *one = call->found->one;
    const size_t bytes = bytes_of(call), element = one->super.size, most = FOLD_BYTES / element * element;

    for (size_t at = 0; at < bytes; at += most) {
        const size_t part = bytes - at < most ? bytes - at : most;
        void *acc = (char *) car_control_payload(control, module->call, 0) + at;
        for (int r = 1; r < size; ++r) {
            void *next = 0 == (size - 1 - r) % 2 ? (char *) call->rbuf + at : beside;
            memcpy(next, (char *) car_control_payload(control, module->call, r) + at, part);
            ompi_op_reduce(call->op, acc, next, (coll_car_count_t) (part / element), one);
            acc = next;
        }
    }
    CAR_COUNT(mca_coll_car_component.counters.calls_host_small, 1);
}

static int watched_allreduce(mca_coll_car_module_t *module, const void *sbuf, void *rbuf, coll_car_count_t count,
                             struct ompi_datatype_t *dtype, struct ompi_op_t *op, const coll_car_reduction_t *found)
{
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
                         .device = CAR_MEMORY_HOST != input.memory || CAR_MEMORY_HOST != output.memory};
    char reason[CAR_REASON_BYTES];

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
    default:
        break;
    }
    if (!car_comm_allreduce(module->engine, module->call, call.input, call.output, (uint64_t) count * found->per_element,
                            &found->reduction, reason)) {
        coll_car_break(module, reason);
        return OMPI_ERROR;
    }
    return OMPI_SUCCESS;
}

int mca_coll_car_allreduce(const void *sbuf, void *rbuf, coll_car_count_t count, struct ompi_datatype_t *dtype,
                           struct ompi_op_t *op, struct ompi_communicator_t *comm, mca_coll_base_module_t *base)
{
    mca_coll_car_module_t *module = (mca_coll_car_module_t *) base;
    coll_car_reduction_t found;
    bool known;

    (void) comm;
    if (OPAL_LIKELY(COLL_CAR_OFF == module->state)) {
        return coll_car_forward(module, sbuf, rbuf, count, dtype, op);
    }
    if (COLL_CAR_ACTIVE == module->state && OPAL_UNLIKELY(car_control_broken(module->engine->control) >= 0)) {
        coll_car_break(module, "another rank failed in an earlier call");
    }
    if (COLL_CAR_BROKEN == module->state) {
        return OMPI_ERROR;
    }
    if (0 == count || !coll_car_find_reduction(dtype, op, &found, &known)) {
        return coll_car_forward(module, sbuf, rbuf, count, dtype, op);
    }
    if (COLL_CAR_ASLEEP == module->state) {
        const int rc = coll_car_wake(module);
        if (OMPI_SUCCESS != rc || COLL_CAR_OFF == module->state) {
            return OMPI_SUCCESS != rc ? rc : coll_car_forward(module, sbuf, rbuf, count, dtype, op);
        }
    }
    if (found.ready_made && (!module->ready_made || !known)) {
        return coll_car_forward(module, sbuf, rbuf, count, dtype, op);
    }
    return watched_allreduce(module, sbuf, rbuf, count, dtype, op, &found);
}
