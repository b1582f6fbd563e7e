/* Memory: the window, allocations of every kind, their attributes, copies, IPC. */
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
        for (uint64_t start : {SIMGPU_WINDOW, SIMGPU_WINDOW + SIMGPU_SHADOW}) {
            void *at = mmap((void *) start, SIMGPU_WINDOW_BYTES, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
            if ((void *) start != at) {
                fprintf(stderr, "simgpu: cannot reserve the window of device memory\n");
                abort();
            }
        }
    });
}

static const size_t PAGE = 64 * 1024;

static size_t pages(size_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

/* Ranges of the window that are taken: allocations and reservations, with a page of nothing behind each. */
static std::map<uint64_t, size_t> taken;

static uint64_t take_range(size_t bytes)
{
    uint64_t start = SIMGPU_WINDOW;
    reserve_window();
    for (const auto &range : taken) {
        if (range.first - start >= pages(bytes) + PAGE) {
            break;
        }
        start = range.first + range.second + PAGE;
    }
    if (start + pages(bytes) > SIMGPU_WINDOW + SIMGPU_WINDOW_BYTES) {
        return 0;
    }
    taken[start] = pages(bytes);
    return start;
}

static bool map_shadow(uint64_t address, int fd, size_t bytes)
{
    void *at = (void *) (address + SIMGPU_SHADOW);
    return at == mmap(at, pages(bytes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
}

static void unmap_shadow(uint64_t address, size_t bytes)
{
    (void) mmap((void *) (address + SIMGPU_SHADOW), pages(bytes), PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

static int make_memory(size_t bytes)
{
    const int fd = memfd_create("simgpu", MFD_CLOEXEC);
    if (fd >= 0 && 0 != ftruncate(fd, (off_t) pages(bytes))) {
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

static simgpu_allocation *add(uint64_t address, size_t bytes, simgpu_kind kind, CUdevice device, CUctx_st *context)
{
    simgpu_allocation a;
    a.address = address;
    a.bytes = bytes;
    a.kind = kind;
    a.device = device;
    a.context = context;
    a.id = ++ids;
    return &(allocations[address] = a);
}

static bool has_room(CUdevice device, size_t bytes)
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
    if (!has_room(device, bytes)) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    const int fd = make_memory(bytes);
    const uint64_t at = fd < 0 ? 0 : take_range(bytes);
    if (0 == at || !map_shadow(at, fd, bytes)) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    add(at, bytes, kind, device, context)->fd = fd;
    simgpu_devices[(size_t) device].allocated += bytes;
    *address = at;
    return CUDA_SUCCESS;
}

static void release(const simgpu_allocation a)
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
        release(a);
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
        release(*a);
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
    (void) add((uint64_t) at, bytes, kind, context->device, context);
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
    release(*a);
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
    add((uint64_t) address, bytes, KIND_HOST, context->device, context)->registered = true;
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
    release(*a);
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
            release(*gone);
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

/* --- virtual memory management ------------------------------------------------------------------------------------------ */

struct vmm_memory {
    int fd;
    size_t bytes;
    CUdevice device;
    int users;
};

static std::map<CUmemGenericAllocationHandle, vmm_memory> vmm;
static std::map<uint64_t, CUmemGenericAllocationHandle> vmm_at;

SIMGPU_API cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *, int)
{
    SIMGPU_ENTER(true);
    *bytes = PAGE;
    return CUDA_SUCCESS;
}

SIMGPU_API cuMemAddressReserve(CUdeviceptr *address, size_t bytes, size_t, CUdeviceptr, unsigned long long)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    *address = take_range(bytes);
    return 0 == *address ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

SIMGPU_API cuMemAddressFree(CUdeviceptr address, size_t)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    return 1 == taken.erase(address) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

SIMGPU_API cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *prop,
                       unsigned long long)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    if (0 == bytes || 0 != bytes % PAGE || prop->location.id < 0
        || (size_t) prop->location.id >= simgpu_devices.size()) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!has_room(prop->location.id, bytes)) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    const int fd = make_memory(bytes);
    if (fd < 0) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    simgpu_devices[(size_t) prop->location.id].allocated += bytes;
    *handle = ++ids;
    vmm[*handle] = {fd, bytes, prop->location.id, 1};
    return CUDA_SUCCESS;
}

static void let_go(CUmemGenericAllocationHandle handle)
{
    vmm_memory &memory = vmm[handle];
    if (0 == --memory.users) {
        simgpu_devices[(size_t) memory.device].allocated -= memory.bytes;
        close(memory.fd);
        vmm.erase(handle);
    }
}

SIMGPU_API cuMemRelease(CUmemGenericAllocationHandle handle)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    if (0 == vmm.count(handle)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    let_go(handle);
    return CUDA_SUCCESS;
}

SIMGPU_API cuMemMap(CUdeviceptr address, size_t bytes, size_t, CUmemGenericAllocationHandle handle, unsigned long long)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    if (0 == vmm.count(handle) || bytes != vmm[handle].bytes || nullptr != simgpu_find(address)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    (void) add(address, bytes, KIND_VMM, vmm[handle].device, nullptr);
    vmm_at[address] = handle;
    ++vmm[handle].users;
    return CUDA_SUCCESS;
}

SIMGPU_API cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *, size_t)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    if (0 == vmm_at.count(address) || !map_shadow(address, vmm[vmm_at[address]].fd, bytes)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

SIMGPU_API cuMemUnmap(CUdeviceptr address, size_t)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    const simgpu_allocation *a = simgpu_find(address);
    if (nullptr == a || KIND_VMM != a->kind) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    release(*a);
    let_go(vmm_at[address]);
    vmm_at.erase(address);
    return CUDA_SUCCESS;
}

SIMGPU_API cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *address)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    const simgpu_allocation *a = simgpu_find((uint64_t) address);
    if (nullptr == a || KIND_VMM != a->kind) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *handle = vmm_at[a->address];
    ++vmm[*handle].users;
    return CUDA_SUCCESS;
}

SIMGPU_API cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp *prop, CUmemGenericAllocationHandle handle)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    if (0 == vmm.count(handle)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    memset(prop, 0, sizeof(*prop));
    prop->type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop->location = {CU_MEM_LOCATION_TYPE_DEVICE, vmm[handle].device};
    return CUDA_SUCCESS;
}

SIMGPU_API cuMemGetAccess(unsigned long long *flags, const CUmemLocation *, CUdeviceptr)
{
    SIMGPU_ENTER(true);
    *flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    return CUDA_SUCCESS;
}

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

/* --- IPC --------------------------------------------------------------------------------------------------------------------- */

struct ipc_handle {
    uint64_t magic;
    int pid, fd, physical;
    uint64_t bytes, id;
    uint64_t inode; /* of the memfd: the descriptor may be another's by the time it is opened */
};

static const uint64_t IPC_MAGIC = UINT64_C(0x73696d6770756970);
static_assert(sizeof(ipc_handle) <= sizeof(CUipcMemHandle), "the handle holds what is needed");

SIMGPU_API cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr address)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    const simgpu_allocation *a = simgpu_find(address);
    struct stat status;
    if (nullptr == a || KIND_DEVICE != a->kind || 0 != fstat(a->fd, &status)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    const ipc_handle h = {IPC_MAGIC, getpid(), a->fd, simgpu_devices[(size_t) a->device].physical,
                          a->bytes,  a->id,    (uint64_t) status.st_ino};
    memset(handle, 0, sizeof(*handle));
    memcpy(handle, &h, sizeof(h));
    return CUDA_SUCCESS;
}

SIMGPU_API cuIpcOpenMemHandle_v2(CUdeviceptr *address, CUipcMemHandle handle, unsigned int)
{
    SIMGPU_ENTER(true);
    static const bool refuse = nullptr != getenv("SIMGPU_IPC") && std::string("refuse") == getenv("SIMGPU_IPC");
    CUctx_st *context;
    ipc_handle h;
    char path[64];
    struct stat status;
    if (CUresult result = simgpu_need_context(&context)) {
        return result;
    }
    simgpu_guard guard(simgpu_lock);
    memcpy(&h, &handle, sizeof(h));
    if (IPC_MAGIC != h.magic || h.pid == getpid()) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (refuse) {
        return CUDA_ERROR_MAP_FAILED;
    }
    if (LINK_NONE == simgpu_link_between(h.physical, simgpu_devices[(size_t) context->device].physical)) {
        return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
    }
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", h.pid, h.fd);
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || 0 != fstat(fd, &status) || h.inode != (uint64_t) status.st_ino) {
        if (fd >= 0) {
            close(fd);
        }
        return CUDA_ERROR_INVALID_HANDLE;
    }
    const uint64_t at = take_range(h.bytes);
    if (0 == at || !map_shadow(at, fd, h.bytes)) {
        close(fd);
        return CUDA_ERROR_MAP_FAILED;
    }
    add(at, h.bytes, KIND_IPC, context->device, context)->fd = fd;
    *address = at;
    return CUDA_SUCCESS;
}

SIMGPU_API cuIpcCloseMemHandle(CUdeviceptr address)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    const simgpu_allocation *a = simgpu_find(address);
    if (nullptr == a || KIND_IPC != a->kind || a->address != address) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    release(*a);
    return CUDA_SUCCESS;
}
