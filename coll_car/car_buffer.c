#include "car_buffer.h"

#include <stdint.h>

#include "car_device.h"

car_buffer_t car_buffer_look(const car_cuda_t *cuda, const void *address)
{
    car_buffer_t buffer = {.address = (void *) address, .memory = CAR_MEMORY_HOST};
    unsigned int memory = 0, managed = 0, exportable = 0;
    CUpointer_attribute attributes[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_IS_MANAGED,
                                        CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, CU_POINTER_ATTRIBUTE_CONTEXT,
                                        CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE};
    void *values[] = {&memory, &managed, &buffer.ordinal, &buffer.context, &exportable};

    if (NULL == cuda
        || CUDA_SUCCESS != cuda->PointerGetAttributes(5, attributes, values, (CUdeviceptr) (uintptr_t) address)) {
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
