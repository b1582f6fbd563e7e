/* Streams, events and captures. Work is closures, done in order by a thread per stream. */
#include <time.h>

#include <algorithm>
#include <atomic>

#include "simgpu.h"

static thread_local CUstreamCaptureMode capture_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

/* Captures under way in this process in global mode, which make unsafe calls of any thread fail. */
static std::atomic<int> global_captures;
static CUstream_st *capturing;

bool simgpu_reached(const simgpu_point &point)
{
    if (nullptr == point.queue) {
        return true;
    }
    std::lock_guard<std::mutex> guard(point.queue->mutex);
    return point.queue->done >= point.number;
}

void simgpu_wait(const simgpu_point &point)
{
    if (nullptr == point.queue) {
        return;
    }
    std::unique_lock<std::mutex> guard(point.queue->mutex);
    point.queue->changed.wait(guard, [&] { return point.queue->done >= point.number; });
}

static void serve(std::shared_ptr<simgpu_queue> queue)
{
    std::unique_lock<std::mutex> guard(queue->mutex);
    for (;;) {
        queue->changed.wait(guard, [&] { return !queue->work.empty(); });
        std::function<void()> work = std::move(queue->work.front());
        queue->work.pop_front();
        guard.unlock();
        const bool last = !work;
        if (!last) {
            work();
        }
        work = nullptr;
        guard.lock();
        ++queue->done;
        queue->changed.notify_all();
        if (last) {
            return;
        }
    }
}

static simgpu_point push(CUstream_st *stream, std::function<void()> work)
{
    std::shared_ptr<simgpu_queue> queue = stream->queue;
    std::lock_guard<std::mutex> guard(queue->mutex);
    queue->work.push_back(std::move(work));
    if (!queue->started) {
        queue->started = true;
        std::thread(serve, queue).detach();
    }
    queue->changed.notify_all();
    return {queue, ++queue->given};
}

static simgpu_point end_of(const CUstream_st *stream)
{
    std::lock_guard<std::mutex> guard(stream->queue->mutex);
    return {stream->queue, stream->queue->given};
}

simgpu_point simgpu_give(CUstream_st *stream, std::function<void()> work)
{
    CUctx_st *context = stream->context;
    std::vector<simgpu_point> waits = std::move(stream->waits);
    stream->waits.clear();
    if (stream == context->legacy.get()) {
        for (const CUstream_st *other : context->streams) {
            if (other->blocking) {
                waits.push_back(end_of(other));
            }
        }
    } else if (stream->blocking) {
        waits.push_back(end_of(context->legacy.get()));
    }
    return push(stream, [waits, work] {
        for (const simgpu_point &point : waits) {
            simgpu_wait(point);
        }
        work();
    });
}

void simgpu_drain(CUctx_st *context)
{
    std::vector<simgpu_point> ends;
    {
        simgpu_guard guard(simgpu_lock);
        ends.push_back(end_of(context->legacy.get()));
        for (const CUstream_st *stream : context->streams) {
            ends.push_back(end_of(stream));
        }
        ends.insert(ends.end(), context->destroyed.begin(), context->destroyed.end());
    }
    for (const simgpu_point &point : ends) {
        simgpu_wait(point);
    }
}

static thread_local std::map<CUctx_st *, CUstream_st *> per_thread;

CUstream_st *simgpu_stream(CUstream handle)
{
    CUctx_st *context = simgpu_current();
    if (nullptr == handle || CU_STREAM_LEGACY == handle) {
        return nullptr == context ? nullptr : context->legacy.get();
    }
    if (CU_STREAM_PER_THREAD == handle) {
        if (nullptr == context) {
            return nullptr;
        }
        CUstream_st *&stream = per_thread[context];
        if (nullptr == stream) {
            stream = new CUstream_st();
            stream->context = context;
            stream->blocking = true;
            context->streams.push_back(stream);
        }
        return stream;
    }
    return handle;
}

CUresult simgpu_capture_check()
{
    if (global_captures > 0 && CU_STREAM_CAPTURE_MODE_GLOBAL == capture_mode) {
        simgpu_guard guard(simgpu_lock);
        if (nullptr != capturing) {
            capturing->capturing = false; /* cuStreamEndCapture finds it invalidated */
        }
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return CUDA_SUCCESS;
}

/* A blocking stream of the context of this legacy stream captures. */
static bool shut(const CUstream_st *stream)
{
    return nullptr != capturing && capturing->capturing && capturing->blocking && stream->context == capturing->context
           && stream == stream->context->legacy.get();
}

CUresult simgpu_legacy_check(const CUstream_st *stream)
{
    if (!shut(stream)) {
        return CUDA_SUCCESS;
    }
    capturing->capturing = false;
    return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
}

SIMGPU_API cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode)
{
    SIMGPU_ENTER(false);
    std::swap(*mode, capture_mode);
    return CUDA_SUCCESS;
}

static CUresult create(CUstream *stream, unsigned int flags)
{
    simgpu_guard guard(simgpu_lock);
    CUctx_st *context;
    if (CUresult result = simgpu_need_context(&context)) {
        return result;
    }
    *stream = new CUstream_st();
    (*stream)->context = context;
    (*stream)->blocking = CU_STREAM_NON_BLOCKING != flags;
    context->streams.push_back(*stream);
    return CUDA_SUCCESS;
}

SIMGPU_API cuStreamCreateWithPriority(CUstream *stream, unsigned int flags, int)
{
    SIMGPU_ENTER(true);
    return create(stream, flags);
}

SIMGPU_API cuStreamCreate(CUstream *stream, unsigned int flags)
{
    SIMGPU_ENTER(true);
    return create(stream, flags);
}

SIMGPU_API cuStreamDestroy_v2(CUstream stream)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    if (nullptr == stream) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    std::vector<CUstream_st *> &all = stream->context->streams;
    for (size_t i = 0; i < all.size(); ++i) {
        if (all[i] == stream) {
            all.erase(all.begin() + (long) i);
            if (stream->queue->started) {
                std::vector<simgpu_point> &destroyed = stream->context->destroyed;
                destroyed.erase(std::remove_if(destroyed.begin(), destroyed.end(), simgpu_reached), destroyed.end());
                destroyed.push_back(push(stream, nullptr));
            }
            delete stream;
            return CUDA_SUCCESS;
        }
    }
    return CUDA_ERROR_INVALID_HANDLE;
}

/* The stream behind a handle, or an error; its context's sticky error counts. */
static CUresult resolve(CUstream handle, CUstream_st **stream)
{
    *stream = simgpu_stream(handle);
    return nullptr == *stream ? CUDA_ERROR_INVALID_CONTEXT
           : !(*stream)->context->alive ? CUDA_ERROR_CONTEXT_IS_DESTROYED
           : CUDA_SUCCESS != (*stream)->context->sticky ? (*stream)->context->sticky
                                                        : simgpu_legacy_check(*stream);
}

SIMGPU_API cuStreamQuery(CUstream handle)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    CUstream_st *stream;
    if (CUresult result = resolve(handle, &stream)) {
        return result;
    }
    return simgpu_reached(end_of(stream)) ? stream->context->sticky : CUDA_ERROR_NOT_READY;
}

SIMGPU_API cuStreamSynchronize(CUstream handle)
{
    SIMGPU_ENTER(true);
    CUstream_st *stream;
    std::vector<simgpu_point> points;
    {
        simgpu_guard guard(simgpu_lock);
        if (CUresult result = resolve(handle, &stream)) {
            return result;
        }
        points.push_back(end_of(stream));
        if (stream == stream->context->legacy.get()) {
            for (const CUstream_st *other : stream->context->streams) {
                if (other->blocking) {
                    points.push_back(end_of(other));
                }
            }
        }
    }
    CUctx_st *context = stream->context;
    for (const simgpu_point &point : points) {
        simgpu_wait(point);
    }
    return context->sticky;
}

SIMGPU_API cuStreamWaitEvent(CUstream handle, CUevent event, unsigned int)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    CUstream_st *stream;
    if (CUresult result = resolve(handle, &stream)) {
        return result;
    }
    stream->waits.push_back(event->point);
    return CUDA_SUCCESS;
}

SIMGPU_API cuLaunchHostFunc(CUstream handle, CUhostFn function, void *data)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    CUstream_st *stream;
    if (CUresult result = resolve(handle, &stream)) {
        return result;
    }
    (void) simgpu_give(stream, [function, data] { function(data); });
    return CUDA_SUCCESS;
}

/* --- captures: only what tests of other threads' captures need, a graph of nothing comes out ---------------------- */

SIMGPU_API cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    if (nullptr == stream || nullptr != capturing) {
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    stream->capturing = true;
    capturing = stream;
    global_captures += CU_STREAM_CAPTURE_MODE_GLOBAL == mode;
    return CUDA_SUCCESS;
}

/* Of the legacy stream it tells, and invalidates nothing, whether the capture of a blocking one keeps it shut. */
SIMGPU_API cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *status)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    const CUstream_st *stream = simgpu_stream(handle);
    if (nullptr == stream) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    *status = (CUstreamCaptureStatus) (stream->capturing ? 1 : 0);
    return shut(stream) ? CUDA_ERROR_STREAM_CAPTURE_IMPLICIT : CUDA_SUCCESS;
}

extern "C" CUresult cuGraphCreate(CUgraph *graph, unsigned int flags);

SIMGPU_API cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    if (nullptr == stream || stream != capturing) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    const bool valid = stream->capturing;
    stream->capturing = false;
    capturing = nullptr;
    global_captures = 0;
    if (!valid) {
        *graph = nullptr;
        return 901; /* CUDA_ERROR_STREAM_CAPTURE_INVALIDATED */
    }
    return cuGraphCreate(graph, 0);
}

/* --- events ---------------------------------------------------------------------------------------------------------- */

SIMGPU_API cuEventCreate(CUevent *event, unsigned int flags)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    CUctx_st *context;
    if (CUresult result = simgpu_need_context(&context)) {
        return result;
    }
    *event = new CUevent_st();
    (*event)->context = context;
    (*event)->timing = 0 == (flags & CU_EVENT_DISABLE_TIMING);
    return CUDA_SUCCESS;
}

SIMGPU_API cuEventDestroy_v2(CUevent event)
{
    SIMGPU_ENTER(true);
    delete event;
    return CUDA_SUCCESS;
}

SIMGPU_API cuEventRecord(CUevent event, CUstream handle)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    CUstream_st *stream;
    if (CUresult result = resolve(handle, &stream)) {
        return result;
    }
    std::shared_ptr<double> time = event->time;
    event->point = simgpu_give(stream, [time] {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        *time = (double) t.tv_sec * 1e3 + (double) t.tv_nsec * 1e-6;
    });
    return CUDA_SUCCESS;
}

SIMGPU_API cuEventQuery(CUevent event)
{
    SIMGPU_ENTER(true);
    return simgpu_reached(event->point) ? event->context->sticky : CUDA_ERROR_NOT_READY;
}

SIMGPU_API cuEventSynchronize(CUevent event)
{
    SIMGPU_ENTER(true);
    simgpu_wait(event->point);
    return event->context->sticky;
}

SIMGPU_API cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end)
{
    SIMGPU_ENTER(true);
    if (!start->timing || !end->timing) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    if (!simgpu_reached(start->point) || !simgpu_reached(end->point)) {
        return CUDA_ERROR_NOT_READY;
    }
    *milliseconds = (float) (*end->time - *start->time);
    return CUDA_SUCCESS;
}

SIMGPU_API cuIpcGetEventHandle(CUipcEventHandle *, CUevent)
{
    SIMGPU_ENTER(true);
    return CUDA_ERROR_NOT_SUPPORTED;
}

SIMGPU_API cuIpcOpenEventHandle(CUevent *, CUipcEventHandle)
{
    SIMGPU_ENTER(true);
    return CUDA_ERROR_NOT_SUPPORTED;
}
