#include "car_cuda.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static car_cuda_t table;
static _Atomic(const car_cuda_t *) ready;
static _Atomic(const char *) missing;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

typedef struct {
    const char *symbol;
    size_t offset;
    int needed;
} car_entry_t;

static const car_entry_t entries[] = {
#define CAR_ENTRY(field, symbol, parameters) {#symbol, offsetof(car_cuda_t, field), 1},
    CAR_CUDA_NEEDED(CAR_ENTRY)
#undef CAR_ENTRY
#define CAR_ENTRY(field, symbol, parameters) {#symbol, offsetof(car_cuda_t, field), 0},
    CAR_CUDA_OPTIONAL(CAR_ENTRY)
#undef CAR_ENTRY
};

/* Returns the first needed symbol that the library lacks, or NULL with the table filled. */
static const char *fill_table(void *library)
{
    for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); ++i) {
        void *address = dlsym(library, entries[i].symbol);
        if (NULL == address && entries[i].needed) {
            return entries[i].symbol;
        }
        memcpy((char *) &table + entries[i].offset, &address, sizeof(address));
    }
    return NULL;
}

const car_cuda_t *car_cuda(void)
{
    const car_cuda_t *cuda = atomic_load_explicit(&ready, memory_order_acquire);
    if (NULL != cuda || NULL != atomic_load_explicit(&missing, memory_order_relaxed)) {
        return cuda;
    }
    /* The reference that dlopen counts is kept: the table must not outlive the library. */
    void *library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    if (NULL == library) {
        return NULL;
    }
    pthread_mutex_lock(&lock);
    /* Another thread may have been here first, and a third read the table since. */
    if (NULL == atomic_load_explicit(&ready, memory_order_relaxed)) {
        const char *absent = fill_table(library);
        if (NULL == absent) {
            atomic_store_explicit(&ready, &table, memory_order_release);
        } else {
            atomic_store_explicit(&missing, absent, memory_order_relaxed);
        }
    }
    pthread_mutex_unlock(&lock);
    return atomic_load_explicit(&ready, memory_order_acquire);
}

const char *car_cuda_missing(void)
{
    return atomic_load_explicit(&missing, memory_order_relaxed);
}

const char *car_cuda_error(CUresult result)
{
    const char *name = NULL;
    const car_cuda_t *cuda = atomic_load_explicit(&ready, memory_order_acquire);
    if (NULL != cuda) {
        (void) cuda->GetErrorName(result, &name);
    }
    return NULL != name ? name : "unknown CUDA error";
}

int car_cuda_in_use(void)
{
    const car_cuda_t *cuda = car_cuda();
    CUcontext current = NULL;
    int devices = 0;

    if (NULL == cuda || CUDA_SUCCESS != cuda->CtxGetCurrent(&current)) {
        return 0;
    }
    if (NULL != current) {
        return 1;
    }
    if (CUDA_SUCCESS != cuda->DeviceGetCount(&devices)) {
        return 0;
    }
    for (int i = 0; i < devices; ++i) {
        unsigned int flags;
        int active = 0;
        if (CUDA_SUCCESS == cuda->DevicePrimaryCtxGetState(i, &flags, &active) && active) {
            return 1;
        }
    }
    return 0;
}

int car_cuda_impossible(void)
{
    /*
     * The kernel driver shows itself here on a node and in containers that were given a GPU;
     * /dev/dxg is WSL's.
     */
    static const char *const signs[] = {"/proc/driver/nvidia/version", "/dev/nvidiactl",
                                        "/dev/nvhost-ctrl-gpu", "/dev/dxg"};
    if (NULL != car_cuda()) {
        return 0;
    }
    for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); ++i) {
        if (0 == access(signs[i], F_OK)) {
            return 0;
        }
    }
    return 1;
}

/* Asks for a second. */
static bool ends(const car_cuda_t *cuda, CUstream stream)
{
    enum { TRIES = 10000 };
    const struct timespec pause = {.tv_nsec = 100000};
    CUresult result = CUDA_ERROR_NOT_READY;

    for (int i = 0; i < TRIES && CUDA_ERROR_NOT_READY == (result = cuda->StreamQuery(stream));
         ++i) {
        nanosleep(&pause, NULL);
    }
    return CUDA_SUCCESS == result;
}

CUresult car_cuda_wait(const car_cuda_t *cuda, CUstream stream)
{
    const CUresult result = cuda->StreamSynchronize(stream);

    if (CUDA_SUCCESS != result) {
        (void) ends(cuda, stream);
    }
    return result;
}

bool car_cuda_drain(const car_cuda_t *cuda, CUstream stream)
{
    return CUDA_SUCCESS == cuda->StreamSynchronize(stream) || ends(cuda, stream);
}

CUresult car_cuda_enter(const car_cuda_t *cuda, CUcontext context, car_cuda_guard_t *guard)
{
    CUcontext current = NULL;

    guard->mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    CUresult result = cuda->ThreadExchangeStreamCaptureMode(&guard->mode);
    if (CUDA_SUCCESS != result) {
        return result;
    }
    result = cuda->CtxGetCurrent(&current);
    guard->pushed = CUDA_SUCCESS == result && current != context;
    if (guard->pushed) {
        result = cuda->CtxPushCurrent(context);
    }
    if (CUDA_SUCCESS != result) {
        (void) cuda->ThreadExchangeStreamCaptureMode(&guard->mode);
    }
    return result;
}

void car_cuda_leave(const car_cuda_t *cuda, car_cuda_guard_t *guard)
{
    if (guard->pushed) {
        CUcontext ours;
        (void) cuda->CtxPopCurrent(&ours);
    }
    (void) cuda->ThreadExchangeStreamCaptureMode(&guard->mode);
}
