/*
 * How two GPUs are connected. GPUs are named by UUID: ordinals mean something else in every
 * process.
 */
#ifndef CAR_TOPOLOGY_H
#define CAR_TOPOLOGY_H

#include <stdbool.h>

#include "car_cuda.h"

typedef enum {
    CAR_LINK_NONE,    /* no peer access */
    /* no way to tell: the other GPU is hidden from this process, and there is no NVML */
    CAR_LINK_UNKNOWN,
    CAR_LINK_P2P,     /* peer access over PCIe */
    CAR_LINK_NVLINK,
    CAR_LINK_SAME_GPU
} car_link_t;

/*
 * The link between `mine`, device `ordinal` of this process, and `other`. NVML tells, which is
 * opened at run time; where it is missing the driver's P2P attributes do: a link that carries
 * native atomics is taken for NVLink.
 */
car_link_t car_topology_link(const car_cuda_t *cuda, CUdevice ordinal, const CUuuid *mine,
                             const CUuuid *other);

/* "NVLink", "PCIe P2P" and so on. */
const char *car_link_name(car_link_t link);

/* GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx */
#define CAR_UUID_TEXT_BYTES 41
void car_uuid_text(const CUuuid *uuid, char text[CAR_UUID_TEXT_BYTES]);

#endif /* CAR_TOPOLOGY_H */
