/*
 * Pieces whose communicator this rank has freed: they stay taken until all its ranks have
 * (docs/protocol.md, "Freeing"). And the one lock over the devices of this process with all that
 * hangs on them: set-up and tear-down are rare.
 */
#ifndef CAR_PENDING_H
#define CAR_PENDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "car_control.h"
#include "car_device.h"

/* Never held while this rank waits for another. */
void car_devices_lock(void);
void car_devices_unlock(void);

/*
 * For events that may come from within anything, the lock held included: they never wait, and what
 * they leave is looked at by who unlocks.
 */
bool car_devices_trylock(void);
void car_devices_unlock_only(void);
void car_devices_after_unlock(void (*look)(void));

/*
 * Under the lock: pieces of the device's arena, by their offsets; CAR_NO_PIECE and what stands
 * twice count once or not at all. The control segment goes along. False, and nothing has happened,
 * without memory for the entry.
 */
#define CAR_NO_PIECE SIZE_MAX
bool car_pending_add(car_device_t *device, const size_t *pieces, int count, car_control_t *control);

/* Under the lock: gives the pieces that all ranks have left back to their arenas. */
void car_pending_reclaim(void);

#endif /* CAR_PENDING_H */
