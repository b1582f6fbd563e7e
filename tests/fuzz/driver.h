/*
 * The least of a CUDA driver that the engine runs on: device memory is host memory, kernels compute
 * nothing, and every address that a kernel is given must lie in memory that there is.
 */
#ifndef DRIVER_H
#define DRIVER_H

#include "car_cuda.h"

#define DRIVER_RANKS 3
#define DRIVER_ARENA ((size_t) 2 << 20)
#define DRIVER_USER ((size_t) 64 << 10)

/*
 * What there is: the arenas of all ranks (that of rank 0 is what the engine allocates), and two
 * buffers of the user's.
 */
enum { DRIVER_USERS = DRIVER_RANKS, DRIVER_MEMORIES = DRIVER_USERS + 2 };

CUdeviceptr driver_memory(int index);
CUipcMemHandle driver_handle(int index);

/* What it says of streams: whether their work has ended. CUDA_SUCCESS at first. */
extern CUresult driver_streams;

#endif /* DRIVER_H */
