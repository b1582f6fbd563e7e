/*
 * The CUDA driver as this process has it: a table of entry points, or nothing.
 *
 * coll/car never loads libcuda and never calls cuInit: where the application has not done so, no
 * buffer can be a device buffer, and there is nothing to do.
 */
#ifndef CAR_CUDA_H
#define CAR_CUDA_H

#include <stdbool.h>

#include "car_cuda_api.h"

typedef struct {
#define CAR_ENTRY(field, symbol, parameters) CUresult(*field) parameters;
    CAR_CUDA_NEEDED(CAR_ENTRY)
    CAR_CUDA_OPTIONAL(CAR_ENTRY)
#undef CAR_ENTRY
} car_cuda_t;

/*
 * The table, once libcuda is in the process and has all that coll/car needs; else NULL. Asked
 * again, it looks again. The table lives as long as the process. Any thread may call it.
 */
const car_cuda_t *car_cuda(void);

/*
 * Name of the first entry point that a loaded libcuda turned out not to have; NULL if none was
 * missed.
 */
const char *car_cuda_missing(void);

/* The driver's name for a result, never NULL. */
const char *car_cuda_error(CUresult result);

/*
 * Whether the calling thread has a current context, or the process an active primary one on any
 * device.
 */
int car_cuda_in_use(void);

/*
 * A node without an NVIDIA driver, in a process without libcuda: no device buffer can ever come.
 * Opens no device.
 */
int car_cuda_impossible(void);

/* The caller's context and capture mode while ours are in force. */
typedef struct {
    CUstreamCaptureMode mode;
    int pushed;
} car_cuda_guard_t;

/*
 * Makes `context` current and the thread's capture mode relaxed, so that calls of ours neither land
 * in another context nor break a capture that the application has under way. Returns the driver's
 * result; on failure nothing is changed. Every success is paired with one car_cuda_leave on the
 * same thread.
 */
CUresult car_cuda_enter(const car_cuda_t *cuda, CUcontext context, car_cuda_guard_t *guard);
void car_cuda_leave(const car_cuda_t *cuda, car_cuda_guard_t *guard);

/*
 * Waits for what a stream has been given. Where that fails, copies may still be under way on memory
 * that the caller is about to give back: they get a second to end, unless the driver says that they
 * have.
 */
CUresult car_cuda_wait(const car_cuda_t *cuda, CUstream stream);

/*
 * The same before the end of what the stream's work uses: whether the driver says that all of it
 * has ended.
 */
bool car_cuda_drain(const car_cuda_t *cuda, CUstream stream);

/*
 * CUDA_SUCCESS if the current context's legacy default stream can be used. While the application
 * captures a stream that it waits for it cannot be, and who tries ends that capture; to ask does no
 * harm.
 */
static inline CUresult car_cuda_legacy_stream(const car_cuda_t *cuda)
{
    CUstreamCaptureStatus status;
    return cuda->StreamIsCapturing(CU_STREAM_LEGACY, &status);
}

#endif /* CAR_CUDA_H */
