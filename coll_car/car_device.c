#include "car_device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "car_images.h"

struct car_peer_arena {
    car_peer_arena_t *next;
    car_id_t id;
    CUdeviceptr address;
    unsigned int users;
};

static car_device_t *devices;

static bool failed(CUresult result, const char *what, char reason[CAR_REASON_BYTES])
{
    if (CUDA_SUCCESS == result) {
        return false;
    }
    snprintf(reason, CAR_REASON_BYTES, "%s failed: %s", what, car_cuda_error(result));
    return true;
}

static bool load_kernels(car_device_t *d, char reason[CAR_REASON_BYTES])
{
    for (int a = 0; a < CAR_FILES; ++a) {
        const CUresult result = d->cuda->ModuleLoadData(&d->modules[a], car_images[a].data);
        if (CUDA_SUCCESS != result) {
            snprintf(reason, CAR_REASON_BYTES, "the kernels do not load on %s (sm_%d): %s; %s",
                     d->name, d->generation, car_cuda_error(result),
                     0 == car_images[a].size
                         ? "this build has none, as there was no nvcc: rebuild with a CUDA toolkit"
                         : "rebuild with --with-cuda-arch naming this GPU");
            return false;
        }
        for (int k = 0; k < CAR_KERNELS; ++k) {
            char name[64];
            snprintf(name, sizeof(name), "car_%s_%s", car_images[a].name,
                     car_kernel_name((car_kernel_t) k));
            if (failed(d->cuda->ModuleGetFunction(&d->functions[a][k], d->modules[a], name), name,
                       reason)) {
                return false;
            }
        }
    }
    return true;
}

/*
 * The largest block that every kernel takes, and how many such blocks fit the GPU, or this
 * context's share of it.
 */
static bool measure_kernels(car_device_t *d, char reason[CAR_REASON_BYTES])
{
    int threads = CAR_MAX_THREADS, fit = 0, least = 0, to_stay = 0;

    for (int pass = 0; pass < 2; ++pass) {
        for (int a = 0; a < CAR_FILES; ++a) {
            for (int k = 0; k < CAR_KERNELS; ++k) {
                int most = 0;
                CUfunction f = d->functions[a][k];
                if (0 == pass) {
                    if (failed(d->cuda->FuncGetAttribute(
                                   &most, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, f),
                               "cuFuncGetAttribute", reason)) {
                        return false;
                    }
                    threads = most < threads ? most : threads;
                } else {
                    if (failed(
                            d->cuda->OccupancyMaxActiveBlocksPerMultiprocessor(&fit, f, threads, 0),
                            "cuOccupancyMaxActiveBlocksPerMultiprocessor", reason)) {
                        return false;
                    }
                    int *which = CAR_STAY == a ? &to_stay : &least;
                    *which = 0 == *which || fit < *which ? fit : *which;
                }
            }
        }
    }
    d->threads = (uint32_t) (threads - threads % CAR_WARP);
    d->resident_blocks = (uint32_t) (least * d->multiprocessors);
    d->resident_to_stay = (uint32_t) ((to_stay < least ? to_stay : least) * d->multiprocessors);
    if (0 == d->threads || 0 == d->resident_blocks) {
        snprintf(reason, CAR_REASON_BYTES, "no block of the kernels fits %s", d->name);
        return false;
    }
    return true;
}

/*
 * As much of `memory` as there is, halving down to an eighth; exported, so that peers can map it.
 */
static bool allocate_arena(car_device_t *d, size_t memory, char reason[CAR_REASON_BYTES])
{
    CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
    size_t bytes = memory;

    for (; bytes >= memory / 8 && bytes > 0 && CUDA_SUCCESS != result; bytes /= 2) {
        result = d->cuda->MemAlloc(&d->memory, bytes);
        if (CUDA_SUCCESS == result) {
            car_arena_init(&d->arena, bytes);
        }
    }
    if (failed(result, "allocating device memory (coll_car_memory)", reason)) {
        d->memory = 0;
        return false;
    }
    if (sizeof(d->id) != getrandom(&d->id, sizeof(d->id), 0)) {
        snprintf(reason, CAR_REASON_BYTES, "getrandom failed");
        return false;
    }
    return !failed(d->cuda->IpcGetMemHandle(&d->handle, d->memory), "cuIpcGetMemHandle", reason);
}

static bool allocate_words(car_device_t *d, char reason[CAR_REASON_BYTES])
{
    void *words = NULL;

    if (failed(d->cuda->MemHostAlloc(&words, CAR_HOST_WORDS * sizeof(car_host_word_t),
                                     CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP),
               "allocating mapped host memory", reason)) {
        return false;
    }
    d->host_words = words;
    memset(words, 0, CAR_HOST_WORDS * sizeof(car_host_word_t));
    d->host_words_used[CAR_GONE_WORD / 64] |= UINT64_C(1) << CAR_GONE_WORD % 64;
    return !failed(d->cuda->MemHostGetDevicePointer(&d->host_words_on_device, words, 0),
                   "cuMemHostGetDevicePointer", reason);
}

/*
 * The driver says whether contexts here share the GPU through MPS since CUDA 12; before, a control
 * daemon at the place where the driver looks for one is a sign of it.
 */
static bool has_mps(const car_device_t *d)
{
    const char *folder = getenv("CUDA_MPS_PIPE_DIRECTORY");
    char control[512];
    int enabled = 0;

    if (CUDA_SUCCESS
        == d->cuda->DeviceGetAttribute(&enabled, CU_DEVICE_ATTRIBUTE_MPS_ENABLED, d->ordinal)) {
        return 0 != enabled;
    }
    snprintf(control, sizeof(control), "%s/control", NULL != folder ? folder : "/tmp/nvidia-mps");
    return 0 == access(control, F_OK);
}

/*
 * A constant of the driver's: this GPU's kernels see in order what others, such as network cards,
 * have written to its memory.
 */
#define CAR_WRITES_ORDERED_FOR_OWNER 100

/* True, too, where nothing but GPUs and the driver writes there. */
static bool sees_writes_of_others(const car_device_t *d)
{
    int possible = 1, ordering = 0;

    (void) d->cuda->DeviceGetAttribute(&possible, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED,
                                       d->ordinal);
    (void) d->cuda->DeviceGetAttribute(
        &ordering, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING, d->ordinal);
    return 0 == possible || ordering >= CAR_WRITES_ORDERED_FOR_OWNER;
}

static bool identify(car_device_t *d, char reason[CAR_REASON_BYTES])
{
    int least = 0, major = 0, minor = 0;
    const car_cuda_t *cuda = d->cuda;

    if (failed(cuda->CtxGetDevice(&d->ordinal), "cuCtxGetDevice", reason)
        || failed(cuda->DeviceGetName(d->name, sizeof(d->name), d->ordinal), "cuDeviceGetName",
                  reason)
        || failed(cuda->DeviceGetAttribute(&d->multiprocessors,
                                           CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, d->ordinal),
                  "cuDeviceGetAttribute", reason)
        || failed(cuda->DeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                                           d->ordinal),
                  "cuDeviceGetAttribute", reason)
        || failed(cuda->DeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                                           d->ordinal),
                  "cuDeviceGetAttribute", reason)
        || failed(cuda->CtxGetStreamPriorityRange(&least, &d->priority),
                  "cuCtxGetStreamPriorityRange", reason)) {
        return false;
    }
    d->generation = 10 * major + minor;
    d->side_by_side = has_mps(d);
    d->sees_writes_of_others = sees_writes_of_others(d);
    /* The second form tells the slices of a GPU that MIG divides apart. */
    return !failed(NULL != cuda->DeviceGetUuid_v2 ? cuda->DeviceGetUuid_v2(&d->uuid, d->ordinal)
                   : NULL != cuda->DeviceGetUuid  ? cuda->DeviceGetUuid(&d->uuid, d->ordinal)
                                                  : CUDA_ERROR_NOT_SUPPORTED,
                   "cuDeviceGetUuid", reason);
}

static void release(car_device_t *d)
{
    if (NULL != d->host_words) {
        (void) d->cuda->MemFreeHost(d->host_words);
    }
    if (0 != d->memory) {
        (void) d->cuda->MemFree(d->memory);
    }
    car_arena_fini(&d->arena);
    for (int a = 0; a < CAR_FILES; ++a) {
        if (NULL != d->modules[a]) {
            (void) d->cuda->ModuleUnload(d->modules[a]);
        }
    }
    free(d);
}

car_device_t *car_device_get(const car_cuda_t *cuda, CUcontext context, size_t memory,
                             char reason[CAR_REASON_BYTES])
{
    car_cuda_guard_t guard;
    car_device_t *d;
    unsigned long long id = 0;

    if (NULL != cuda->CtxGetId) {
        (void) cuda->CtxGetId(context, &id);
    }
    /*
     * What was held in a context that has been reset is gone with it; its entry stays, and matches
     * nothing any more.
     */
    for (d = devices; NULL != d; d = d->next) {
        if (d->context == context && d->context_id == id) {
            return d;
        }
    }
    d = calloc(1, sizeof(*d));
    if (NULL == d) {
        snprintf(reason, CAR_REASON_BYTES, "out of host memory");
        return NULL;
    }
    d->cuda = cuda;
    d->context = context;
    d->context_id = id;
    if (failed(car_cuda_enter(cuda, context, &guard), "making the context current", reason)) {
        free(d);
        return NULL;
    }
    if (identify(d, reason) && load_kernels(d, reason) && measure_kernels(d, reason)
        && allocate_arena(d, memory, reason) && allocate_words(d, reason)) {
        d->next = devices;
        devices = d;
    } else {
        release(d);
        d = NULL;
    }
    car_cuda_leave(cuda, &guard);
    return d;
}

bool car_device_lost(const car_device_t *device)
{
    unsigned long long id = 0;

    return NULL != device->cuda->CtxGetId
           && (CUDA_SUCCESS != device->cuda->CtxGetId(device->context, &id)
               || device->context_id != id);
}

/*
 * The primary context of a device that the process uses already; coll/car makes none come to life.
 */
static bool primary_context(const car_cuda_t *cuda, CUdevice ordinal, CUcontext *context)
{
    unsigned int flags;
    int active = 0;

    if (CUDA_SUCCESS != cuda->DevicePrimaryCtxGetState(ordinal, &flags, &active) || !active
        || CUDA_SUCCESS != cuda->DevicePrimaryCtxRetain(context, ordinal)) {
        return false;
    }
    /* Not held: it is the application's, and lives as long as he wants. */
    (void) cuda->DevicePrimaryCtxRelease(ordinal);
    return true;
}

bool car_device_find_context(const car_cuda_t *cuda, CUdeviceptr address, CUcontext *context,
                             char reason[CAR_REASON_BYTES])
{
    int devices_seen = 0, ordinal = -1, active = 0;

    *context = NULL;
    if (0 != address) {
        CUdevice on = -1;
        /* Memory from pools and from cuMemCreate belongs to no context, only to a device. */
        (void) cuda->PointerGetAttribute(context, CU_POINTER_ATTRIBUTE_CONTEXT, address);
        if (NULL == *context
            && CUDA_SUCCESS
                   == cuda->PointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                                                address)) {
            if (CUDA_SUCCESS == cuda->CtxGetCurrent(context) && NULL != *context
                && (CUDA_SUCCESS != cuda->CtxGetDevice(&on) || on != ordinal)) {
                *context = NULL;
            }
            if (NULL == *context) {
                (void) primary_context(cuda, ordinal, context);
            }
        }
    } else if (CUDA_SUCCESS != cuda->CtxGetCurrent(context)) {
        *context = NULL;
    }
    if (NULL != *context) {
        return true;
    }
    (void) cuda->DeviceGetCount(&devices_seen);
    for (int i = 0; i < devices_seen; ++i) {
        CUcontext primary;
        if (primary_context(cuda, i, &primary)) {
            *context = primary;
            ++active;
        }
    }
    if (1 != active) {
        snprintf(reason, CAR_REASON_BYTES,
                 0 == active ? "this rank has no CUDA context"
                             : "this rank passed host memory, has no current context and uses "
                               "several GPUs: make one current (cudaSetDevice) before the first "
                               "MPI_Allreduce");
        return false;
    }
    return true;
}

int car_device_take_word(car_device_t *device)
{
    for (int i = 0; i < CAR_HOST_WORDS; ++i) {
        if (0 == (device->host_words_used[i / 64] >> i % 64 & 1)) {
            device->host_words_used[i / 64] |= UINT64_C(1) << i % 64;
            memset((void *) &device->host_words[i], 0, sizeof(device->host_words[i]));
            return i;
        }
    }
    return -1;
}

void car_device_give_word(car_device_t *device, int word)
{
    device->host_words_used[word / 64] &= ~(UINT64_C(1) << word % 64);
}

CUresult car_device_map(car_device_t *device, const car_id_t *id, const CUipcMemHandle *handle,
                        CUdeviceptr *address)
{
    for (car_peer_arena_t *p = device->peers; NULL != p; p = p->next) {
        if (0 == memcmp(&p->id, id, sizeof(*id))) {
            ++p->users;
            *address = p->address;
            return CUDA_SUCCESS;
        }
    }
    car_peer_arena_t *p = calloc(1, sizeof(*p));
    if (NULL == p) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    car_cuda_guard_t guard;
    CUresult result = car_cuda_enter(device->cuda, device->context, &guard);
    if (CUDA_SUCCESS == result) {
        result = device->cuda->IpcOpenMemHandle(&p->address, *handle,
                                                CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
        car_cuda_leave(device->cuda, &guard);
    }
    if (CUDA_SUCCESS != result) {
        free(p);
        return result;
    }
    p->id = *id;
    p->users = 1;
    p->next = device->peers;
    device->peers = p;
    *address = p->address;
    return CUDA_SUCCESS;
}

void car_device_unmap(car_device_t *device, const car_id_t *id)
{
    for (car_peer_arena_t **link = &device->peers; NULL != *link; link = &(*link)->next) {
        car_peer_arena_t *p = *link;
        if (0 == memcmp(&p->id, id, sizeof(*id))) {
            if (0 == --p->users) {
                car_cuda_guard_t guard;
                if (CUDA_SUCCESS == car_cuda_enter(device->cuda, device->context, &guard)) {
                    (void) device->cuda->IpcCloseMemHandle(p->address);
                    car_cuda_leave(device->cuda, &guard);
                }
                *link = p->next;
                free(p);
            }
            return;
        }
    }
}
