/* Virtual memory management: cuMemCreate and what belongs to it. */
#include <string.h>
#include <unistd.h>

#include "simgpu.h"

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
    *bytes = SIMGPU_PAGE;
    return CUDA_SUCCESS;
}

SIMGPU_API cuMemAddressReserve(CUdeviceptr *address, size_t bytes, size_t, CUdeviceptr, unsigned long long)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    *address = simgpu_take_range(bytes);
    return 0 == *address ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

SIMGPU_API cuMemAddressFree(CUdeviceptr address, size_t)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    return simgpu_give_range(address) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

SIMGPU_API cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *prop,
                       unsigned long long)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    if (0 == bytes || 0 != bytes % SIMGPU_PAGE || prop->location.id < 0
        || (size_t) prop->location.id >= simgpu_devices.size()) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!simgpu_has_room(prop->location.id, bytes)) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    const int fd = simgpu_make_memory(bytes);
    if (fd < 0) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    simgpu_devices[(size_t) prop->location.id].allocated += bytes;
    *handle = simgpu_new_id();
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
    (void) simgpu_add(address, bytes, KIND_VMM, vmm[handle].device, nullptr);
    vmm_at[address] = handle;
    ++vmm[handle].users;
    return CUDA_SUCCESS;
}

SIMGPU_API cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *, size_t)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    if (0 == vmm_at.count(address) || !simgpu_map_shadow(address, vmm[vmm_at[address]].fd, bytes)) {
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
    simgpu_release(*a);
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
