/*
 * What kind of memory a user's buffer is.
 */
#ifndef CAR_BUFFER_H
#define CAR_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

#include "car_cuda.h"

typedef enum {
    CAR_MEMORY_HOST,   /* pageable, pinned or registered: the CPU's */
    /* a GPU's, from cuMemAlloc, a pool or cuMemCreate, or a mapping of a peer's */
    CAR_MEMORY_DEVICE,
    CAR_MEMORY_MANAGED /* moves between the two */
} car_memory_t;

typedef struct {
    void *address;
    unsigned long long id; /* of the allocation, never used twice in a process; 0: it has none */
    car_memory_t memory;
    CUdevice ordinal;  /* of device memory */
    CUcontext context; /* that it belongs to; NULL for memory that belongs to a device only */
    /* allocated by this process with cuMemAlloc: certainly in that device's own memory */
    bool plain;
} car_buffer_t;

/*
 * Never fails: what the driver does not know is host memory. `cuda` may be NULL, then everything
 * is. What an allocation is does not change while it lives, so each thread remembers a few by their
 * ids.
 */
car_buffer_t car_buffer_look(const car_cuda_t *cuda, const void *address);

/*
 * True if the synchronous copies and fills that the application has made to this memory are
 * complete. They may not be, although they have returned: the last part of a cuMemcpyHtoD from
 * pageable memory may still be on its way, and a cuMemsetD8 has only been started ("API
 * synchronization behavior" in the CUDA driver API reference). Where it is false work must be
 * ordered behind the legacy default stream. Host memory is always settled.
 */
bool car_buffer_settled(const car_buffer_t *buffer);

/*
 * Makes it true from now on, after the work so far has been ordered: sets
 * CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, with which the driver completes such operations before they
 * return. It stays false where the driver refuses that (memory of pools, cuMemCreate), and where no
 * more than a few dozen allocations can be remembered, until it is asked again.
 */
void car_buffer_settle(const car_cuda_t *cuda, const car_buffer_t *buffer);

/*
 * Waits for the legacy default stream of the context that the memory belongs to. CUDA_SUCCESS or
 * the driver's result.
 */
CUresult car_buffer_wait(const car_cuda_t *cuda, const car_buffer_t *buffer);

/*
 * Copies `bytes`, either way between any kinds of memory, after what the caller's default stream
 * has been given, and returns when it is done. For calls that leave the GPU path; needs a context
 * of the process. CUDA_SUCCESS or the driver's result.
 */
CUresult car_buffer_copy(const car_cuda_t *cuda, void *to, const void *from, size_t bytes,
                         const car_buffer_t *device);

#endif /* CAR_BUFFER_H */
