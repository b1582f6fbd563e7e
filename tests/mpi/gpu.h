/*
 * CUDA as an application would use it, through the driver API: libcuda is found at run time, all
 * data moves by driver copies. Whatever fails here is no finding about coll/car but a broken test:
 * the program says so and aborts.
 */
#ifndef TEST_GPU_H
#define TEST_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "car_cuda_api.h"

/* Entry points that only applications need: X(field, symbol, parameters), like CAR_CUDA_NEEDED. */
#define GPU_API(X)                                                                                 \
    X(Init, cuInit, (unsigned int) )                                                               \
    X(CtxCreate, cuCtxCreate_v2, (CUcontext *, unsigned int, CUdevice))                            \
    X(CtxDestroy, cuCtxDestroy_v2, (CUcontext))                                                    \
    X(CtxSetCurrent, cuCtxSetCurrent, (CUcontext))                                                 \
    X(DevicePrimaryCtxReset, cuDevicePrimaryCtxReset_v2, (CUdevice))                               \
    X(CtxSynchronize, cuCtxSynchronize, (void) )                                                   \
    X(MemGetInfo, cuMemGetInfo_v2, (size_t *, size_t *) )                                          \
    X(MemAllocManaged, cuMemAllocManaged, (CUdeviceptr *, size_t, unsigned int) )                  \
    X(MemAllocAsync, cuMemAllocAsync, (CUdeviceptr *, size_t, CUstream))                           \
    X(MemFreeAsync, cuMemFreeAsync, (CUdeviceptr, CUstream))                                       \
    X(MemHostRegister, cuMemHostRegister_v2, (void *, size_t, unsigned int) )                      \
    X(MemHostUnregister, cuMemHostUnregister, (void *) )                                           \
    X(MemGetAllocationGranularity, cuMemGetAllocationGranularity,                                  \
      (size_t *, const CUmemAllocationProp *, int) )                                               \
    X(MemAddressReserve, cuMemAddressReserve,                                                      \
      (CUdeviceptr *, size_t, size_t, CUdeviceptr, unsigned long long) )                           \
    X(MemAddressFree, cuMemAddressFree, (CUdeviceptr, size_t))                                     \
    X(MemCreate, cuMemCreate,                                                                      \
      (CUmemGenericAllocationHandle *, size_t, const CUmemAllocationProp *, unsigned long long) )  \
    X(MemRelease, cuMemRelease, (CUmemGenericAllocationHandle))                                    \
    X(MemMap, cuMemMap,                                                                            \
      (CUdeviceptr, size_t, size_t, CUmemGenericAllocationHandle, unsigned long long) )            \
    X(MemUnmap, cuMemUnmap, (CUdeviceptr, size_t))                                                 \
    X(MemSetAccess, cuMemSetAccess, (CUdeviceptr, size_t, const CUmemAccessDesc *, size_t))        \
    X(Memcpy, cuMemcpy, (CUdeviceptr, CUdeviceptr, size_t))                                        \
    X(StreamCreate, cuStreamCreate, (CUstream *, unsigned int) )                                   \
    X(StreamBeginCapture, cuStreamBeginCapture_v2, (CUstream, CUstreamCaptureMode))                \
    X(StreamEndCapture, cuStreamEndCapture, (CUstream, CUgraph *) )

typedef struct {
#define GPU_FIELD(field, symbol, parameters) CUresult(*field) parameters;
    GPU_API(GPU_FIELD)
    CAR_CUDA_NEEDED(GPU_FIELD)
#undef GPU_FIELD
} gpu_api_t;

/* Filled by gpu_open. */
extern gpu_api_t gpu;

/* Ends all ranks with a message unless the driver call succeeded. */
#define GPU_OK(call) gpu_ok((call), #call, __FILE__, __LINE__)
void gpu_ok(CUresult result, const char *call, const char *file, int line);

/*
 * Loads the driver, as the loader does for programs that are linked with it; CUDA itself starts in
 * gpu_open. Before MPI_Init: coll/car sees in /proc and /dev whether there can be a driver at all,
 * and a simulated one is not seen there.
 */
void gpu_load(void);

/* Initialises CUDA; false, with *why, where there is no driver or no device. */
bool gpu_open(const char **why);
int gpu_count(void);

/*
 * Makes the primary context of that device current on this thread; the first device is retained for
 * gpu_other.
 */
void gpu_use(int device);
int gpu_in_use(void);

/* Whether the device is one of simgpu's, where times mean nothing. */
bool gpu_simulated(void);

/* The kinds of memory that a buffer can be made of. */
typedef enum {
    GPU_DEVICE,     /* cuMemAlloc */
    GPU_MANAGED,    /* cuMemAllocManaged */
    GPU_POOL,       /* cuMemAllocAsync */
    GPU_VMM,        /* cuMemCreate, cuMemMap */
    GPU_OTHER,      /* cuMemAlloc on another device than the one in use */
    GPU_HOST,       /* malloc */
    GPU_REGISTERED, /* malloc and cuMemHostRegister */
    GPU_MAPPED,     /* cuMemHostAlloc, mapped for devices */
    GPU_KINDS
} gpu_kind_t;

const char *gpu_kind_name(gpu_kind_t kind);
/* The kind of that name, or GPU_KINDS. */
gpu_kind_t gpu_kind_find(const char *name);
/*
 * False where this machine cannot have it, such as memory of another device where there is only
 * one.
 */
bool gpu_kind_possible(gpu_kind_t kind);
/*
 * Memory that only the host's ranks reduce: coll/car leaves a call with nothing else to the saved
 * module.
 */
bool gpu_kind_is_host(gpu_kind_t kind);

typedef struct {
    gpu_kind_t kind;
    size_t bytes;
    void *address;
    CUmemGenericAllocationHandle handle; /* GPU_VMM */
    size_t mapped;                       /* GPU_VMM: bytes, in whole granules */
} gpu_buffer_t;

gpu_buffer_t gpu_allocate(gpu_kind_t kind, size_t bytes);
void gpu_free(gpu_buffer_t *buffer);

/* Between host memory and a buffer of any kind; complete on return. */
void gpu_write(void *to, const void *from, size_t bytes);
void gpu_read(void *to, const void *from, size_t bytes);

/* A kernel of tests/kernels/test_kernels.cu. */
CUfunction gpu_kernel(const char *name);

/*
 * Counts that only simgpu keeps: of bytes allocated, of IPC mappings that are open, of calls of an
 * entry point; -1 on real GPUs.
 */
long long gpu_simulated_bytes(void);
long long gpu_simulated_mappings(void);
long long gpu_simulated_calls(const char *name);

#endif /* TEST_GPU_H */
