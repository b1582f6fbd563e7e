/* CUDA IPC: the descriptor of an allocation's memfd, opened through /proc. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "simgpu.h"

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
    const uint64_t at = simgpu_take_range(h.bytes);
    if (0 == at || !simgpu_map_shadow(at, fd, h.bytes)) {
        close(fd);
        return CUDA_ERROR_MAP_FAILED;
    }
    simgpu_allocation *a = simgpu_add(at, h.bytes, KIND_IPC, context->device, context);
    a->fd = fd;
    a->physical = h.physical;
    *address = at;
    return CUDA_SUCCESS;
}

SIMGPU_API cuIpcCloseMemHandle(CUdeviceptr address)
{
    SIMGPU_ENTER(true);
    CUctx_st *context;
    {
        simgpu_guard guard(simgpu_lock);
        const simgpu_allocation *a = simgpu_find(address);
        if (nullptr == a || KIND_IPC != a->kind || a->address != address) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        context = a->context;
    }
    if (simgpu_weak) {
        simgpu_drain(context); /* a kernel that has told the host of its end may still have stores under way */
    }
    simgpu_guard guard(simgpu_lock);
    if (const simgpu_allocation *a = simgpu_find(address)) {
        simgpu_release(*a);
    }
    return CUDA_SUCCESS;
}
