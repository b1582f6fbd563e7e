/*
 * Users' memory that calls use where it is: what this rank has told its peers of its own
 * allocations, and the peers' allocations as mapped here. One per device and process, all
 * communicators share it.
 *
 * An allocation is known by the driver's buffer id, which is never used twice in a process: memory
 * that was freed and allocated again at the same address is another allocation. Callers hold the
 * lock of car_pending.h and have the device's context current.
 */
#ifndef CAR_REGISTRY_H
#define CAR_REGISTRY_H

#include "car_buffer.h"
#include "car_device.h"

typedef struct car_registry car_registry_t;

/* What a peer needs to use a buffer of this rank. */
typedef struct {
    uint64_t id;     /* of the allocation; 0: it cannot be used by peers */
    uint64_t bytes;  /* of the allocation */
    uint64_t offset; /* of the buffer in it */
    CUipcMemHandle handle;
} car_export_t;

/*
 * An allocation of a peer's, mapped here. It stays while it is held, and after that as long as
 * there is room.
 */
typedef struct car_import car_import_t;

/*
 * Says how peers may use a buffer; id 0 where they may not: memory that cannot be exported, or of
 * another context or device.
 */
void car_registry_export(car_device_t *device, const car_buffer_t *buffer, car_export_t *told);

/*
 * Forgets what has been freed since it was told, but for two allocations that are known to be
 * there.
 */
void car_registry_forget_freed(car_device_t *device, uint64_t there, uint64_t there_too);

/*
 * Forgets an allocation that is about to be freed, as it begins in [from, end): its id, 0 if peers
 * know of none there. No driver.
 */
uint64_t car_registry_forget_range(car_device_t *device, CUdeviceptr from, CUdeviceptr end);

/*
 * Holds the mapping of a peer's allocation, and where that begins here; NULL where it cannot be
 * mapped, or where more would be mapped than `most` allocations of `most_bytes` together, all of
 * them held. A failure is remembered. `owner`: the peer's arena.
 */
car_import_t *car_registry_hold(car_device_t *device, const car_id_t *owner,
                                const car_export_t *told, unsigned int most, size_t most_bytes,
                                CUdeviceptr *base);
void car_registry_release(car_import_t *import);

/* Holds once more what is held. */
void car_registry_hold_again(car_import_t *import);

/*
 * Allocations of this process that are gone, for peers that have not heard of them. *heard is a
 * reader's own place in their sequence, 0 at first; the next ones are written to ids,
 * CAR_GONE_AT_ONCE at most, and 0 behind the last.
 */
#define CAR_GONE_AT_ONCE 8
void car_registry_gone(car_device_t *device, uint64_t *heard, uint64_t ids[CAR_GONE_AT_ONCE]);

/*
 * Drops the mappings of a peer's allocations that are gone; what is still held goes when it is
 * released.
 */
void car_registry_drop(car_device_t *device, const car_id_t *owner,
                       const uint64_t ids[CAR_GONE_AT_ONCE]);

/* For tests and counters: how many mappings there are. */
unsigned int car_registry_mapped(const car_device_t *device);

#endif /* CAR_REGISTRY_H */
