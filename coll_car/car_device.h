/*
 * What a process holds on one device, in one context: kernels, the arena that is exported to peers,
 * words that the device and the host share, and the peers' arenas as mapped here. Communicators
 * share it and take parts of it.
 *
 * Callers hold the lock of car_pending.h: set-up and tear-down are rare. The functions enter the
 * context themselves.
 */
#ifndef CAR_DEVICE_H
#define CAR_DEVICE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "car_arena.h"
#include "car_cuda.h"
#include "car_kernel_args.h"
#include "car_params.h"
#include "car_reduction.h"

#define CAR_REASON_BYTES 240

typedef struct {
    unsigned char bytes[16];
} car_id_t;

/*
 * What kernels of one stream store to and the host polls, alone on its lines: car_tell_host() in
 * the kernels.
 */
typedef struct {
    _Alignas(128) volatile uint64_t word[CAR_DONE_WORDS];
} car_host_word_t;

/*
 * Whether every block of a launch of so many, with that ticket, has ended; *left is how many did
 * not finish. What they wrote may be read then.
 */
static inline bool car_host_word_reached(const car_host_word_t *line, uint32_t ticket,
                                         uint32_t blocks, uint32_t *left)
{
    const uint32_t words = blocks <= CAR_DONE_WORDS ? blocks : 1;

    *left = 0;
    for (uint32_t w = 0; w < words; ++w) {
        const uint64_t value = line->word[w];
        if (ticket != value >> 32) {
            return false;
        }
        *left += (uint32_t) value;
    }
    atomic_thread_fence(memory_order_acquire);
    return true;
}

/*
 * One for each communicator, each of its lanes in use and each persistent request, of this process
 * on a GPU.
 */
#define CAR_HOST_WORDS 4096

/* The one in which kernels say that they have gone, after staying (car_stay.h). */
#define CAR_GONE_WORD 0

typedef struct car_peer_arena car_peer_arena_t;

typedef struct car_device {
    struct car_device *next;
    const car_cuda_t *cuda;
    CUcontext context;
    /* tells it from a later context with the same handle; 0: the driver has no ids */
    unsigned long long context_id;
    CUdevice ordinal;
    CUuuid uuid;
    char name[64];
    int multiprocessors;
    int generation;           /* its compute capability, 10 x major + minor */
    uint32_t threads;         /* largest block of any kernel here, at most CAR_MAX_THREADS */
    uint32_t resident_blocks; /* blocks of that size that this context can have resident at once */
    uint32_t resident_to_stay; /* of kernels that stay; no more than these */
    int priority;             /* of the streams: the highest */
    bool launch_chosen;       /* by car_launch_choose: car_device_t.launch is the answer */
    int launch;               /* car_launch_how_t */
    /* kernels under way see what network cards have written before the host was told */
    bool sees_writes_of_others;
    /* ranks of some communicator share the GPU, and their kernels take turns on it */
    atomic_bool takes_turns;
    bool side_by_side;        /* kernels of several processes run at the same time: under MPS */
    CUmodule modules[CAR_FILES];
    CUfunction functions[CAR_FILES][CAR_KERNELS];

    CUdeviceptr memory; /* the arena */
    car_arena_t arena;
    car_id_t id; /* of the arena, random: how peers know whether they have it mapped */
    CUipcMemHandle handle;

    car_host_word_t *host_words;
    CUdeviceptr host_words_on_device;
    uint64_t host_words_used[CAR_HOST_WORDS / 64]; /* a bit each */

    /*
     * number of the kernel that stays, or of the last one that did; they count from 1 (car_stay.h)
     */
    _Atomic uint32_t staying;

    car_peer_arena_t *peers;
    /* users' memory that calls use where it is; NULL until the first (car_registry.h) */
    struct car_registry *registry;
} car_device_t;

/*
 * The device of a context, set up on first use: kernels loaded, the arena allocated with up to
 * `memory` bytes and exported. NULL with the reason written where something fails; nothing stays
 * behind then.
 */
car_device_t *car_device_get(const car_cuda_t *cuda, CUcontext context, size_t memory,
                             char reason[CAR_REASON_BYTES]);

/*
 * Whether the context has been destroyed or reset since: nothing that was made in it may be used
 * any more.
 */
bool car_device_lost(const car_device_t *device);

/*
 * The context that a rank's allreduce is bound to: that of a device buffer at `address` if it is
 * not 0, else the current one, else the only active primary one. False with the reason where there
 * is none, or more than one.
 */
bool car_device_find_context(const car_cuda_t *cuda, CUdeviceptr address, CUcontext *context,
                             char reason[CAR_REASON_BYTES]);

/* A word of host_words; -1 when all are taken. */
int car_device_take_word(car_device_t *device);
void car_device_give_word(car_device_t *device, int word);

/*
 * Maps a peer's arena, or finds it mapped. Each success is paired with one car_device_unmap, and
 * the mapping goes with the last. CUDA_SUCCESS or the driver's result.
 */
CUresult car_device_map(car_device_t *device, const car_id_t *id, const CUipcMemHandle *handle,
                        CUdeviceptr *address);
void car_device_unmap(car_device_t *device, const car_id_t *id);

#endif /* CAR_DEVICE_H */
