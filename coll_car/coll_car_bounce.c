#include "coll_car_bounce.h"

#include <stdlib.h>

/* Above this, pinning costs less than what copies gain by it. */
#define PIN_FROM_BYTES (64 * 1024)

static bool take(const car_cuda_t *cuda, coll_car_copy_t *copy, coll_car_count_t count,
                 struct ompi_datatype_t *dtype)
{
    copy->bytes = (size_t) opal_datatype_span(&dtype->super, (int64_t) count, &copy->gap);
    if (copy->bytes >= PIN_FROM_BYTES) {
        CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
        (void) cuda->ThreadExchangeStreamCaptureMode(&mode);
        copy->pinned = CUDA_SUCCESS
                       == cuda->MemHostAlloc(&copy->memory, copy->bytes, CU_MEMHOSTALLOC_PORTABLE);
        (void) cuda->ThreadExchangeStreamCaptureMode(&mode);
    }
    if (!copy->pinned) {
        copy->memory = malloc(0 == copy->bytes ? 1 : copy->bytes);
    }
    return NULL != copy->memory;
}

static void give(const car_cuda_t *cuda, coll_car_copy_t *copy)
{
    if (copy->pinned) {
        CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
        (void) cuda->ThreadExchangeStreamCaptureMode(&mode);
        (void) cuda->MemFreeHost(copy->memory);
        (void) cuda->ThreadExchangeStreamCaptureMode(&mode);
    } else {
        free(copy->memory);
    }
    *copy = (coll_car_copy_t){0};
}

int coll_car_bounce_take(coll_car_bounce_t *bounce, const car_cuda_t *cuda,
                         const car_buffer_t *input, const car_buffer_t *output,
                         coll_car_count_t count, struct ompi_datatype_t *dtype)
{
    *bounce = (coll_car_bounce_t){.cuda = cuda,
                                  .input = NULL == input ? *output : *input,
                                  .output = *output,
                                  .in_place = NULL == input,
                                  .sbuf = NULL == input ? MPI_IN_PLACE : input->address,
                                  .rbuf = output->address};
    if (!bounce->in_place && CAR_MEMORY_DEVICE == input->memory) {
        if (!take(cuda, &bounce->in, count, dtype)) {
            return OMPI_ERR_OUT_OF_RESOURCE;
        }
        bounce->sbuf = (char *) bounce->in.memory - bounce->in.gap;
    }
    if (CAR_MEMORY_DEVICE == output->memory) {
        if (!take(cuda, &bounce->out, count, dtype)) {
            give(cuda, &bounce->in);
            return OMPI_ERR_OUT_OF_RESOURCE;
        }
        bounce->rbuf = (char *) bounce->out.memory - bounce->out.gap;
    }
    return OMPI_SUCCESS;
}

void coll_car_bounce_give(coll_car_bounce_t *bounce)
{
    give(bounce->cuda, &bounce->in);
    give(bounce->cuda, &bounce->out);
}

static bool copy_in(const car_cuda_t *cuda, const coll_car_copy_t *copy, const car_buffer_t *buffer)
{
    return NULL == copy->memory
           || CUDA_SUCCESS
                  == car_buffer_copy(cuda, copy->memory, (char *) buffer->address + copy->gap,
                                     copy->bytes, buffer);
}

/*
 * Also where the output is no input: bytes between the elements of a derived type are to stay as
 * they are.
 */
bool coll_car_bounce_in(const coll_car_bounce_t *bounce)
{
    const bool copied = copy_in(bounce->cuda, &bounce->in, &bounce->input);
    return copy_in(bounce->cuda, &bounce->out, &bounce->output) && copied;
}

bool coll_car_bounce_out(const coll_car_bounce_t *bounce)
{
    const coll_car_copy_t *copy = &bounce->out;

    return NULL == copy->memory
           || CUDA_SUCCESS
                  == car_buffer_copy(bounce->cuda, (char *) bounce->output.address + copy->gap,
                                     copy->memory, copy->bytes, &bounce->output);
}
