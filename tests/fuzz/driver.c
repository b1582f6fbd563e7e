#include "driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "car_kernel_args.h"

static char *memories[DRIVER_MEMORIES];
static char context, module;
static char kernel, fold_kernel;

static size_t bytes_of(int index)
{
    return index < DRIVER_USERS ? DRIVER_ARENA : DRIVER_USER;
}

CUdeviceptr driver_memory(int index)
{
    if (NULL == memories[index]
        && 0 != posix_memalign((void **) &memories[index], 4096, bytes_of(index))) {
        abort();
    }
    return (CUdeviceptr) (uintptr_t) memories[index];
}

CUipcMemHandle driver_handle(int index)
{
    return (CUipcMemHandle){.reserved = {'h', (unsigned char) index}};
}

/* The memory that an address lies in, or -1. */
static int memory_of(CUdeviceptr address, uint64_t bytes)
{
    for (int i = 0; i < DRIVER_MEMORIES; ++i) {
        const CUdeviceptr start = driver_memory(i);
        if (address >= start && bytes <= bytes_of(i) && address - start <= bytes_of(i) - bytes) {
            return i;
        }
    }
    return -1;
}

static void must_be_there(const void *address, uint64_t bytes, const char *what)
{
    if (memory_of((CUdeviceptr) (uintptr_t) address, bytes) < 0) {
        fprintf(stderr, "a kernel was given %s at %p, %llu bytes, which is nowhere\n", what,
                address, (unsigned long long) bytes);
        abort();
    }
}

/* --- the entry points that the engine calls --------------------------------------------------- */

static CUresult fine(void)
{
    return CUDA_SUCCESS;
}

CUresult driver_streams;

static CUresult look_at_stream(CUstream s)
{
    (void) s;
    return driver_streams;
}

static CUresult device_count(int *count) { *count = 1; return CUDA_SUCCESS; }

static CUresult device_name(char *name, int bytes, CUdevice d)
{
    (void) d;
    snprintf(name, (size_t) bytes, "none");
    return CUDA_SUCCESS;
}

static CUresult device_attribute(int *value, CUdevice_attribute a, CUdevice d)
{
    (void) a;
    (void) d;
    *value = 1;
    return CUDA_SUCCESS;
}

static CUresult device_uuid(CUuuid *uuid, CUdevice d)
{
    (void) d;
    memset(uuid, 1, sizeof(*uuid));
    return CUDA_SUCCESS;
}

static CUresult access_peer(int *can, CUdevice a, CUdevice b)
{
    (void) a;
    (void) b;
    *can = 1;
    return CUDA_SUCCESS;
}

static CUresult p2p(int *value, CUdevice_P2PAttribute w, CUdevice a, CUdevice b)
{
    (void) w;
    (void) a;
    (void) b;
    *value = 1;
    return CUDA_SUCCESS;
}

static CUresult current(CUcontext *c) { *c = (CUcontext) (void *) &context; return CUDA_SUCCESS; }
static CUresult current_device(CUdevice *d) { *d = 0; return CUDA_SUCCESS; }

static CUresult priorities(int *least, int *greatest)
{
    *least = *greatest = 0;
    return CUDA_SUCCESS;
}

static CUresult load(CUmodule *m, const void *image)
{
    (void) image;
    *m = (CUmodule) (void *) &module;
    return CUDA_SUCCESS;
}

static CUresult threads(int *value, CUfunction_attribute a, CUfunction f)
{
    (void) a;
    (void) f;
    *value = 512;
    return CUDA_SUCCESS;
}

static CUresult occupancy(int *blocks, CUfunction f, int t, size_t s)
{
    (void) f;
    (void) t;
    (void) s;
    *blocks = 64;
    return CUDA_SUCCESS;
}

static CUresult stream(CUstream *s, unsigned int flags, int priority)
{
    (void) flags;
    (void) priority;
    *s = (CUstream) malloc(1);
    return CUDA_SUCCESS;
}

static CUresult stream_end(CUstream s) { free(s); return CUDA_SUCCESS; }

static CUresult event(CUevent *e, unsigned int flags)
{
    (void) flags;
    *e = (CUevent) malloc(1);
    return CUDA_SUCCESS;
}

static CUresult event_end(CUevent e) { free(e); return CUDA_SUCCESS; }

static CUresult capturing(CUstream s, CUstreamCaptureStatus *status)
{
    (void) s;
    memset(status, 0, sizeof(*status));
    return CUDA_SUCCESS;
}

static CUresult host_alloc(void **memory, size_t bytes, unsigned int flags)
{
    (void) flags;
    *memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    return NULL == *memory ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

static CUresult host_pointer(CUdeviceptr *d, void *memory, unsigned int flags)
{
    (void) flags;
    *d = (CUdeviceptr) (uintptr_t) memory;
    return CUDA_SUCCESS;
}

static CUresult function(CUfunction *f, CUmodule m, const char *name)
{
    (void) m;
    *f = (CUfunction) (void *) (NULL != strstr(name, "fold") ? &fold_kernel : &kernel);
    return CUDA_SUCCESS;
}

static CUresult allocate(CUdeviceptr *address, size_t bytes)
{
    if (bytes != DRIVER_ARENA) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *address = driver_memory(0);
    return CUDA_SUCCESS;
}

/*
 * Host memory may stand on either side; whatever is wrong with the addresses AddressSanitizer
 * finds.
 */
static CUresult copy(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream s)
{
    (void) s;
    memcpy((void *) (uintptr_t) to, (const void *) (uintptr_t) from, bytes);
    return CUDA_SUCCESS;
}

static CUresult fill(CUdeviceptr to, unsigned char value, size_t bytes, CUstream s)
{
    (void) s;
    must_be_there((void *) (uintptr_t) to, bytes, "memory to clear");
    memset((void *) (uintptr_t) to, value, bytes);
    return CUDA_SUCCESS;
}

static CUresult export(CUipcMemHandle *handle, CUdeviceptr address)
{
    const int index = memory_of(address, 1);
    if (index < 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *handle = driver_handle(index);
    return CUDA_SUCCESS;
}

static CUresult import(CUdeviceptr *address, CUipcMemHandle handle, unsigned int flags)
{
    (void) flags;
    if ('h' != handle.reserved[0] || handle.reserved[1] >= DRIVER_MEMORIES) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    *address = driver_memory(handle.reserved[1]);
    return CUDA_SUCCESS;
}

static CUresult ask(void *value, CUpointer_attribute attribute, CUdeviceptr address)
{
    const int index = memory_of(address, 1);
    if (index < 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    switch ((int) attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
        return car_cuda()->CtxGetCurrent(value);
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        *(int *) value = 0;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
        *(unsigned long long *) value = 100 + (unsigned long long) index;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        *(CUdeviceptr *) value = driver_memory(index);
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        *(size_t *) value = bytes_of(index);
        return CUDA_SUCCESS;
    default:
        return CUDA_ERROR_NOT_SUPPORTED;
    }
}

static void look_at_fold(const car_fold_args_t *args)
{
    const uint64_t bytes = args->what.count << args->what.element_shift;

    for (int i = 0; i < args->sources; ++i) {
        must_be_there(args->source[i], bytes, "an operand");
    }
    for (int i = 0; i < args->dests; ++i) {
        must_be_there(args->dest[i], bytes, "a result");
    }
}

/* A kernel that finishes at once. */
static CUresult launch(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz,
                       unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared,
                       CUstream s, void **parameters, void **extra)
{
    uint64_t *done, ticket;

    (void) gy, (void) gz, (void) by, (void) bz, (void) shared, (void) s, (void) extra;
    if (0 == gx || gx > CAR_MAX_BLOCKS || 0 == bx || bx > 512) {
        abort();
    }
    if (f == (CUfunction) (void *) &fold_kernel) {
        const car_fold_args_t *args = parameters[0];
        look_at_fold(args);
        done = args->done;
        ticket = args->ticket;
    } else {
        const car_kernel_args_t *args = parameters[0];
        for (uint32_t r = 0; r < args->size; ++r) {
            must_be_there(args->piece[r],
                          args->staging_offset + CAR_SLOTS * (uint64_t) args->staging_slot,
                          "a piece");
        }
        done = args->done;
        ticket = args->ticket;
    }
    for (int i = 0; i < CAR_DONE_WORDS; ++i) {
        done[i] = ticket << 32;
    }
    return CUDA_SUCCESS;
}

#define FINE(field) .field = (void *) fine
static const car_cuda_t table = {FINE(CtxPushCurrent),
                                 FINE(CtxPopCurrent),
                                 FINE(ThreadExchangeStreamCaptureMode),
                                 FINE(PointerSetAttribute),
                                 FINE(MemFree),
                                 FINE(MemFreeHost),
                                 FINE(IpcCloseMemHandle),
                                 FINE(StreamWaitEvent),
                                 FINE(EventRecord),
                                 FINE(ModuleUnload),
                                 .DeviceGetCount = device_count,
                                 .DeviceGetName = device_name,
                                 .DeviceGetAttribute = device_attribute,
                                 .DeviceGetUuid = device_uuid,
                                 .DeviceCanAccessPeer = access_peer,
                                 .DeviceGetP2PAttribute = p2p,
                                 .CtxGetCurrent = current,
                                 .CtxGetDevice = current_device,
                                 .CtxGetStreamPriorityRange = priorities,
                                 .ModuleLoadData = load,
                                 .ModuleGetFunction = function,
                                 .FuncGetAttribute = threads,
                                 .OccupancyMaxActiveBlocksPerMultiprocessor = occupancy,
                                 .StreamQuery = look_at_stream,
                                 .StreamSynchronize = look_at_stream,
                                 .StreamCreateWithPriority = stream,
                                 .StreamDestroy = stream_end,
                                 .EventCreate = event,
                                 .EventDestroy = event_end,
                                 .StreamIsCapturing = capturing,
                                 .MemHostAlloc = host_alloc,
                                 .MemHostGetDevicePointer = host_pointer,
                                 .MemAlloc = allocate,
                                 .MemcpyAsync = copy,
                                 .MemsetD8Async = fill,
                                 .IpcGetMemHandle = export,
                                 .IpcOpenMemHandle = import,
                                 .PointerGetAttribute = ask,
                                 .LaunchKernel = launch};

const car_cuda_t *car_cuda(void) { return &table; }
const char *car_cuda_missing(void) { return NULL; }

const char *car_cuda_error(CUresult result)
{
    return CUDA_SUCCESS == result ? "no error" : "an error";
}

int car_cuda_in_use(void) { return 1; }
int car_cuda_impossible(void) { return 0; }

CUresult car_cuda_enter(const car_cuda_t *cuda, CUcontext c, car_cuda_guard_t *guard)
{
    (void) cuda;
    (void) c;
    (void) guard;
    return CUDA_SUCCESS;
}

void car_cuda_leave(const car_cuda_t *cuda, car_cuda_guard_t *guard) { (void) cuda; (void) guard; }
CUresult car_cuda_wait(const car_cuda_t *cuda, CUstream s) { return cuda->StreamSynchronize(s); }
bool car_cuda_drain(const car_cuda_t *cuda, CUstream s)
{
    return CUDA_SUCCESS == cuda->StreamSynchronize(s);
}
