#include "gpu.h"

#include <dlfcn.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test_images.h"

gpu_api_t gpu;

static void *library;
static int devices;
static int device_in_use = -1;
static CUcontext other_context; /* the primary one of gpu_other's device, made when first needed */

void gpu_ok(CUresult result, const char *call, const char *file, int line)
{
    const char *name = "?";

    if (CUDA_SUCCESS == result) {
        return;
    }
    (void) gpu.GetErrorName(result, &name);
    fprintf(stderr, "%s:%d: %s: %s\n", file, line, call, name);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

void gpu_load(void)
{
    library = dlopen("libcuda.so.1", RTLD_NOW);
}

bool gpu_open(const char **why)
{
    static char text[200];

    *why = text;
    if (NULL == library) {
        snprintf(text, sizeof(text), "no libcuda");
        return false;
    }
#define GPU_FIND(field, symbol, parameters)                                                        \
    gpu.field = (CUresult(*) parameters) dlsym(library, #symbol);                                  \
    if (NULL == gpu.field) {                                                                       \
        snprintf(text, sizeof(text), "libcuda has no %s", #symbol);                                \
        return false;                                                                              \
    }
    GPU_API(GPU_FIND)
    CAR_CUDA_NEEDED(GPU_FIND)
#undef GPU_FIND
    const CUresult result = gpu.Init(0);
    if (CUDA_SUCCESS != result || CUDA_SUCCESS != gpu.DeviceGetCount(&devices) || 0 == devices) {
        snprintf(text, sizeof(text), "no CUDA device: cuInit gives %d", result);
        return false;
    }
    return true;
}

int gpu_count(void)
{
    return devices;
}

void gpu_use(int device)
{
    CUcontext context;

    GPU_OK(gpu.DevicePrimaryCtxRetain(&context, device));
    GPU_OK(gpu.CtxSetCurrent(context));
    device_in_use = device;
}

int gpu_in_use(void)
{
    return device_in_use;
}

bool gpu_simulated(void)
{
    return NULL != dlsym(library, "simgpu_call_count");
}

/* --- memory ----------------------------------------------------------------------------------- */

static const char *const names[GPU_KINDS] = {"device", "managed", "pool",       "vmm",
                                             "other",  "host",    "registered", "mapped"};

const char *gpu_kind_name(gpu_kind_t kind)
{
    return names[kind];
}

gpu_kind_t gpu_kind_find(const char *name)
{
    int kind = 0;

    while (kind < GPU_KINDS && 0 != strcmp(name, names[kind])) {
        ++kind;
    }
    return (gpu_kind_t) kind;
}

bool gpu_kind_is_host(gpu_kind_t kind)
{
    return GPU_HOST == kind || GPU_REGISTERED == kind || GPU_MAPPED == kind;
}

static bool has(CUdevice_attribute attribute)
{
    int value = 0;

    GPU_OK(gpu.DeviceGetAttribute(&value, attribute, device_in_use));
    return 0 != value;
}

bool gpu_kind_possible(gpu_kind_t kind)
{
    switch (kind) {
    case GPU_MANAGED:
        return has(CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY);
    case GPU_POOL:
        return has(CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED);
    case GPU_VMM:
        return has(CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED);
    case GPU_OTHER:
        return devices > 1;
    case GPU_MAPPED:
        return has(CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY);
    default:
        return true;
    }
}

static void allocate_vmm(gpu_buffer_t *buffer)
{
    const CUmemLocation here = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device_in_use};
    const CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                            .location = here};
    const CUmemAccessDesc access = {.location = here, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUdeviceptr address = 0;
    size_t granule = 0;

    GPU_OK(
        gpu.MemGetAllocationGranularity(&granule, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
    buffer->mapped = (buffer->bytes + granule - 1) / granule * granule;
    GPU_OK(gpu.MemAddressReserve(&address, buffer->mapped, 0, 0, 0));
    GPU_OK(gpu.MemCreate(&buffer->handle, buffer->mapped, &properties, 0));
    GPU_OK(gpu.MemMap(address, buffer->mapped, 0, buffer->handle, 0));
    GPU_OK(gpu.MemSetAccess(address, buffer->mapped, &access, 1));
    buffer->address = (void *) (uintptr_t) address;
}

static void allocate_other(gpu_buffer_t *buffer)
{
    CUdeviceptr address = 0;
    CUcontext mine;

    if (NULL == other_context) {
        GPU_OK(gpu.DevicePrimaryCtxRetain(&other_context, (device_in_use + 1) % devices));
    }
    GPU_OK(gpu.CtxPushCurrent(other_context));
    GPU_OK(gpu.MemAlloc(&address, buffer->bytes));
    GPU_OK(gpu.CtxPopCurrent(&mine));
    buffer->address = (void *) (uintptr_t) address;
}

static void *allocate_pages(size_t bytes)
{
    void *memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);

    if (NULL == memory) {
        fprintf(stderr, "out of host memory\n");
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    return memory;
}

gpu_buffer_t gpu_allocate(gpu_kind_t kind, size_t bytes)
{
    gpu_buffer_t buffer = {.kind = kind, .bytes = bytes};
    CUdeviceptr address = 0;

    switch (kind) {
    case GPU_MANAGED:
        GPU_OK(gpu.MemAllocManaged(&address, bytes, CU_MEM_ATTACH_GLOBAL));
        break;
    case GPU_POOL:
        GPU_OK(gpu.MemAllocAsync(&address, bytes, CU_STREAM_LEGACY));
        GPU_OK(gpu.StreamSynchronize(CU_STREAM_LEGACY));
        break;
    case GPU_VMM:
        allocate_vmm(&buffer);
        return buffer;
    case GPU_OTHER:
        allocate_other(&buffer);
        return buffer;
    case GPU_HOST:
        buffer.address = allocate_pages(bytes);
        return buffer;
    case GPU_REGISTERED:
        buffer.address = allocate_pages(bytes);
        GPU_OK(gpu.MemHostRegister(buffer.address, bytes, CU_MEMHOSTREGISTER_PORTABLE));
        return buffer;
    case GPU_MAPPED:
        GPU_OK(gpu.MemHostAlloc(&buffer.address, bytes,
                                CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP));
        return buffer;
    default:
        GPU_OK(gpu.MemAlloc(&address, bytes));
        break;
    }
    buffer.address = (void *) (uintptr_t) address;
    return buffer;
}

void gpu_free(gpu_buffer_t *buffer)
{
    const CUdeviceptr address = (CUdeviceptr) (uintptr_t) buffer->address;

    switch (buffer->kind) {
    case GPU_POOL:
        GPU_OK(gpu.MemFreeAsync(address, CU_STREAM_LEGACY));
        GPU_OK(gpu.StreamSynchronize(CU_STREAM_LEGACY));
        break;
    case GPU_VMM:
        GPU_OK(gpu.MemUnmap(address, buffer->mapped));
        GPU_OK(gpu.MemRelease(buffer->handle));
        GPU_OK(gpu.MemAddressFree(address, buffer->mapped));
        break;
    case GPU_REGISTERED:
        GPU_OK(gpu.MemHostUnregister(buffer->address));
        free(buffer->address);
        break;
    case GPU_HOST:
        free(buffer->address);
        break;
    case GPU_MAPPED:
        GPU_OK(gpu.MemFreeHost(buffer->address));
        break;
    default:
        GPU_OK(gpu.MemFree(address));
        break;
    }
    buffer->address = NULL;
}

static void copy(void *to, const void *from, size_t bytes)
{
    if (NULL == gpu.Memcpy) {
        memcpy(to, from, bytes); /* a test on host memory alone, without a driver */
        return;
    }
    if (0 == bytes) {
        return;
    }
    GPU_OK(gpu.Memcpy((CUdeviceptr) (uintptr_t) to, (CUdeviceptr) (uintptr_t) from, bytes));
    /*
     * A copy from pageable memory, or between two places on the GPU, may return before it is done.
     */
    GPU_OK(gpu.StreamSynchronize(CU_STREAM_LEGACY));
}

void gpu_write(void *to, const void *from, size_t bytes)
{
    copy(to, from, bytes);
}

void gpu_read(void *to, const void *from, size_t bytes)
{
    copy(to, from, bytes);
}

/* --- kernels and counts ----------------------------------------------------------------------- */

CUfunction gpu_kernel(const char *name)
{
    static CUmodule module;
    CUfunction function;

    if (NULL == module) {
        GPU_OK(gpu.ModuleLoadData(&module, test_kernels_image()));
    }
    GPU_OK(gpu.ModuleGetFunction(&function, module, name));
    return function;
}

long long gpu_simulated_bytes(void)
{
    size_t (*bytes)(void) = (size_t(*)(void)) dlsym(library, "simgpu_allocated_bytes");

    return NULL == bytes ? -1 : (long long) bytes();
}

long long gpu_simulated_mappings(void)
{
    int (*mappings)(void) = (int (*)(void)) dlsym(library, "simgpu_open_mappings");

    return NULL == mappings ? -1 : mappings();
}

long long gpu_simulated_calls(const char *name)
{
    long (*count)(const char *) = (long (*)(const char *)) dlsym(library, "simgpu_call_count");

    return NULL == count ? -1 : count(name);
}
