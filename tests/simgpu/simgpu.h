/*
 * The simulated device, shared by its files: devices and contexts, memory, streams, kernels.
 * docs/simgpu.md says how they work together. One lock, simgpu_lock, guards all tables; it is never
 * held while a stream's work runs.
 */
#ifndef SIMGPU_H
#define SIMGPU_H

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "car_cuda_api.h"
#include "simgpu_kernel.h"

#define SIMGPU_API extern "C" __attribute__((visibility("default"))) CUresult

extern std::recursive_mutex simgpu_lock;
typedef std::lock_guard<std::recursive_mutex> simgpu_guard;

/*
 * The beginning of every entry point: counts and logs the call, and returns early where SIMGPU_FAIL
 * asks for it or cuInit is missing.
 */
#define SIMGPU_ENTER(needs_init)                                                                   \
    if (CUresult early_ = simgpu_enter(__func__, needs_init, __builtin_return_address(0))) {       \
        return early_;                                                                             \
    }
CUresult simgpu_enter(const char *function, bool needs_init, const void *caller);

/* A kernel's blocks have had a turn. */
void simgpu_turn();

long simgpu_env(const char *name, long otherwise);

/* --- devices and contexts (device.cc) --------------------------------------------------------- */

enum simgpu_link { LINK_NONE, LINK_PCIE, LINK_NVLINK, LINK_SAME };

struct simgpu_device {
    int physical; /* the number that all processes agree on */
    CUuuid uuid;
    CUctx_st *primary = nullptr;
    int primary_users = 0;
    size_t allocated = 0; /* bytes, by this process */
};

/* The devices that this process sees, in its order. */
extern std::vector<simgpu_device> simgpu_devices;
simgpu_link simgpu_link_between(int physical_a, int physical_b);
int simgpu_physical_devices();
CUuuid simgpu_uuid(int physical);

/* A point in a stream's work: reached when `done` of the stream is at least `number`. */
struct simgpu_point {
    std::shared_ptr<struct simgpu_queue> queue;
    uint64_t number = 0;
};

struct CUctx_st {
    CUdevice device;
    bool primary;
    bool alive = true;
    unsigned long long id;
    CUresult sticky = CUDA_SUCCESS; /* an error that only the end of the context clears */
    std::unique_ptr<CUstream_st> legacy;
    std::vector<CUstream_st *> streams; /* the blocking and the non-blocking ones, without legacy */
    std::vector<simgpu_point> destroyed; /* ends of streams whose work may still be under way */
};

/* The calling thread's context, or nullptr; and the result for calls that need one. */
CUctx_st *simgpu_current();
CUresult simgpu_need_context(CUctx_st **context);

/* --- streams (stream.cc) ---------------------------------------------------------------------- */

bool simgpu_reached(const simgpu_point &point);
void simgpu_wait(const simgpu_point &point);

/* Work in order, done by a thread of its own that starts with the first piece. */
struct simgpu_queue {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::function<void()>> work;
    uint64_t given = 0, done = 0;
    bool started = false;
};

struct CUstream_st {
    CUctx_st *context;
    bool blocking; /* synchronises with the legacy default stream */
    bool capturing = false;
    std::shared_ptr<simgpu_queue> queue = std::make_shared<simgpu_queue>();
    std::vector<simgpu_point> waits; /* that the next piece of work waits for */
};

struct CUevent_st {
    CUctx_st *context;
    bool timing;
    std::shared_ptr<double> time = std::make_shared<double>(0); /* milliseconds */
    simgpu_point point;
};

/*
 * The stream behind a handle, with the default ones resolved; nullptr if there is none. Under the
 * lock.
 */
CUstream_st *simgpu_stream(CUstream handle);

/*
 * Gives work to a stream, with the order between it and the legacy default stream. Under the lock.
 */
simgpu_point simgpu_give(CUstream_st *stream, std::function<void()> work);

/* All work of a context, given before the call. Not under the lock. */
void simgpu_drain(CUctx_st *context);

/*
 * Whether an unsafe call is prohibited because of a capture; it invalidates the capture as in CUDA.
 */
CUresult simgpu_capture_check();

/*
 * The legacy default stream takes nothing while a blocking stream of its context captures, whatever
 * the mode; who tries invalidates the capture. Under the lock.
 */
CUresult simgpu_legacy_check(const CUstream_st *stream);

/* --- memory (memory.cc) ----------------------------------------------------------------------- */

enum simgpu_kind { KIND_DEVICE, KIND_POOL, KIND_VMM, KIND_IPC, KIND_MANAGED, KIND_HOST };

struct simgpu_allocation {
    uint64_t address;
    size_t bytes;
    simgpu_kind kind;
    CUdevice device;
    int physical; /* of the device whose memory it is; -1: the host's */
    CUctx_st *context; /* nullptr for pools and VMM */
    int fd = -1;
    unsigned long long id;
    bool sync_memops = false;
    bool registered = false;  /* KIND_HOST: the application's own memory */
    unsigned long long remote = 0; /* KIND_IPC: the id in the owner's process */
};

/* The allocation that an address lies in, or nullptr. Under the lock. */
simgpu_allocation *simgpu_find(uint64_t address);

/* Pieces of memory.cc that pools, VMM and IPC are made of. Under the lock. */
simgpu_allocation *simgpu_add(uint64_t address, size_t bytes, simgpu_kind kind, CUdevice device,
                              CUctx_st *context);
void simgpu_release(simgpu_allocation allocation);
uint64_t simgpu_take_range(size_t bytes); /* of the window; 0 if there is none */
bool simgpu_give_range(uint64_t address);
bool simgpu_map_shadow(uint64_t address, int fd, size_t bytes);
int simgpu_make_memory(size_t bytes); /* a memfd, or -1 */
bool simgpu_has_room(CUdevice device, size_t bytes);
unsigned long long simgpu_new_id();
#define SIMGPU_PAGE ((size_t) 64 * 1024)

/*
 * With weak memory every allocation's file ends in its history, which is so many times as long, and
 * mapped in a window.
 */
#define SIMGPU_HISTORY 2
#define SIMGPU_HISTORY_WINDOW (SIMGPU_WINDOW + 2 * SIMGPU_SHADOW)

/* Frees what a context owns. Under the lock. */
void simgpu_free_all(CUctx_st *context);

/*
 * A copy or fill by the driver; false if an address is in no allocation. Called by streams'
 * threads.
 */
bool simgpu_copy(uint64_t to, uint64_t from, size_t bytes);
bool simgpu_fill(uint64_t to, unsigned value, int width, size_t count);

/* --- kernels (kernel.cc) ---------------------------------------------------------------------- */

struct simgpu_launch {
    const simgpu_kernel *kernel;
    unsigned grid, block;
    std::vector<char> argument;
    CUctx_st *context;
};

/* Blocks of so many threads that a multiprocessor holds: two of the largest. */
unsigned simgpu_resident_blocks(unsigned threads);

/*
 * Runs all blocks; false if the kernel touched memory that is not there. Called by streams'
 * threads.
 */
bool simgpu_run(const simgpu_launch &launch);

/* --- weak memory (weak.cc): the launch that this thread runs ---------------------------------- */

void simgpu_weak_init();
void simgpu_weak_begin(const simgpu_launch &launch);
void simgpu_weak_start_block(unsigned block);
void simgpu_weak_barrier(unsigned block);
void simgpu_weak_deliver(); /* what is due; between the turns of fibers */
void simgpu_weak_end(bool faulted);

#endif /* SIMGPU_H */
