/* What memory is, and moving it. */
#include <string.h>

#include "simgpu.h"

/* --- attributes -------------------------------------------------------------------------------------------------------- */

static CUresult attribute_of(const simgpu_allocation &a, CUpointer_attribute attribute, void *value, CUdeviceptr address)
{
    switch ((int) attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
        *(CUctx_st **) value = a.context;
        return nullptr == a.context ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        *(unsigned int *) value = KIND_HOST == a.kind ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
        *(CUdeviceptr *) value = address;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
        *(void **) value = (void *) address;
        return KIND_HOST == a.kind || KIND_MANAGED == a.kind ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
        *(unsigned int *) value = a.sync_memops;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
        *(unsigned long long *) value = a.id;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
        *(unsigned int *) value = KIND_MANAGED == a.kind;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        *(int *) value = a.device;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        *(unsigned int *) value = KIND_DEVICE == a.kind;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        *(CUdeviceptr *) value = a.address;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        *(size_t *) value = a.bytes;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_MAPPED:
        *(unsigned int *) value = 1;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
        *(void **) value = KIND_POOL == a.kind ? (void *) 1 : nullptr;
        return CUDA_SUCCESS;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

SIMGPU_API cuPointerGetAttribute(void *value, CUpointer_attribute attribute, CUdeviceptr address)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    const simgpu_allocation *a = simgpu_find(address);
    return nullptr == a ? CUDA_ERROR_INVALID_VALUE : attribute_of(*a, attribute, value, address);
}

SIMGPU_API cuPointerGetAttributes(unsigned int count, CUpointer_attribute *attributes, void **values,
                                  CUdeviceptr address)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    const simgpu_allocation *a = simgpu_find(address);
    /* The real one succeeds for memory that it does not know, and writes zeros. */
    static const std::map<int, size_t> bytes = {
        {CU_POINTER_ATTRIBUTE_CONTEXT, 8},       {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, 4},
        {CU_POINTER_ATTRIBUTE_DEVICE_POINTER, 8}, {CU_POINTER_ATTRIBUTE_HOST_POINTER, 8},
        {CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, 4},   {CU_POINTER_ATTRIBUTE_BUFFER_ID, 8},
        {CU_POINTER_ATTRIBUTE_IS_MANAGED, 4},    {CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, 4},
        {CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE, 4}, {CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, 8},
        {CU_POINTER_ATTRIBUTE_RANGE_SIZE, 8},    {CU_POINTER_ATTRIBUTE_MAPPED, 4},
        {CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, 8}};
    for (unsigned int i = 0; i < count; ++i) {
        if (nullptr == a || CUDA_SUCCESS != attribute_of(*a, attributes[i], values[i], address)) {
            const auto size = bytes.find((int) attributes[i]);
            if (bytes.end() == size) {
                return CUDA_ERROR_INVALID_VALUE;
            }
            memset(values[i], CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL == attributes[i] ? 0xff : 0, size->second);
        }
    }
    return CUDA_SUCCESS;
}

SIMGPU_API cuPointerSetAttribute(const void *value, CUpointer_attribute attribute, CUdeviceptr address)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    simgpu_allocation *a = simgpu_find(address);
    if (nullptr == a || CU_POINTER_ATTRIBUTE_SYNC_MEMOPS != attribute
        || (KIND_DEVICE != a->kind && KIND_IPC != a->kind)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    a->sync_memops = 0 != *(const unsigned int *) value;
    return CUDA_SUCCESS;
}

/* --- copies ---------------------------------------------------------------------------------------------------------------- */

/* The driver's own address for the application's, nullptr where the window has nothing of that length. */
static char *reach(uint64_t address, size_t bytes)
{
    if (address - SIMGPU_WINDOW >= SIMGPU_WINDOW_BYTES) {
        return (char *) address;
    }
    simgpu_guard guard(simgpu_lock);
    const simgpu_allocation *a = simgpu_find(address);
    return nullptr == a || address + bytes > a->address + a->bytes ? nullptr : (char *) (address + SIMGPU_SHADOW);
}

bool simgpu_copy(uint64_t to, uint64_t from, size_t bytes)
{
    char *target = reach(to, bytes), *source = reach(from, bytes);
    if (nullptr == target || nullptr == source) {
        return false;
    }
    memmove(target, source, bytes);
    return true;
}

bool simgpu_fill(uint64_t to, unsigned value, int width, size_t count)
{
    char *target = reach(to, (size_t) width * count);
    if (nullptr == target) {
        return false;
    }
    for (size_t i = 0; i < count; ++i) {
        memcpy(target + i * (size_t) width, &value, (size_t) width);
    }
    return true;
}

/* Work of a stream that touches memory; a bad address is checked when it is given, as the real driver does. */
static CUresult memory_work(CUstream handle, uint64_t to, uint64_t from, size_t bytes, std::function<bool()> work,
                            bool wait)
{
    simgpu_point point;
    CUctx_st *context;
    if (0 == bytes) {
        return CUDA_SUCCESS;
    }
    if (nullptr == reach(to, bytes) || nullptr == reach(from, bytes)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    {
        simgpu_guard guard(simgpu_lock);
        CUstream_st *stream = simgpu_stream(handle);
        if (nullptr == stream) {
            return CUDA_ERROR_INVALID_CONTEXT;
        }
        context = stream->context;
        if (!context->alive) {
            return CUDA_ERROR_CONTEXT_IS_DESTROYED;
        }
        if (CUDA_SUCCESS != context->sticky) {
            return context->sticky;
        }
        if (CUresult result = simgpu_legacy_check(stream)) {
            return result;
        }
        point = simgpu_give(stream, [context, work] {
            if (!work()) {
                context->sticky = CUDA_ERROR_ILLEGAL_ADDRESS;
            }
        });
    }
    if (wait) {
        simgpu_wait(point);
    }
    return wait ? context->sticky : CUDA_SUCCESS;
}

static CUresult copy(CUstream stream, uint64_t to, uint64_t from, size_t bytes, bool wait)
{
    return memory_work(stream, to, from, bytes, [to, from, bytes] { return simgpu_copy(to, from, bytes); }, wait);
}

static CUresult fill(CUstream stream, uint64_t to, unsigned value, int width, size_t count)
{
    return memory_work(stream, to, to, (size_t) width * count,
                       [to, value, width, count] { return simgpu_fill(to, value, width, count); }, false);
}

/* A copy that the application waits for, on the legacy stream. */
static CUresult copy_now(uint64_t to, uint64_t from, size_t bytes)
{
    const CUresult result = simgpu_capture_check();
    return CUDA_SUCCESS == result ? copy(nullptr, to, from, bytes, true) : result;
}

SIMGPU_API cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes)
{
    SIMGPU_ENTER(true);
    return copy_now(to, from, bytes);
}

SIMGPU_API cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes)
{
    SIMGPU_ENTER(true);
    return copy_now(to, (uint64_t) from, bytes);
}

SIMGPU_API cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes)
{
    SIMGPU_ENTER(true);
    return copy_now((uint64_t) to, from, bytes);
}

SIMGPU_API cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes)
{
    SIMGPU_ENTER(true);
    return copy(nullptr, to, from, bytes, false); /* not waited for, as on real GPUs */
}

SIMGPU_API cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
    SIMGPU_ENTER(true);
    return copy(stream, to, from, bytes, false);
}

SIMGPU_API cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream)
{
    SIMGPU_ENTER(true);
    return copy(stream, to, (uint64_t) from, bytes, false);
}

SIMGPU_API cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream)
{
    SIMGPU_ENTER(true);
    return copy(stream, (uint64_t) to, from, bytes, false);
}

SIMGPU_API cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
    SIMGPU_ENTER(true);
    return copy(stream, to, from, bytes, false);
}

SIMGPU_API cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count)
{
    SIMGPU_ENTER(true);
    return fill(nullptr, to, value, 1, count);
}

SIMGPU_API cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream)
{
    SIMGPU_ENTER(true);
    return fill(stream, to, value, 1, count);
}

SIMGPU_API cuMemsetD32_v2(CUdeviceptr to, unsigned int value, size_t count)
{
    SIMGPU_ENTER(true);
    return fill(nullptr, to, value, 4, count);
}

SIMGPU_API cuMemsetD32Async(CUdeviceptr to, unsigned int value, size_t count, CUstream stream)
{
    SIMGPU_ENTER(true);
    return fill(stream, to, value, 4, count);
}
