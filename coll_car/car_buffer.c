#define _GNU_SOURCE /* process_vm_readv */
#include "car_buffer.h"

#include <errno.h>
#include <stdint.h>
#include <sys/uio.h>
#include <unistd.h>

#include "car_device.h"

/* What this thread has learned of an allocation. */
typedef struct {
    car_buffer_t buffer; /* but for the address */
    bool settled;
} car_known_t;

#define CAR_KNOWN 64

static car_known_t *known(unsigned long long id)
{
    static _Thread_local car_known_t table[CAR_KNOWN];
    return &table[id % CAR_KNOWN];
}

/*
 * The driver fails instead of answering, as it does for all pointers after a kernel of the
 * application has failed. What the host can read it may treat as its own; anything else only the
 * driver may be given, and an error will come of that.
 */
static car_buffer_t unknown(const void *address)
{
    char byte;
    const struct iovec here = {&byte, 1}, there = {(void *) address, 1};
    const bool readable =
        process_vm_readv(getpid(), &here, 1, &there, 1, 0) >= 0 || EFAULT != errno;

    return (car_buffer_t){.address = (void *) address,
                          .memory = readable ? CAR_MEMORY_HOST : CAR_MEMORY_DEVICE};
}

static car_buffer_t ask(const car_cuda_t *cuda, const void *address)
{
    car_buffer_t buffer = {.address = (void *) address, .memory = CAR_MEMORY_HOST};
    unsigned int memory = 0, managed = 0, exportable = 0;
    CUpointer_attribute attributes[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                        CU_POINTER_ATTRIBUTE_IS_MANAGED,
                                        CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                                        CU_POINTER_ATTRIBUTE_CONTEXT,
                                        CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE,
                                        CU_POINTER_ATTRIBUTE_BUFFER_ID};
    void *values[] = {&memory, &managed, &buffer.ordinal, &buffer.context, &exportable, &buffer.id};

    if (CUDA_SUCCESS
        != cuda->PointerGetAttributes(6, attributes, values, (CUdeviceptr) (uintptr_t) address)) {
        return unknown(address);
    }
    if (managed) {
        buffer.memory = CAR_MEMORY_MANAGED;
    } else if (CU_MEMORYTYPE_DEVICE == memory) {
        buffer.memory = CAR_MEMORY_DEVICE;
        buffer.plain = 0 != exportable;
    }
    return buffer;
}

car_buffer_t car_buffer_look(const car_cuda_t *cuda, const void *address)
{
    car_buffer_t buffer = {.address = (void *) address, .memory = CAR_MEMORY_HOST};

    if (NULL == cuda) {
        return buffer;
    }
    /* One attribute is cheaper than six, and tells host memory, which has no id, at once. */
    const CUresult result = cuda->PointerGetAttribute(&buffer.id, CU_POINTER_ATTRIBUTE_BUFFER_ID,
                                                      (CUdeviceptr) (uintptr_t) address);
    if (CUDA_ERROR_INVALID_VALUE == result || CUDA_ERROR_NOT_INITIALIZED == result
        || CUDA_ERROR_DEINITIALIZED == result) {
        return buffer;
    }
    if (CUDA_SUCCESS != result) {
        return unknown(address);
    }
    car_known_t *k = known(buffer.id);
    if (0 != buffer.id && buffer.id == k->buffer.id) {
        buffer = k->buffer;
        buffer.address = (void *) address;
        return buffer;
    }
    buffer = ask(cuda, address);
    if (0 != buffer.id) {
        *known(buffer.id) = (car_known_t){.buffer = buffer};
    }
    return buffer;
}

bool car_buffer_settled(const car_buffer_t *buffer)
{
    const car_known_t *k = known(buffer->id);

    return CAR_MEMORY_HOST == buffer->memory
           || (0 != buffer->id && buffer->id == k->buffer.id && k->settled);
}

void car_buffer_settle(const car_cuda_t *cuda, const car_buffer_t *buffer)
{
    car_known_t *k = known(buffer->id);
    const unsigned int on = 1;

    if (0 != buffer->id && buffer->id == k->buffer.id && !k->settled
        && CAR_MEMORY_HOST != buffer->memory) {
        k->settled = CUDA_SUCCESS
                     == cuda->PointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS,
                                                  (CUdeviceptr) (uintptr_t) buffer->address);
    }
}

/* Makes the context current that work on this memory belongs in. */
static CUresult enter_context_of(const car_cuda_t *cuda, const car_buffer_t *buffer,
                                 car_cuda_guard_t *guard)
{
    char reason[CAR_REASON_BYTES];
    CUcontext context;

    if (!car_device_find_context(cuda, (CUdeviceptr) (uintptr_t) buffer->address, &context,
                                 reason)) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    return car_cuda_enter(cuda, context, guard);
}

CUresult car_buffer_wait(const car_cuda_t *cuda, const car_buffer_t *buffer)
{
    car_cuda_guard_t guard;

    CUresult result = enter_context_of(cuda, buffer, &guard);
    if (CUDA_SUCCESS == result) {
        result = car_cuda_legacy_stream(cuda);
        if (CUDA_SUCCESS == result) {
            result = car_cuda_wait(cuda, CU_STREAM_LEGACY);
        }
        car_cuda_leave(cuda, &guard);
    }
    return result;
}

CUresult car_buffer_copy(const car_cuda_t *cuda, void *to, const void *from, size_t bytes,
                         const car_buffer_t *device)
{
    car_cuda_guard_t guard;

    CUresult result = enter_context_of(cuda, device, &guard);
    if (CUDA_SUCCESS != result) {
        return result;
    }
    /*
     * Where a capture keeps the default stream shut, nothing that it was given can be waited for.
     */
    CUstream own = NULL;
    if (CUDA_SUCCESS != car_cuda_legacy_stream(cuda)) {
        result = cuda->StreamCreateWithPriority(&own, CU_STREAM_NON_BLOCKING, 0);
    }
    if (CUDA_SUCCESS == result) {
        result = cuda->MemcpyAsync((CUdeviceptr) (uintptr_t) to, (CUdeviceptr) (uintptr_t) from,
                                   bytes, own);
    }
    if (CUDA_SUCCESS == result) {
        result = car_cuda_wait(cuda, own);
    }
    if (NULL != own) {
        (void) cuda->StreamDestroy(own);
    }
    car_cuda_leave(cuda, &guard);
    return result;
}
