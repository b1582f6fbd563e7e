/* Memory: the window, allocating and freeing. VMM, copies, attributes and IPC have files of their own. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "simgpu.h"

static std::map<uint64_t, simgpu_allocation> allocations; /* by address */
static unsigned long long ids;

/* --- the window ------------------------------------------------------------------------------------------------------ */

static void reserve_window()
{
    static std::once_flag once;
    std::call_once(once, [] {
        /* ThreadSanitizer has put nothing but a barrier there, which may go. */
        const int fixed = nullptr != dlsym(RTLD_DEFAULT, "__tsan_init") ? MAP_FIXED : MAP_FIXED_NOREPLACE;
        for (uint64_t start : {SIMGPU_WINDOW, SIMGPU_WINDOW + SIMGPU_SHADOW, SIMGPU_HISTORY_WINDOW}) {
            if (SIMGPU_HISTORY_WINDOW == start && !simgpu_weak) {
                continue;
            }
            void *at = mmap((void *) start,
                            SIMGPU_HISTORY_WINDOW == start ? SIMGPU_HISTORY * SIMGPU_WINDOW_BYTES : SIMGPU_WINDOW_BYTES,
                            PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);
            if ((void *) start != at) {
                fprintf(stderr, "simgpu: cannot reserve the window of device memory\n");
                abort();
            }
        }
    });
}

static size_t pages(size_t bytes) { return (bytes + SIMGPU_PAGE - 1) / SIMGPU_PAGE * SIMGPU_PAGE; }

/* Ranges of the window that are taken: allocations and reservations, with a page of nothing behind each. */
static std::map<uint64_t, size_t> taken;

uint64_t simgpu_take_range(size_t bytes)
{
    uint64_t start = SIMGPU_WINDOW;
    reserve_window();
    for (const auto &range : taken) {
        if (range.first - start >= pages(bytes) + SIMGPU_PAGE) {
            break;
        }
        start = range.first + range.second + SIMGPU_PAGE;
    }
    if (start + pages(bytes) > SIMGPU_WINDOW + SIMGPU_WINDOW_BYTES) {
        return 0;
    }
    taken[start] = pages(bytes);
    return start;
}

/* Where the history of the memory at an address of the window is. */
static void *history_at(uint64_t address)
{
    return (void *) (SIMGPU_HISTORY_WINDOW + (address - SIMGPU_WINDOW) * SIMGPU_HISTORY);
}

bool simgpu_map_shadow(uint64_t address, int fd, size_t bytes)
{
    void *at = (void *) (address + SIMGPU_SHADOW), *history = history_at(address);
    return at == mmap(at, pages(bytes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0)
           && (!simgpu_weak
               || history == mmap(history, SIMGPU_HISTORY * pages(bytes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                                  fd, (off_t) pages(bytes)));
}

bool simgpu_give_range(uint64_t address) { return 1 == taken.erase(address); }

unsigned long long simgpu_new_id() { return ++ids; }

static void unmap_shadow(uint64_t address, size_t bytes)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    (void) mmap((void *) (address + SIMGPU_SHADOW), pages(bytes), PROT_NONE, flags, -1, 0);
    if (simgpu_weak) {
        (void) mmap(history_at(address), SIMGPU_HISTORY * pages(bytes), PROT_NONE, flags, -1, 0);
    }
}

int simgpu_make_memory(size_t bytes)
{
    const int fd = memfd_create("simgpu", MFD_CLOEXEC);
    if (fd >= 0 && 0 != ftruncate(fd, (off_t) (pages(bytes) * (simgpu_weak ? 1 + SIMGPU_HISTORY : 1)))) {
        close(fd);
        return -1;
    }
    return fd;
}

simgpu_allocation *simgpu_find(uint64_t address)
{
    auto next = allocations.upper_bound(address);
    if (next == allocations.begin()) {
        return nullptr;
    }
    simgpu_allocation &a = std::prev(next)->second;
    return address - a.address < a.bytes ? &a : nullptr;
}

simgpu_allocation *simgpu_add(uint64_t address, size_t bytes, simgpu_kind kind, CUdevice device, CUctx_st *context)
{
    simgpu_allocation a;
    a.address = address;
    a.bytes = bytes;
    a.kind = kind;
    a.device = device;
    a.physical = KIND_HOST == kind || KIND_MANAGED == kind ? -1 : simgpu_devices[(size_t) device].physical;
    a.context = context;
    a.id = simgpu_new_id();
    return &(allocations[address] = a);
}

bool simgpu_has_room(CUdevice device, size_t bytes)
{
    const size_t all = (size_t) simgpu_env("SIMGPU_MEMORY", 4L << 30);
    return simgpu_devices[(size_t) device].allocated + bytes <= all;
}

/* Memory of a device, of its own memfd. */
static CUresult allocate(simgpu_kind kind, CUdevice device, CUctx_st *context, size_t bytes, CUdeviceptr *address)
{
    if (0 == bytes) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!simgpu_has_room(device, bytes)) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    const int fd = simgpu_make_memory(bytes);
    const uint64_t at = fd < 0 ? 0 : simgpu_take_range(bytes);
    if (0 == at || !simgpu_map_shadow(at, fd, bytes)) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    simgpu_add(at, bytes, kind, device, context)->fd = fd;
    simgpu_devices[(size_t) device].allocated += bytes;
    *address = at;
    return CUDA_SUCCESS;
}

void simgpu_release(const simgpu_allocation a)
{
    allocations.erase(a.address);
    switch (a.kind) {
    case KIND_DEVICE:
    case KIND_POOL:
        simgpu_devices[(size_t) a.device].allocated -= a.bytes;
        /* fall through */
    case KIND_IPC:
        unmap_shadow(a.address, a.bytes);
        taken.erase(a.address);
        close(a.fd);
        break;
    case KIND_MANAGED:
    case KIND_HOST:
        if (!a.registered) {
            munmap((void *) a.address, pages(a.bytes));
        }
        break;
    case KIND_VMM:
        unmap_shadow(a.address, a.bytes);
        break;
    }
}

void simgpu_free_all(CUctx_st *context)
{
    std::vector<simgpu_allocation> own;
    for (const auto &entry : allocations) {
        if (entry.second.context == context) {
            own.push_back(entry.second);
        }
    }
    for (const simgpu_allocation &a : own) {
        simgpu_release(a);
    }
}

/* For tests: what this process holds. */
extern "C" __attribute__((visibility("default"))) size_t simgpu_allocated_bytes()
{
    simgpu_guard guard(simgpu_lock);
    size_t bytes = 0;
    for (const simgpu_device &device : simgpu_devices) {
        bytes += device.allocated;
    }
    return bytes;
}

extern "C" __attribute__((visibility("default"))) int simgpu_open_mappings()
{
    simgpu_guard guard(simgpu_lock);
    int open = 0;
    for (const auto &entry : allocations) {
        open += KIND_IPC == entry.second.kind;
    }
    return open;
}

/* --- allocating ------------------------------------------------------------------------------------------------------- */

SIMGPU_API cuMemAlloc_v2(CUdeviceptr *address, size_t bytes)
{
    SIMGPU_ENTER(true);
    CUctx_st *context;
    if (CUresult result = simgpu_need_context(&context)) {
        return result;
    }
    if (CUresult result = simgpu_capture_check()) {
        return result;
    }
    simgpu_guard guard(simgpu_lock);
    return allocate(KIND_DEVICE, context->device, context, bytes, address);
}

SIMGPU_API cuMemFree_v2(CUdeviceptr address)
{
    SIMGPU_ENTER(true);
    CUctx_st *context = nullptr;
    if (CUresult result = simgpu_capture_check()) {
        return result;
    }
    {
        simgpu_guard guard(simgpu_lock);
        simgpu_allocation *a = simgpu_find(address);
        if (nullptr == a || a->address != address || KIND_VMM == a->kind || KIND_HOST == a->kind || KIND_IPC == a->kind) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        context = a->context;
    }
    if (nullptr != context) {
        simgpu_drain(context); /* as the real one, which waits for the device */
    }
    simgpu_guard guard(simgpu_lock);
    if (simgpu_allocation *a = simgpu_find(address)) {
        simgpu_release(*a);
    }
    return CUDA_SUCCESS;
}

static CUresult allocate_host(void **address, size_t bytes, simgpu_kind kind)
{
    CUctx_st *context;
    if (CUresult result = simgpu_need_context(&context)) {
        return result;
    }
    simgpu_guard guard(simgpu_lock);
    if (0 == bytes) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    void *at = mmap(nullptr, pages(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (MAP_FAILED == at) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    (void) simgpu_add((uint64_t) at, bytes, kind, context->device, context);
    *address = at;
    return CUDA_SUCCESS;
}

SIMGPU_API cuMemAllocManaged(CUdeviceptr *address, size_t bytes, unsigned int)
{
    SIMGPU_ENTER(true);
    return allocate_host((void **) address, bytes, KIND_MANAGED);
}

SIMGPU_API cuMemHostAlloc(void **address, size_t bytes, unsigned int)
{
    SIMGPU_ENTER(true);
    return allocate_host(address, bytes, KIND_HOST);
}

SIMGPU_API cuMemAllocHost_v2(void **address, size_t bytes)
{
    SIMGPU_ENTER(true);
    return allocate_host(address, bytes, KIND_HOST);
}

SIMGPU_API cuMemFreeHost(void *address)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    simgpu_allocation *a = simgpu_find((uint64_t) address);
    if (nullptr == a || KIND_HOST != a->kind || a->registered || a->address != (uint64_t) address) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    simgpu_release(*a);
    return CUDA_SUCCESS;
}

SIMGPU_API cuMemHostRegister_v2(void *address, size_t bytes, unsigned int)
{
    SIMGPU_ENTER(true);
    CUctx_st *context;
    if (CUresult result = simgpu_need_context(&context)) {
        return result;
    }
    simgpu_guard guard(simgpu_lock);
    if (nullptr != simgpu_find((uint64_t) address)) {
        return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    }
    simgpu_add((uint64_t) address, bytes, KIND_HOST, context->device, context)->registered = true;
    return CUDA_SUCCESS;
}

SIMGPU_API cuMemHostUnregister(void *address)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    simgpu_allocation *a = simgpu_find((uint64_t) address);
    if (nullptr == a || !a->registered) {
        return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    }
    simgpu_release(*a);
    return CUDA_SUCCESS;
}

SIMGPU_API cuMemHostGetDevicePointer_v2(CUdeviceptr *device, void *host, unsigned int)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    const simgpu_allocation *a = simgpu_find((uint64_t) host);
    if (nullptr == a || KIND_HOST != a->kind) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *device = (CUdeviceptr) host;
    return CUDA_SUCCESS;
}

SIMGPU_API cuMemGetInfo_v2(size_t *free_bytes, size_t *all)
{
    SIMGPU_ENTER(true);
    CUctx_st *context;
    if (CUresult result = simgpu_need_context(&context)) {
        return result;
    }
    simgpu_guard guard(simgpu_lock);
    *all = (size_t) simgpu_env("SIMGPU_MEMORY", 4L << 30);
    *free_bytes = *all - simgpu_devices[(size_t) context->device].allocated;
    return CUDA_SUCCESS;
}

SIMGPU_API cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *bytes, CUdeviceptr address)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    const simgpu_allocation *a = simgpu_find(address);
    if (nullptr == a || KIND_HOST == a->kind) {
        return CUDA_ERROR_NOT_FOUND;
    }
    if (nullptr != base) {
        *base = a->address;
    }
    if (nullptr != bytes) {
        *bytes = a->bytes;
    }
    return CUDA_SUCCESS;
}

/* --- pools ------------------------------------------------------------------------------------------------------------ */

SIMGPU_API cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream)
{
    SIMGPU_ENTER(true);
    CUctx_st *context;
    if (CUresult result = simgpu_need_context(&context)) {
        return result;
    }
    simgpu_guard guard(simgpu_lock);
    return allocate(KIND_POOL, context->device, nullptr, bytes, address);
}

SIMGPU_API cuMemFreeAsync(CUdeviceptr address, CUstream handle)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    const simgpu_allocation *a = simgpu_find(address);
    CUstream_st *stream = simgpu_stream(handle);
    if (nullptr == a || a->address != address || nullptr == stream) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    (void) simgpu_give(stream, [address] {
        simgpu_guard inner(simgpu_lock);
        if (const simgpu_allocation *gone = simgpu_find(address)) {
            simgpu_release(*gone);
        }
    });
    return CUDA_SUCCESS;
}

SIMGPU_API cuMemPoolGetAccess(int *flags, CUmemoryPool, CUmemLocation *)
{
    SIMGPU_ENTER(true);
    *flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    return CUDA_SUCCESS;
}
