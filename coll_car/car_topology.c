#include "car_topology.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* The few calls of NVML that are needed; nvml.h is not on every machine that builds this. */
typedef struct nvmlDevice_st *nvml_device_t;
enum {
    NVML_SUCCESS = 0,
    NVML_P2P_CAPS_INDEX_READ = 0,
    NVML_P2P_CAPS_INDEX_NVLINK = 2,
    NVML_P2P_STATUS_OK = 0
};

static struct {
    int (*init)(void);
    int (*handle_by_uuid)(const char *, nvml_device_t *);
    int (*p2p_status)(nvml_device_t, nvml_device_t, int, int *);
    bool usable;
} nvml;

static void open_nvml(void)
{
    void *library = dlopen("libnvidia-ml.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (NULL == library) {
        return;
    }
    *(void **) &nvml.init = dlsym(library, "nvmlInit_v2");
    *(void **) &nvml.handle_by_uuid = dlsym(library, "nvmlDeviceGetHandleByUUID");
    *(void **) &nvml.p2p_status = dlsym(library, "nvmlDeviceGetP2PStatus");
    /* Left open until the process ends: other parts of the application may use NVML too. */
    nvml.usable = NULL != nvml.init && NULL != nvml.handle_by_uuid && NULL != nvml.p2p_status
                  && NVML_SUCCESS == nvml.init();
}

void car_uuid_text(const CUuuid *uuid, char text[CAR_UUID_TEXT_BYTES])
{
    char *end = text + sprintf(text, "GPU-");
    for (int i = 0; i < 16; ++i) {
        end += sprintf(end, "%s%02x", 4 == i || 6 == i || 8 == i || 10 == i ? "-" : "",
                       uuid->bytes[i]);
    }
}

/* False where NVML cannot tell. */
static bool ask_nvml(const CUuuid *mine, const CUuuid *other, car_link_t *link)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    char text[2][CAR_UUID_TEXT_BYTES];
    nvml_device_t device[2];
    int status = -1;

    pthread_once(&once, open_nvml);
    if (!nvml.usable) {
        return false;
    }
    car_uuid_text(mine, text[0]);
    car_uuid_text(other, text[1]);
    if (NVML_SUCCESS != nvml.handle_by_uuid(text[0], &device[0])
        || NVML_SUCCESS != nvml.handle_by_uuid(text[1], &device[1])) {
        return false;
    }
    if (NVML_SUCCESS
        != nvml.p2p_status(device[0], device[1], NVML_P2P_CAPS_INDEX_NVLINK, &status)) {
        return false;
    }
    if (NVML_P2P_STATUS_OK == status) {
        *link = CAR_LINK_NVLINK;
        return true;
    }
    if (NVML_SUCCESS != nvml.p2p_status(device[0], device[1], NVML_P2P_CAPS_INDEX_READ, &status)) {
        return false;
    }
    *link = NVML_P2P_STATUS_OK == status ? CAR_LINK_P2P : CAR_LINK_NONE;
    return true;
}

static car_link_t ask_driver(const car_cuda_t *cuda, CUdevice ordinal, const CUuuid *other)
{
    int devices = 0;

    (void) cuda->DeviceGetCount(&devices);
    for (CUdevice i = 0; i < devices; ++i) {
        CUuuid uuid;
        int access = 0, atomics = 0;
        const CUresult result = NULL != cuda->DeviceGetUuid_v2 ? cuda->DeviceGetUuid_v2(&uuid, i)
                                : NULL != cuda->DeviceGetUuid  ? cuda->DeviceGetUuid(&uuid, i)
                                                               : CUDA_ERROR_NOT_SUPPORTED;
        if (CUDA_SUCCESS != result || 0 != memcmp(&uuid, other, sizeof(uuid))) {
            continue;
        }
        if (CUDA_SUCCESS != cuda->DeviceCanAccessPeer(&access, ordinal, i) || !access) {
            return CAR_LINK_NONE;
        }
        (void) cuda->DeviceGetP2PAttribute(
            &atomics, CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED, ordinal, i);
        return atomics ? CAR_LINK_NVLINK : CAR_LINK_P2P;
    }
    return CAR_LINK_UNKNOWN;
}

car_link_t car_topology_link(const car_cuda_t *cuda, CUdevice ordinal, const CUuuid *mine,
                             const CUuuid *other)
{
    car_link_t link;

    if (0 == memcmp(mine, other, sizeof(*mine))) {
        return CAR_LINK_SAME_GPU;
    }
    return ask_nvml(mine, other, &link) ? link : ask_driver(cuda, ordinal, other);
}

const char *car_link_name(car_link_t link)
{
    static const char *const names[] = {"no peer access", "unknown link", "PCIe P2P", "NVLink",
                                        "same GPU"};
    return names[link];
}
