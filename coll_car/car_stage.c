/*
 * Users' buffers: what kernels can use where it is, what has to be copied for them, and what must
 * come before.
 */
#include <stdlib.h>

#include "car_comm.h"

/*
 * Memory of another context of the same device is not mapped in ours; an address that is no
 * multiple of what the type asks for would be a fault that ends the application's context.
 */
bool car_comm_usable(const car_comm_t *comm, const car_buffer_t *buffer, size_t alignment)
{
    if (0 != (uintptr_t) buffer->address % alignment) {
        return false;
    }
    return CAR_MEMORY_MANAGED == buffer->memory
           || (CAR_MEMORY_DEVICE == buffer->memory && buffer->ordinal == comm->device->ordinal
               && (NULL == buffer->context || buffer->context == comm->device->context));
}

CUresult car_comm_copy(const car_comm_t *comm, CUstream stream, CUdeviceptr to, CUdeviceptr from,
                       size_t bytes, const car_buffer_t *buffer)
{
    const car_cuda_t *cuda = comm->device->cuda;

    /*
     * Pools and cuMemCreate on another GPU: only its own contexts are sure to reach them, and they
     * reach ours, too.
     */
    if (CAR_MEMORY_DEVICE == buffer->memory && NULL == buffer->context
        && buffer->ordinal != comm->device->ordinal) {
        return car_buffer_copy(cuda, (void *) (uintptr_t) to, (const void *) (uintptr_t) from,
                               bytes, buffer);
    }
    CUresult result = cuda->MemcpyAsync(to, from, bytes, stream);
    return CUDA_SUCCESS == result ? car_cuda_wait(cuda, stream) : result;
}

/* Through host memory: the padding between the members of a pair stays as the user has it. */
static CUresult copy_out_members(const car_comm_t *comm, CUstream stream, CUdeviceptr to,
                                 CUdeviceptr from, size_t bytes, uint32_t members,
                                 const car_buffer_t *output)
{
    const car_buffer_t host = {.memory = CAR_MEMORY_HOST};
    unsigned char *theirs = malloc(2 * bytes), *ours = NULL == theirs ? NULL : theirs + bytes;
    CUresult result = NULL == theirs ? CUDA_ERROR_OUT_OF_MEMORY
                                     : car_comm_copy(comm, stream, (CUdeviceptr) (uintptr_t) theirs,
                                                     to, bytes, output);

    if (CUDA_SUCCESS == result) {
        result = car_comm_copy(comm, stream, (CUdeviceptr) (uintptr_t) ours, from, bytes, &host);
    }
    for (size_t i = 0; CUDA_SUCCESS == result && i < bytes; ++i) {
        if (0 != (members >> i % CAR_PACK_BYTES & 1)) {
            theirs[i] = ours[i];
        }
    }
    if (CUDA_SUCCESS == result) {
        result = car_comm_copy(comm, stream, to, (CUdeviceptr) (uintptr_t) theirs, bytes, output);
    }
    free(theirs);
    return result;
}

CUresult car_comm_copy_out(const car_comm_t *comm, CUstream stream, const car_buffer_t *output,
                           uint64_t start, CUdeviceptr from, uint64_t elements,
                           const car_reduction_t *reduction)
{
    const size_t element = reduction->element;
    const CUdeviceptr to = (CUdeviceptr) (uintptr_t) output->address + start * element;

    return CAR_NO_GAPS == reduction->data
               ? car_comm_copy(comm, stream, to, from, elements * element, output)
               : copy_out_members(comm, stream, to, from, elements * element, reduction->data,
                                  output);
}

car_elements_t car_elements_of(const car_reduction_t *reduction, uint64_t count)
{
    return (car_elements_t){.count = count,
                            .data_bytes = (uint16_t) reduction->data,
                            .type = (uint8_t) reduction->type,
                            .op = (uint8_t) reduction->op,
                            .element_shift = (uint8_t) __builtin_ctz(reduction->element),
                            .granule = (uint8_t) reduction->alignment};
}

/* What the caller's default stream has been given comes before what `stream` is given next. */
static CUresult follow_legacy_stream(const car_comm_t *comm, CUstream stream)
{
    CUresult result = car_cuda_legacy_stream(comm->device->cuda);
    if (CUDA_SUCCESS == result) {
        result = comm->device->cuda->EventRecord(comm->event, CU_STREAM_LEGACY);
    }
    return CUDA_SUCCESS == result ? comm->device->cuda->StreamWaitEvent(stream, comm->event, 0)
                                  : result;
}

CUresult car_comm_settle(const car_comm_t *comm, CUstream stream, const car_buffer_t *in,
                         const car_buffer_t *out, bool stage_input, bool stage_output)
{
    const car_cuda_t *cuda = comm->device->cuda;
    const bool asked = CAR_STREAM_ORDER_LEGACY == comm->params->stream_order;
    const bool input = car_buffer_settled(in), output = car_buffer_settled(out);
    CUresult result = CUDA_SUCCESS;

    if (asked || !input || !output) {
        result = follow_legacy_stream(comm, stream);
    }
    /* Our copies from another context are not ordered by an event of this one. */
    if (CUDA_SUCCESS == result && !input && stage_input) {
        result = car_buffer_wait(cuda, in);
    }
    if (CUDA_SUCCESS == result && !output && stage_output) {
        result = car_buffer_wait(cuda, out);
    }
    if (CUDA_SUCCESS == result && (!input || !output)) {
        car_buffer_settle(cuda, in);
        car_buffer_settle(cuda, out);
    }
    /*
     * While the application captures into a graph the default stream is out of bounds, but not used
     * either.
     */
    return asked ? result : CUDA_SUCCESS;
}
