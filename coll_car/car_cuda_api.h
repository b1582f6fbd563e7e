/*
 * The part of the CUDA driver API that coll/car, its tests and the simulated driver use, declared
 * here so that all of them build where no CUDA toolkit is. Names, values and layouts are those of
 * cuda.h; never include both in one file. tests/unit/cuda_abi compares the two wherever a toolkit
 * is present.
 *
 * Source: CUDA Driver API reference, 11.8 to 13.0.
 */
#ifndef CAR_CUDA_API_H
#define CAR_CUDA_API_H

#include <stddef.h>
#include <stdint.h>

typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUkern_st *CUkernel;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphNode_st *CUgraphNode;
typedef struct CUgraphExec_st *CUgraphExec;
typedef struct CUmemPoolHandle_st *CUmemoryPool;
typedef unsigned long long CUmemGenericAllocationHandle;
typedef void (*CUhostFn)(void *user_data);

/* Results are plain ints here: a newer driver may return a code that no list of ours has. */
typedef int CUresult;
enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_NOT_INITIALIZED = 3,
    CUDA_ERROR_DEINITIALIZED = 4,
    CUDA_ERROR_NO_DEVICE = 100,
    CUDA_ERROR_INVALID_DEVICE = 101,
    CUDA_ERROR_INVALID_IMAGE = 200,
    CUDA_ERROR_INVALID_CONTEXT = 201,
    CUDA_ERROR_MAP_FAILED = 205,
    CUDA_ERROR_ALREADY_MAPPED = 208,
    CUDA_ERROR_NO_BINARY_FOR_GPU = 209,
    CUDA_ERROR_PEER_ACCESS_UNSUPPORTED = 217,
    CUDA_ERROR_INVALID_PTX = 218,
    CUDA_ERROR_UNSUPPORTED_PTX_VERSION = 222,
    CUDA_ERROR_OPERATING_SYSTEM = 304,
    CUDA_ERROR_INVALID_HANDLE = 400,
    CUDA_ERROR_NOT_FOUND = 500,
    CUDA_ERROR_NOT_READY = 600,
    CUDA_ERROR_ILLEGAL_ADDRESS = 700,
    CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES = 701,
    CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED = 704,
    CUDA_ERROR_PEER_ACCESS_NOT_ENABLED = 705,
    CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE = 708,
    CUDA_ERROR_CONTEXT_IS_DESTROYED = 709,
    CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED = 712,
    CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED = 713,
    CUDA_ERROR_LAUNCH_FAILED = 719,
    CUDA_ERROR_NOT_PERMITTED = 800,
    CUDA_ERROR_NOT_SUPPORTED = 801,
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
    CUDA_ERROR_STREAM_CAPTURE_IMPLICIT = 906,
    CUDA_ERROR_UNKNOWN = 999
};

typedef enum {
    CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 1,
    CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
    CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY = 19,
    CU_DEVICE_ATTRIBUTE_PCI_BUS_ID = 33,
    CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID = 34,
    CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR = 39,
    CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING = 41,
    CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID = 50,
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
    CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY = 83,
    CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS = 89,
    CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED = 102,
    CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED = 115,
    CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED = 116,
    CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING = 118,
    CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED = 125,
    CU_DEVICE_ATTRIBUTE_MPS_ENABLED = 133
} CUdevice_attribute;

typedef enum {
    CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK = 1,
    CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED = 2,
    CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED = 3
} CUdevice_P2PAttribute;

typedef enum {
    CU_POINTER_ATTRIBUTE_CONTEXT = 1,
    CU_POINTER_ATTRIBUTE_MEMORY_TYPE = 2,
    CU_POINTER_ATTRIBUTE_DEVICE_POINTER = 3,
    CU_POINTER_ATTRIBUTE_HOST_POINTER = 4,
    CU_POINTER_ATTRIBUTE_SYNC_MEMOPS = 6,
    CU_POINTER_ATTRIBUTE_BUFFER_ID = 7,
    CU_POINTER_ATTRIBUTE_IS_MANAGED = 8,
    CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL = 9,
    CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE = 10,
    CU_POINTER_ATTRIBUTE_RANGE_START_ADDR = 11,
    CU_POINTER_ATTRIBUTE_RANGE_SIZE = 12,
    CU_POINTER_ATTRIBUTE_MAPPED = 13,
    CU_POINTER_ATTRIBUTE_ACCESS_FLAGS = 16,
    CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE = 17
} CUpointer_attribute;

typedef enum {
    CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 0,
    CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES = 1,
    CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES = 3,
    CU_FUNC_ATTRIBUTE_NUM_REGS = 4
} CUfunction_attribute;

typedef enum {
    CU_STREAM_CAPTURE_MODE_GLOBAL = 0,
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1,
    CU_STREAM_CAPTURE_MODE_RELAXED = 2
} CUstreamCaptureMode;

typedef enum { CU_STREAM_CAPTURE_STATUS_NONE = 0 } CUstreamCaptureStatus;

enum {
    CU_MEMORYTYPE_HOST = 1,
    CU_MEMORYTYPE_DEVICE = 2,

    CU_STREAM_DEFAULT = 0,
    CU_STREAM_NON_BLOCKING = 1,

    CU_EVENT_DEFAULT = 0,
    CU_EVENT_DISABLE_TIMING = 2,

    CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS = 1,

    CU_MEMHOSTALLOC_PORTABLE = 1,
    CU_MEMHOSTALLOC_DEVICEMAP = 2,
    CU_MEMHOSTREGISTER_PORTABLE = 1,
    CU_MEMHOSTREGISTER_DEVICEMAP = 2,

    CU_MEM_ATTACH_GLOBAL = 1,

    CU_MEM_ALLOCATION_TYPE_PINNED = 1,
    CU_MEM_HANDLE_TYPE_NONE = 0,
    CU_MEM_LOCATION_TYPE_DEVICE = 1,
    CU_MEM_ACCESS_FLAGS_PROT_READWRITE = 3,
    CU_MEM_ALLOC_GRANULARITY_MINIMUM = 0
};

/* The handles of the legacy default stream and of the calling thread's own. */
#define CU_STREAM_LEGACY ((CUstream) 0x1)
#define CU_STREAM_PER_THREAD ((CUstream) 0x2)

typedef struct {
    unsigned char bytes[16];
} CUuuid;

typedef struct {
    unsigned char reserved[64];
} CUipcMemHandle;

typedef struct {
    unsigned char reserved[64];
} CUipcEventHandle;

/*
 * CUDA_KERNEL_NODE_PARAMS_v1, which every driver from 11 on takes under the unversioned names of
 * its functions.
 */
typedef struct {
    CUfunction func;
    unsigned int gridDimX, gridDimY, gridDimZ;
    unsigned int blockDimX, blockDimY, blockDimZ;
    unsigned int sharedMemBytes;
    void **kernelParams;
    void **extra;
} CUDA_KERNEL_NODE_PARAMS;

typedef struct {
    int type;
    int id;
} CUmemLocation;

typedef struct {
    int type;
    int requestedHandleTypes;
    CUmemLocation location;
    void *win32HandleMetaData;
    struct {
        unsigned char compressionType;
        unsigned char gpuDirectRDMACapable;
        unsigned short usage;
        unsigned char reserved[4];
    } allocFlags;
} CUmemAllocationProp;

typedef struct {
    CUmemLocation location;
    int flags;
} CUmemAccessDesc;

/*
 * The entry points that coll/car calls: X(field of the table, symbol in libcuda, parameters).
 * The first list is needed; what only some drivers have stands in the second, and its field may be
 * NULL.
 */
#define CAR_CUDA_NEEDED(X)                                                                         \
    X(GetErrorName, cuGetErrorName, (CUresult, const char **) )                                    \
    X(GetErrorString, cuGetErrorString, (CUresult, const char **) )                                \
    X(DriverGetVersion, cuDriverGetVersion, (int *) )                                              \
    X(DeviceGet, cuDeviceGet, (CUdevice *, int) )                                                  \
    X(DeviceGetCount, cuDeviceGetCount, (int *) )                                                  \
    X(DeviceGetName, cuDeviceGetName, (char *, int, CUdevice))                                     \
    X(DeviceGetAttribute, cuDeviceGetAttribute, (int *, CUdevice_attribute, CUdevice))             \
    X(DeviceCanAccessPeer, cuDeviceCanAccessPeer, (int *, CUdevice, CUdevice))                     \
    X(DeviceGetP2PAttribute, cuDeviceGetP2PAttribute,                                              \
      (int *, CUdevice_P2PAttribute, CUdevice, CUdevice))                                          \
    X(DevicePrimaryCtxGetState, cuDevicePrimaryCtxGetState, (CUdevice, unsigned int *, int *) )    \
    X(DevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain, (CUcontext *, CUdevice))                   \
    X(DevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2, (CUdevice))                           \
    X(CtxGetCurrent, cuCtxGetCurrent, (CUcontext *) )                                              \
    X(CtxPushCurrent, cuCtxPushCurrent_v2, (CUcontext))                                            \
    X(CtxPopCurrent, cuCtxPopCurrent_v2, (CUcontext *) )                                           \
    X(CtxGetDevice, cuCtxGetDevice, (CUdevice *) )                                                 \
    X(CtxGetStreamPriorityRange, cuCtxGetStreamPriorityRange, (int *, int *) )                     \
    X(ThreadExchangeStreamCaptureMode, cuThreadExchangeStreamCaptureMode,                          \
      (CUstreamCaptureMode *) )                                                                    \
    X(PointerGetAttribute, cuPointerGetAttribute, (void *, CUpointer_attribute, CUdeviceptr))      \
    X(PointerGetAttributes, cuPointerGetAttributes,                                                \
      (unsigned int, CUpointer_attribute *, void **, CUdeviceptr))                                 \
    X(PointerSetAttribute, cuPointerSetAttribute,                                                  \
      (const void *, CUpointer_attribute, CUdeviceptr))                                            \
    X(MemAlloc, cuMemAlloc_v2, (CUdeviceptr *, size_t))                                            \
    X(MemFree, cuMemFree_v2, (CUdeviceptr))                                                        \
    X(MemHostAlloc, cuMemHostAlloc, (void **, size_t, unsigned int) )                              \
    X(MemFreeHost, cuMemFreeHost, (void *) )                                                       \
    X(MemHostGetDevicePointer, cuMemHostGetDevicePointer_v2,                                       \
      (CUdeviceptr *, void *, unsigned int) )                                                      \
    X(MemcpyAsync, cuMemcpyAsync, (CUdeviceptr, CUdeviceptr, size_t, CUstream))                    \
    X(MemsetD8Async, cuMemsetD8Async, (CUdeviceptr, unsigned char, size_t, CUstream))              \
    X(IpcGetMemHandle, cuIpcGetMemHandle, (CUipcMemHandle *, CUdeviceptr))                         \
    X(IpcOpenMemHandle, cuIpcOpenMemHandle_v2, (CUdeviceptr *, CUipcMemHandle, unsigned int) )     \
    X(IpcCloseMemHandle, cuIpcCloseMemHandle, (CUdeviceptr))                                       \
    X(StreamCreateWithPriority, cuStreamCreateWithPriority, (CUstream *, unsigned int, int) )      \
    X(StreamDestroy, cuStreamDestroy_v2, (CUstream))                                               \
    X(StreamIsCapturing, cuStreamIsCapturing, (CUstream, CUstreamCaptureStatus *) )                \
    X(StreamQuery, cuStreamQuery, (CUstream))                                                      \
    X(StreamSynchronize, cuStreamSynchronize, (CUstream))                                          \
    X(StreamWaitEvent, cuStreamWaitEvent, (CUstream, CUevent, unsigned int) )                      \
    X(EventCreate, cuEventCreate, (CUevent *, unsigned int) )                                      \
    X(EventDestroy, cuEventDestroy_v2, (CUevent))                                                  \
    X(EventRecord, cuEventRecord, (CUevent, CUstream))                                             \
    X(ModuleLoadData, cuModuleLoadData, (CUmodule *, const void *) )                               \
    X(ModuleUnload, cuModuleUnload, (CUmodule))                                                    \
    X(ModuleGetFunction, cuModuleGetFunction, (CUfunction *, CUmodule, const char *) )             \
    X(FuncGetAttribute, cuFuncGetAttribute, (int *, CUfunction_attribute, CUfunction))             \
    X(OccupancyMaxActiveBlocksPerMultiprocessor, cuOccupancyMaxActiveBlocksPerMultiprocessor,      \
      (int *, CUfunction, int, size_t))                                                            \
    X(LaunchKernel, cuLaunchKernel,                                                                \
      (CUfunction, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int,           \
       unsigned int, unsigned int, CUstream, void **, void **) )                                   \
    X(GraphCreate, cuGraphCreate, (CUgraph *, unsigned int) )                                      \
    X(GraphDestroy, cuGraphDestroy, (CUgraph))                                                     \
    X(GraphAddKernelNode, cuGraphAddKernelNode,                                                    \
      (CUgraphNode *, CUgraph, const CUgraphNode *, size_t, const CUDA_KERNEL_NODE_PARAMS *) )     \
    X(GraphInstantiateWithFlags, cuGraphInstantiateWithFlags,                                      \
      (CUgraphExec *, CUgraph, unsigned long long) )                                               \
    X(GraphExecKernelNodeSetParams, cuGraphExecKernelNodeSetParams,                                \
      (CUgraphExec, CUgraphNode, const CUDA_KERNEL_NODE_PARAMS *) )                                \
    X(GraphExecDestroy, cuGraphExecDestroy, (CUgraphExec))                                         \
    X(GraphUpload, cuGraphUpload, (CUgraphExec, CUstream))                                         \
    X(GraphLaunch, cuGraphLaunch, (CUgraphExec, CUstream))

#define CAR_CUDA_OPTIONAL(X)                                                                       \
    X(DeviceGetUuid, cuDeviceGetUuid, (CUuuid *, CUdevice))                                        \
    X(DeviceGetUuid_v2, cuDeviceGetUuid_v2, (CUuuid *, CUdevice))                                  \
    X(CtxGetId, cuCtxGetId, (CUcontext, unsigned long long *) )

#endif /* CAR_CUDA_API_H */
