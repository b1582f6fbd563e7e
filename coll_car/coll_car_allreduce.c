#include "coll_car_module.h"

#include <stdlib.h>

/* --- types and operations ------------------------------------------------------------------------------------ */

typedef enum { OTHER, SIGNED, UNSIGNED, FLOATING } kind_t;

/* What a predefined type is; its size says the rest. Types that this Open MPI lacks have no number there. */
static const kind_t kinds[OMPI_OP_BASE_TYPE_MAX] = {
    [OMPI_OP_BASE_TYPE_INT32_T] = SIGNED,       [OMPI_OP_BASE_TYPE_UINT32_T] = UNSIGNED,
    [OMPI_OP_BASE_TYPE_INT64_T] = SIGNED,       [OMPI_OP_BASE_TYPE_UINT64_T] = UNSIGNED,
    [OMPI_OP_BASE_TYPE_LONG] = SIGNED,          [OMPI_OP_BASE_TYPE_UNSIGNED_LONG] = UNSIGNED,
    [OMPI_OP_BASE_TYPE_INTEGER] = SIGNED,       [OMPI_OP_BASE_TYPE_INTEGER4] = SIGNED,
    [OMPI_OP_BASE_TYPE_INTEGER8] = SIGNED,      [OMPI_OP_BASE_TYPE_FLOAT] = FLOATING,
    [OMPI_OP_BASE_TYPE_DOUBLE] = FLOATING,      [OMPI_OP_BASE_TYPE_REAL] = FLOATING,
    [OMPI_OP_BASE_TYPE_REAL4] = FLOATING,       [OMPI_OP_BASE_TYPE_REAL8] = FLOATING,
    [OMPI_OP_BASE_TYPE_DOUBLE_PRECISION] = FLOATING,
};

static car_type_t type_of(const struct ompi_datatype_t *dtype)
{
    if (!ompi_datatype_is_predefined(dtype) || dtype->id < 0 || dtype->id >= OMPI_DATATYPE_MAX_PREDEFINED) {
        return CAR_TYPES;
    }
    const int number = ompi_op_ddt_map[dtype->id];
    const kind_t kind = number < 0 || number >= OMPI_OP_BASE_TYPE_MAX ? OTHER : kinds[number];
    const bool wide = 8 == dtype->super.size;

    if (OTHER == kind || (4 != dtype->super.size && !wide)) {
        return CAR_TYPES;
    }
    switch (kind) {
    case SIGNED:
        return wide ? CAR_I64 : CAR_I32;
    case UNSIGNED:
        return wide ? CAR_U64 : CAR_U32;
    default:
        return wide ? CAR_F64 : CAR_F32;
    }
}

static car_op_t op_of(struct ompi_op_t *op)
{
    if (!ompi_op_is_intrinsic(op)) {
        return CAR_OPS;
    }
    switch (op->op_type) {
    case OMPI_OP_SUM:
        return CAR_SUM;
    case OMPI_OP_PROD:
        return CAR_PROD;
    case OMPI_OP_MIN:
        return CAR_MIN;
    case OMPI_OP_MAX:
        return CAR_MAX;
    default:
        return CAR_OPS;
    }
}

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

    ++mca_coll_car_component.counters.calls_bounced;
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

int coll_car_forward(mca_coll_car_module_t *module, const void *sbuf, void *rbuf, coll_car_count_t count,
                     struct ompi_datatype_t *dtype, struct ompi_op_t *op)
{
    const car_cuda_t *cuda = module->no_device_memory ? NULL : car_cuda();

    ++mca_coll_car_component.counters.calls_forwarded;
    if (NULL != cuda && 0 != count && !coll_car_saved_takes_device(&module->saved)) {
        const car_buffer_t output = car_buffer_look(cuda, rbuf);
        const car_buffer_t input = MPI_IN_PLACE == sbuf ? output : car_buffer_look(cuda, sbuf);
        if (CAR_MEMORY_DEVICE == input.memory || CAR_MEMORY_DEVICE == output.memory) {
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
        while (!car_control_posted(control, module->call, r, &line)) {
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
    const car_buffer_t *input; /* NULL: in place */
    const car_buffer_t *output;
    car_type_t type;
    car_reduction_t reduction;
    bool device;
} call_t;

static CUdeviceptr device_address(const call_t *call)
{
    if (NULL != call->input && CAR_MEMORY_HOST != call->input->memory) {
        return (CUdeviceptr) (uintptr_t) call->input->address;
    }
    return CAR_MEMORY_HOST != call->output->memory ? (CUdeviceptr) (uintptr_t) call->output->address : 0;
}

/*
 * Posts this rank's line and decides, with all others, where the call goes: true to the kernels, false to the saved
 * module. Sets the communicator up on the first call with device memory.
 */
static bool goes_to_kernels(mca_coll_car_module_t *module, const call_t *call)
{
    ++module->call;
    if (COLL_CAR_ACTIVE == module->state) {
        car_control_post(module->engine->control, module->call, (car_line_t){.device = call->device, .context = 1});
        return call->device || read_lines(module, module->engine->control, false).device;
    }
    car_control_post(module->control, module->call,
                     (car_line_t){.device = call->device, .context = (uint32_t) car_cuda_in_use()});
    const kinds_t seen = read_lines(module, module->control, true);
    if (seen.device && seen.context) {
        coll_car_activate(module, device_address(call));
    }
    return COLL_CAR_ACTIVE == module->state;
}

static int watched_allreduce(mca_coll_car_module_t *module, const void *sbuf, void *rbuf, coll_car_count_t count,
                             struct ompi_datatype_t *dtype, struct ompi_op_t *op, car_type_t type,
                             car_reduction_t reduction)
{
    const car_cuda_t *cuda = car_cuda();
    const bool in_place = MPI_IN_PLACE == sbuf || sbuf == rbuf;
    const car_buffer_t output = car_buffer_look(cuda, rbuf);
    const car_buffer_t input = in_place ? output : car_buffer_look(cuda, sbuf);
    const call_t call = {.input = in_place ? NULL : &input,
                         .output = &output,
                         .type = type,
                         .reduction = reduction,
                         .device = CAR_MEMORY_HOST != input.memory || CAR_MEMORY_HOST != output.memory};
    char reason[CAR_REASON_BYTES];

    if (!goes_to_kernels(module, &call)) {
        if (!call.device) {
            ++mca_coll_car_component.counters.calls_host;
            return saved_allreduce(module, sbuf, rbuf, count, dtype, op);
        }
        return coll_car_forward(module, sbuf, rbuf, count, dtype, op);
    }
    if (!car_comm_allreduce(module->engine, module->call, call.input, call.output, (uint64_t) count, type, reduction,
                            reason)) {
        coll_car_break(module, reason);
        return OMPI_ERROR;
    }
    return OMPI_SUCCESS;
}

int mca_coll_car_allreduce(const void *sbuf, void *rbuf, coll_car_count_t count, struct ompi_datatype_t *dtype,
                           struct ompi_op_t *op, struct ompi_communicator_t *comm, mca_coll_base_module_t *base)
{
    mca_coll_car_module_t *module = (mca_coll_car_module_t *) base;

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
    const car_type_t type = type_of(dtype);
    const car_op_t operation = op_of(op);
    const car_reduction_t reduction = CAR_TYPES == type || CAR_OPS == operation ? CAR_REDUCTIONS
                                                                                : car_reduction_find(type, operation);
    if (0 == count || CAR_REDUCTIONS == reduction) {
        return coll_car_forward(module, sbuf, rbuf, count, dtype, op);
    }
    if (COLL_CAR_ASLEEP == module->state) {
        const int rc = coll_car_wake(module);
        if (OMPI_SUCCESS != rc || COLL_CAR_OFF == module->state) {
            return OMPI_SUCCESS != rc ? rc : coll_car_forward(module, sbuf, rbuf, count, dtype, op);
        }
    }
    return watched_allreduce(module, sbuf, rbuf, count, dtype, op, type, reduction);
}
