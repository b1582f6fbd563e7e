/* The few calls of NVML that coll/car and tests make, over the same devices and topology as the simulated driver. */
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#define API extern "C" __attribute__((visibility("default"))) int

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9 };

static bool initialised;

static int devices()
{
    const char *n = getenv("SIMGPU_DEVICES");
    return nullptr == n ? 1 : atoi(n);
}

static int number(void *handle) { return (int) (intptr_t) handle - 1; }

API nvmlInit_v2()
{
    const char *wish = getenv("SIMGPU_NVML");
    if (nullptr != wish && 0 == strcmp(wish, "missing")) {
        return DRIVER_NOT_LOADED;
    }
    initialised = true;
    return SUCCESS;
}

API nvmlShutdown() { return SUCCESS; }

API nvmlDeviceGetCount_v2(unsigned *count)
{
    *count = (unsigned) devices();
    return initialised ? SUCCESS : UNINITIALIZED;
}

API nvmlDeviceGetUUID(void *device, char *text, unsigned bytes)
{
    const unsigned char name[17] = "simulated-GPU-\0\0";
    std::string uuid = "GPU-";
    for (int k = 0; k < 16; ++k) {
        char two[3];
        const int byte = k < 14 ? name[k] : 14 == k ? number(device) >> 8 : number(device) & 255;
        snprintf(two, sizeof(two), "%02x", (unsigned) byte);
        uuid += std::string(4 == k || 6 == k || 8 == k || 10 == k ? "-" : "") + two;
    }
    snprintf(text, bytes, "%s", uuid.c_str());
    return SUCCESS;
}

API nvmlDeviceGetHandleByUUID(const char *uuid, void **device)
{
    if (!initialised) {
        return UNINITIALIZED;
    }
    if (nullptr != getenv("SIMGPU_MIG")) {
        return NOT_FOUND; /* slices have names that begin with MIG */
    }
    for (int i = 0; i < devices(); ++i) {
        char text[64];
        void *candidate = (void *) (intptr_t) (i + 1);
        nvmlDeviceGetUUID(candidate, text, sizeof(text));
        if (0 == strcmp(text, uuid)) {
            *device = candidate;
            return SUCCESS;
        }
    }
    return NOT_FOUND;
}

/* Capabilities: 0 read, 1 write, 2 NVLink, 3 atomics. Status: 0 works, 1 not supported. */
API nvmlDeviceGetP2PStatus(void *a, void *b, int capability, int *status)
{
    const char *value = getenv("SIMGPU_TOPOLOGY");
    const std::string topology = nullptr == value ? "nvlink" : value;
    if (a == b) {
        return INVALID_ARGUMENT;
    }
    const bool nvlink = "nvlink" == topology || ("pairs" == topology && number(a) / 2 == number(b) / 2);
    const bool any = "none" != topology;
    *status = (capability >= 2 ? nvlink : any) ? 0 : 1;
    return SUCCESS;
}
