#include "car_buffer.h"

#include <stdatomic.h>
#include <stdint.h>

#include "car_device.h"

car_buffer_t car_buffer_look(const car_cuda_t *cuda, const void *address)
{
    car_buffer_t buffer = {.address = (void *) address, .memory = CAR_MEMORY_HOST};
    unsigned int memory = 0, managed = 0, exportable = 0;
    CUpointer_attribute attributes[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_IS_MANAGED,
                                        CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, CU_POINTER_ATTRIBUTE_CONTEXT,
                                        CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE, CU_POINTER_ATTRIBUTE_BUFFER_ID};
    void *values[] = {&memory, &managed, &buffer.ordinal, &buffer.context, &exportable, &buffer.id};

    if (NULL == cuda
        || CUDA_SUCCESS != cuda->PointerGetAttributes(6, attributes, values, (CUdeviceptr) (uintptr_t) address)) {
        return buffer;
    }
    if (managed) {
        buffer.memory = CAR_MEMORY_MANAGED;
    } else if (CU_MEMORYTYPE_DEVICE == memory) {
        buffer.memory = CAR_MEMORY_DEVICE;
        buffer.plain = 0 != exportable;
    }
    return buffer;
}

bool car_buffer_settled(const car_cuda_t *cuda, const car_buffer_t *buffer)
{
    /* Ids of allocations that have the attribute. One that another has displaced is only set again. */
    static _Atomic(unsigned long long) settled[1024];
    _Atomic(unsigned long long) *place = &settled[buffer->id % 1024];
    const unsigned int on = 1;

    if (buffer->id == atomic_load_explicit(place, memory_order_relaxed)) {
        return true;
    }
    if (CUDA_SUCCESS == cuda->PointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS,
                                                  (CUdeviceptr) (uintptr_t) buffer->address)) {
        atomic_store_explicit(place, buffer->id, memory_order_relaxed);
    }
    return false;
}

CUresult car_buffer_copy(const car_cuda_t *cuda, void *to, const void *from, size_t bytes, const car_buffer_t *device)
{
    char reason[CAR_REASON_BYTES];
    car_cuda_guard_t guard;
    CUcontext context;

    if (!car_device_find_context(cuda, (CUdeviceptr) (uintptr_t) device->address, &context, reason)) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    CUresult result = car_cuda_enter(cuda, context, &guard);
    if (CUDA_SUCCESS != result) {
        return result;
    }
    result = cuda->MemcpyAsync((CUdeviceptr) (uintptr_t) to, (CUdeviceptr) (uintptr_t) from, bytes, NULL);
    if (CUDA_SUCCESS == result) {
        result = cuda->StreamSynchronize(NULL);
    }
    car_cuda_leave(cuda, &guard);
    return result;
}
