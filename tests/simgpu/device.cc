/* Devices, contexts, the calls that every entry point begins with, and what does not fit elsewhere. */
#include <dlfcn.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "simgpu.h"

std::recursive_mutex simgpu_lock;
std::vector<simgpu_device> simgpu_devices;

static bool initialised;
/* Never destroyed: the driver may be called while the process ends, when a thread's own objects have gone already. */
static std::vector<CUctx_st *> &contexts()
{
    static thread_local std::vector<CUctx_st *> *const stack = new std::vector<CUctx_st *>;
    return *stack;
}

static unsigned long long contexts_made;

long simgpu_env(const char *name, long otherwise)
{
    const char *value = getenv(name);
    return nullptr != value && '\0' != *value ? atol(value) : otherwise;
}

/* --- counting, logging, failing on command ---------------------------------------------------------------------- */

static std::map<std::string, long> calls;
static std::map<std::string, long> counted; /* of those, the ones that may fail on command */

/* SIMGPU_FAIL=NAME:N[+][:CODE],... the N-th call of NAME fails, with + all from the N-th on. */
static CUresult asked_to_fail(const std::string &function, long call)
{
    static const char *const wish = getenv("SIMGPU_FAIL");
    if (nullptr == wish) {
        return CUDA_SUCCESS;
    }
    for (const char *p = wish; nullptr != p && '\0' != *p; p = strchr(p, ','), p = nullptr == p ? p : p + 1) {
        char name[64], plus[2] = "";
        long number = 1;
        int code = CUDA_ERROR_UNKNOWN;
        if (4 == sscanf(p, "%63[^:,]:%ld%1[+]:%d", name, &number, plus, &code)
            || 3 == sscanf(p, "%63[^:,]:%ld:%d", name, &number, &code)
            || sscanf(p, "%63[^:,]:%ld%1[+]", name, &number, plus) >= 2) {
            if (function == name && ('+' == plus[0] ? call >= number : call == number)) {
                return code;
            }
        }
    }
    return CUDA_SUCCESS;
}

/* SIMGPU_SIGNAL=NAME:N:SIGNAL: the process gets it when NAME begins for the N-th time. */
static void signal_if_asked(const std::string &name, long count)
{
    static const char *const wish = getenv("SIMGPU_SIGNAL");
    char wanted[64];
    long when;
    int number;

    if (nullptr != wish && 3 == sscanf(wish, "%63[^:]:%ld:%d", wanted, &when, &number) && name == wanted && count == when) {
        kill(getpid(), number);
    }
}

/* What is no entry point counts, too: turns of the scheduler of kernels, as "kernel". */
void simgpu_turn()
{
    static std::atomic<long> turns{0};
    static const bool asked = nullptr != getenv("SIMGPU_SIGNAL");

    if (asked) {
        signal_if_asked("kernel", ++turns);
    }
}

/* SIMGPU_FROM=TEXT: only calls from an object whose file has TEXT in its name are counted for failures and signals. */
static bool from_whom(const void *caller)
{
    static const char *const wanted = getenv("SIMGPU_FROM");
    Dl_info object;

    return nullptr == wanted || (0 != dladdr(caller, &object) && nullptr != strstr(object.dli_fname, wanted));
}

CUresult simgpu_enter(const char *function, bool needs_init, const void *caller)
{
    static const bool log = 0 != simgpu_env("SIMGPU_LOG", 0);
    simgpu_guard guard(simgpu_lock);

    /* Versions of one function count as one: cuMemAlloc_v2 is cuMemAlloc. */
    std::string name(function);
    const size_t version = name.find("_v");
    if (std::string::npos != version) {
        name.resize(version);
    }
    ++calls[name];
    if (from_whom(caller)) {
        const long call = ++counted[name];
        if (log) {
            fprintf(stderr, "simgpu: %s\n", function);
        }
        signal_if_asked(name, call);
        if (const CUresult failure = asked_to_fail(name, call)) {
            return failure;
        }
    }
    return needs_init && !initialised ? CUDA_ERROR_NOT_INITIALIZED : CUDA_SUCCESS;
}

/* For tests: how often an entry point has been called, by its name without a version. */
extern "C" __attribute__((visibility("default"))) long simgpu_call_count(const char *function)
{
    simgpu_guard guard(simgpu_lock);
    return calls[function];
}

/* --- devices ------------------------------------------------------------------------------------------------------ */

int simgpu_physical_devices() { return (int) simgpu_env("SIMGPU_DEVICES", 1); }

static bool mig() { return 0 != simgpu_env("SIMGPU_MIG", 0); }

CUuuid simgpu_uuid(int physical)
{
    CUuuid uuid;
    memcpy(uuid.bytes, "simulated-GPU-\0\0", 16);
    uuid.bytes[14] = (unsigned char) (physical >> 8);
    uuid.bytes[15] = (unsigned char) physical;
    return uuid;
}

simgpu_link simgpu_link_between(int a, int b)
{
    const char *value = getenv("SIMGPU_TOPOLOGY");
    const std::string topology = nullptr == value ? "nvlink" : value;
    if (a == b) {
        return LINK_SAME;
    }
    if (mig()) {
        return LINK_NONE;
    }
    if ("nvlink" == topology || ("pairs" == topology && a / 2 == b / 2)) {
        return LINK_NVLINK;
    }
    return "none" == topology ? LINK_NONE : LINK_PCIE;
}

static int physical_of_text(const std::string &text)
{
    if (0 == text.compare(0, 4, "GPU-")) {
        for (int i = 0; i < simgpu_physical_devices(); ++i) {
            char full[41], *end = full + sprintf(full, "GPU-");
            const CUuuid uuid = simgpu_uuid(i);
            for (int k = 0; k < 16; ++k) {
                end += sprintf(end, "%s%02x", 4 == k || 6 == k || 8 == k || 10 == k ? "-" : "", uuid.bytes[k]);
            }
            if (0 == std::string(full).compare(0, text.size(), text)) {
                return i;
            }
        }
        return -1;
    }
    char *end;
    const long i = strtol(text.c_str(), &end, 10);
    return '\0' == *end && !text.empty() && i >= 0 && i < simgpu_physical_devices() ? (int) i : -1;
}

/* CUDA_VISIBLE_DEVICES: a list in the order wanted, which ends at the first name that is none. */
static void find_devices()
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    std::vector<int> physical;

    if (nullptr == visible) {
        for (int i = 0; i < simgpu_physical_devices(); ++i) {
            physical.push_back(i);
        }
    } else {
        std::string list(visible);
        for (size_t at = 0; at <= list.size();) {
            const size_t comma = std::min(list.find(',', at), list.size());
            const int i = physical_of_text(list.substr(at, comma - at));
            if (i < 0) {
                break;
            }
            physical.push_back(i);
            at = comma + 1;
        }
    }
    for (int i : physical) {
        simgpu_device device;
        device.physical = i;
        device.uuid = simgpu_uuid(i);
        simgpu_devices.push_back(device);
    }
}

static bool is_device(CUdevice d) { return d >= 0 && (size_t) d < simgpu_devices.size(); }

SIMGPU_API cuInit(unsigned)
{
    SIMGPU_ENTER(false);
    simgpu_guard guard(simgpu_lock);
    if (!initialised) {
        find_devices();
        initialised = !simgpu_devices.empty();
        simgpu_weak_init();
    }
    return initialised ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

SIMGPU_API cuDriverGetVersion(int *version)
{
    SIMGPU_ENTER(false);
    *version = 13000;
    return CUDA_SUCCESS;
}

static const struct {
    CUresult code;
    const char *name;
} names[] = {
#define NAME(code) {code, #code}
    NAME(CUDA_SUCCESS), NAME(CUDA_ERROR_INVALID_VALUE), NAME(CUDA_ERROR_OUT_OF_MEMORY),
    NAME(CUDA_ERROR_NOT_INITIALIZED), NAME(CUDA_ERROR_DEINITIALIZED), NAME(CUDA_ERROR_NO_DEVICE),
    NAME(CUDA_ERROR_INVALID_DEVICE), NAME(CUDA_ERROR_INVALID_IMAGE), NAME(CUDA_ERROR_INVALID_CONTEXT),
    NAME(CUDA_ERROR_MAP_FAILED), NAME(CUDA_ERROR_ALREADY_MAPPED), NAME(CUDA_ERROR_NO_BINARY_FOR_GPU),
    NAME(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED), NAME(CUDA_ERROR_OPERATING_SYSTEM), NAME(CUDA_ERROR_INVALID_HANDLE),
    NAME(CUDA_ERROR_NOT_FOUND), NAME(CUDA_ERROR_NOT_READY), NAME(CUDA_ERROR_ILLEGAL_ADDRESS),
    NAME(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED), NAME(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED),
    NAME(CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE), NAME(CUDA_ERROR_CONTEXT_IS_DESTROYED),
    NAME(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED), NAME(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED),
    NAME(CUDA_ERROR_LAUNCH_FAILED), NAME(CUDA_ERROR_NOT_SUPPORTED), NAME(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED),
    NAME(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT), NAME(CUDA_ERROR_UNKNOWN),
#undef NAME
};

SIMGPU_API cuGetErrorName(CUresult code, const char **name)
{
    for (const auto &n : names) {
        if (n.code == code) {
            *name = n.name;
            return CUDA_SUCCESS;
        }
    }
    *name = nullptr;
    return CUDA_ERROR_INVALID_VALUE;
}

SIMGPU_API cuGetErrorString(CUresult code, const char **text) { return cuGetErrorName(code, text); }

SIMGPU_API cuDeviceGetCount(int *count)
{
    SIMGPU_ENTER(true);
    *count = (int) simgpu_devices.size();
    return CUDA_SUCCESS;
}

SIMGPU_API cuDeviceGet(CUdevice *device, int ordinal)
{
    SIMGPU_ENTER(true);
    if (!is_device(ordinal)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    *device = ordinal;
    return CUDA_SUCCESS;
}

SIMGPU_API cuDeviceGetName(char *name, int bytes, CUdevice device)
{
    SIMGPU_ENTER(true);
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    snprintf(name, (size_t) bytes, "SimGPU");
    return CUDA_SUCCESS;
}

SIMGPU_API cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device)
{
    SIMGPU_ENTER(true);
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    *uuid = simgpu_devices[(size_t) device].uuid;
    return CUDA_SUCCESS;
}

/* Of a slice this is the whole GPU's. */
SIMGPU_API cuDeviceGetUuid(CUuuid *uuid, CUdevice device)
{
    const CUresult result = cuDeviceGetUuid_v2(uuid, device); /* versions count as one */
    if (CUDA_SUCCESS == result && mig()) {
        *uuid = simgpu_uuid(0xffff);
    }
    return result;
}

SIMGPU_API cuDeviceGetPCIBusId(char *text, int bytes, CUdevice device)
{
    SIMGPU_ENTER(true);
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    snprintf(text, (size_t) bytes, "0000:%02x:00.0", simgpu_devices[(size_t) device].physical + 1);
    return CUDA_SUCCESS;
}

SIMGPU_API cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
    SIMGPU_ENTER(true);
    (void) device;
    *bytes = (size_t) simgpu_env("SIMGPU_MEMORY", 4L << 30);
    return CUDA_SUCCESS;
}

SIMGPU_API cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    SIMGPU_ENTER(true);
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    switch ((int) attribute) {
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        *value = (int) simgpu_env("SIMGPU_BLOCK", 64);
        break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
        *value = (int) simgpu_env("SIMGPU_SMS", 2);
        break;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR:
        *value = 2 * (int) simgpu_env("SIMGPU_BLOCK", 64);
        break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
        *value = (int) simgpu_env("SIMGPU_SM", 90) / 10;
        break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
        *value = (int) simgpu_env("SIMGPU_SM", 90) % 10;
        break;
    case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
        *value = simgpu_devices[(size_t) device].physical + 1;
        break;
    case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
    case CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY:
    case CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS:
    case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED:
        *value = 1;
        break;
    case CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED:
        *value = 0 != simgpu_env("SIMGPU_RDMA", 0);
        break;
    case CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING:
        *value = (int) simgpu_env("SIMGPU_RDMA", 0);
        break;
    case CU_DEVICE_ATTRIBUTE_MPS_ENABLED:
        *value = nullptr == getenv("SIMGPU_MPS") || 0 != strcmp("0", getenv("SIMGPU_MPS"));
        break;
    default:
        *value = 0;
        break;
    }
    return CUDA_SUCCESS;
}

static simgpu_link link_of(CUdevice a, CUdevice b)
{
    return simgpu_link_between(simgpu_devices[(size_t) a].physical, simgpu_devices[(size_t) b].physical);
}

SIMGPU_API cuDeviceCanAccessPeer(int *can, CUdevice a, CUdevice b)
{
    SIMGPU_ENTER(true);
    if (!is_device(a) || !is_device(b)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    *can = a != b && LINK_NONE != link_of(a, b);
    return CUDA_SUCCESS;
}

SIMGPU_API cuDeviceGetP2PAttribute(int *value, CUdevice_P2PAttribute attribute, CUdevice a, CUdevice b)
{
    SIMGPU_ENTER(true);
    if (!is_device(a) || !is_device(b) || a == b) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    switch ((int) attribute) {
    case CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED:
        *value = LINK_NONE != link_of(a, b);
        break;
    case CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED:
        *value = LINK_NVLINK == link_of(a, b);
        break;
    default:
        *value = 0;
        break;
    }
    return CUDA_SUCCESS;
}

/* --- contexts ------------------------------------------------------------------------------------------------------ */

static CUctx_st *make_context(CUdevice device, bool primary)
{
    CUctx_st *context = new CUctx_st();
    context->device = device;
    context->primary = primary;
    context->id = ++contexts_made;
    context->legacy.reset(new CUstream_st());
    context->legacy->context = context;
    context->legacy->blocking = false;
    return context;
}

/* Its handle stays: a call with it is an error, not a crash. */
static void end_context(CUctx_st *context)
{
    simgpu_drain(context);
    simgpu_guard guard(simgpu_lock);
    context->alive = false;
    simgpu_free_all(context);
    std::vector<CUctx_st *> &stack = contexts();
    stack.erase(std::remove(stack.begin(), stack.end(), context), stack.end());
}

CUctx_st *simgpu_current() { return contexts().empty() ? nullptr : contexts().back(); }

CUresult simgpu_need_context(CUctx_st **context)
{
    *context = simgpu_current();
    if (nullptr == *context) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (!(*context)->alive) {
        return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    }
    return (*context)->sticky;
}

SIMGPU_API cuCtxCreate_v2(CUcontext *context, unsigned, CUdevice device)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    *context = make_context(device, false);
    contexts().push_back(*context);
    return CUDA_SUCCESS;
}

SIMGPU_API cuCtxDestroy_v2(CUcontext context)
{
    SIMGPU_ENTER(true);
    if (nullptr == context || context->primary || !context->alive) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    end_context(context);
    return CUDA_SUCCESS;
}

SIMGPU_API cuCtxGetCurrent(CUcontext *context)
{
    SIMGPU_ENTER(true);
    *context = simgpu_current();
    return CUDA_SUCCESS;
}

SIMGPU_API cuCtxSetCurrent(CUcontext context)
{
    SIMGPU_ENTER(true);
    if (!contexts().empty()) {
        contexts().pop_back();
    }
    if (nullptr != context) {
        if (!context->alive) {
            return CUDA_ERROR_CONTEXT_IS_DESTROYED;
        }
        contexts().push_back(context);
    }
    return CUDA_SUCCESS;
}

SIMGPU_API cuCtxPushCurrent_v2(CUcontext context)
{
    SIMGPU_ENTER(true);
    if (nullptr == context) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (!context->alive) {
        return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    }
    contexts().push_back(context);
    return CUDA_SUCCESS;
}

SIMGPU_API cuCtxPopCurrent_v2(CUcontext *context)
{
    SIMGPU_ENTER(true);
    if (contexts().empty()) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (nullptr != context) {
        *context = contexts().back();
    }
    contexts().pop_back();
    return CUDA_SUCCESS;
}

SIMGPU_API cuCtxGetDevice(CUdevice *device)
{
    SIMGPU_ENTER(true);
    if (contexts().empty()) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    *device = contexts().back()->device;
    return CUDA_SUCCESS;
}

SIMGPU_API cuCtxGetId(CUcontext context, unsigned long long *id)
{
    SIMGPU_ENTER(true);
    const CUctx_st *c = nullptr == context ? simgpu_current() : context;
    if (nullptr == c || !c->alive) {
        return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    }
    *id = c->id;
    return CUDA_SUCCESS;
}

SIMGPU_API cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
    SIMGPU_ENTER(true);
    if (nullptr != least) {
        *least = 0;
    }
    if (nullptr != greatest) {
        *greatest = -5;
    }
    return CUDA_SUCCESS;
}

SIMGPU_API cuCtxSynchronize()
{
    SIMGPU_ENTER(true);
    CUctx_st *context;
    if (CUresult result = simgpu_need_context(&context)) {
        return result;
    }
    if (CUresult result = simgpu_capture_check()) {
        return result;
    }
    simgpu_drain(context);
    return context->sticky;
}

SIMGPU_API cuCtxEnablePeerAccess(CUcontext peer, unsigned)
{
    SIMGPU_ENTER(true);
    CUctx_st *context;
    if (CUresult result = simgpu_need_context(&context)) {
        return result;
    }
    return LINK_NONE == link_of(context->device, peer->device) ? CUDA_ERROR_PEER_ACCESS_UNSUPPORTED : CUDA_SUCCESS;
}

SIMGPU_API cuDevicePrimaryCtxGetState(CUdevice device, unsigned int *flags, int *active)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    *flags = 0;
    *active = simgpu_devices[(size_t) device].primary_users > 0;
    return CUDA_SUCCESS;
}

SIMGPU_API cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    simgpu_device &d = simgpu_devices[(size_t) device];
    if (nullptr == d.primary || !d.primary->alive) {
        d.primary = make_context(device, true);
    }
    ++d.primary_users;
    *context = d.primary;
    return CUDA_SUCCESS;
}

SIMGPU_API cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    SIMGPU_ENTER(true);
    CUctx_st *over = nullptr;
    {
        simgpu_guard guard(simgpu_lock);
        if (!is_device(device) || 0 == simgpu_devices[(size_t) device].primary_users) {
            return CUDA_ERROR_INVALID_CONTEXT;
        }
        if (0 == --simgpu_devices[(size_t) device].primary_users) {
            over = simgpu_devices[(size_t) device].primary;
        }
    }
    if (nullptr != over) {
        end_context(over);
    }
    return CUDA_SUCCESS;
}

SIMGPU_API cuDevicePrimaryCtxReset_v2(CUdevice device)
{
    SIMGPU_ENTER(true);
    CUctx_st *over;
    {
        simgpu_guard guard(simgpu_lock);
        if (!is_device(device)) {
            return CUDA_ERROR_INVALID_DEVICE;
        }
        over = simgpu_devices[(size_t) device].primary;
        simgpu_devices[(size_t) device].primary_users = 0;
    }
    if (nullptr != over && over->alive) {
        end_context(over);
    }
    return CUDA_SUCCESS;
}
