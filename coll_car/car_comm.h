/*
 * A communicator in the engine: the memory that its ranks share, its stream, and one allreduce
 * after the other. docs/protocol.md has the rules; car_setup.c makes communicators, car_run.c does
 * the calls.
 */
#ifndef CAR_COMM_H
#define CAR_COMM_H

#include "car_buffer.h"
#include "car_control.h"
#include "car_device.h"
#include "car_kernel_args.h"
#include "car_launch.h"
#include "car_params.h"
#include "car_plan.h"
#include "car_reduction.h"
#include "car_registry.h"
#include "car_stay.h"
#include "car_thresholds.h"
#include "car_topology.h"

typedef struct {
    CUdeviceptr memory; /* the arena, as mapped here; 0: not mapped */
    CUdeviceptr piece;  /* the part of it that is this communicator's */
    car_id_t arena;
    uint64_t arena_bytes;
    int pid;
} car_peer_t;

/*
 * Memory that peers may still use: of a persistent request that this rank has freed, until all
 * have; of what a fault has stopped, until the communicator's end.
 */
typedef struct {
    int index; /* of the request's lane; one with records: until the end */
    size_t offset;
} car_retired_t;

typedef struct car_comm {
    int rank;
    int size;
    car_control_t *control;
    const car_params_t *params;
    car_counters_t *counters;
    car_progress_fn_t progress;

    car_device_t *device;
    size_t piece_offset; /* in the device's arena */
    size_t piece_bytes;
    bool piece_taken;
    /* the first piece: it is kept when the communicator grows, as lanes use it, too */
    size_t home_offset;
    uint32_t queue_offset;      /* in a first piece, of all ranks: what lanes use */
    uint32_t queue_slot;
    CUdeviceptr home[CAR_MAX_RANKS];
    uint32_t grow_wait;  /* calls that would like a larger piece until the next attempt; 0: try */
    uint32_t grow_pause; /* grow_wait after the next attempt that falls short */
    car_limits_t limits;
    /* bytes from which calls use the users' own buffers, where all ranks can; 0: never */
    uint64_t zero_copy_min;
    uint64_t alone_max;     /* bytes up to which one rank's kernel does that for all */
    uint32_t alone_blocks;  /* of its grid at most, as no other works meanwhile */
    uint32_t map_max; /* allocations of peers that a rank may have mapped for that */
    uint64_t zero_copy_again; /* the same for blocking calls with buffers that have come before */
    car_thresholds_t thresholds; /* rank 0's, which hold on all */
    int generation;              /* of its GPU */
    bool thresholds_differ;      /* another rank would have others */
    car_link_t worst_link;
    int gpus; /* different ones among the ranks */
    bool told_unmapped; /* to the user, that a peer's buffer cannot be mapped */
    /*
     * ranks share a GPU without MPS: their kernels do not run side by side, so none may wait for a
     * peer
     */
    bool takes_turns;
    /* in how many shares ranks divide what any of them could do; which is each one's, -1: none */
    int shares;
    int share[CAR_MAX_RANKS];
    car_peer_t peer[CAR_MAX_RANKS];

    CUstream stream;
    car_launch_how_t launch; /* never AUTO */
    CUevent event; /* orders the stream after the caller's legacy default stream */
    int word;      /* index of the completion word */
    car_graph_t graphs[CAR_ALGORITHMS][CAR_KERNELS];
    car_foreseen_t foreseen; /* of these graphs' launches */
    uint32_t stay_max; /* bytes, times peers, that a call for a kernel which stays has at most */
    car_stay_t stay; /* blocking calls' kernel that stays for the next one */

    car_retired_t retired[CAR_LANES];
    int retired_count;
    /* of this rank's allocations that are gone: told while persistent requests were made */
    uint64_t gone_told;

    /* work of this rank's may be under way for ever: the driver cannot say that it has ended */
    bool stuck;

    uint32_t epoch;  /* of the next exchange; never 0, which fresh memory holds */
    uint32_t ticket; /* of the last launch */
} car_comm_t;

/*
 * Frees it on this rank: local, sends nothing, waits for nobody. The control segment goes along: it
 * and the piece are kept until all ranks have left, and are looked at when a piece is next needed.
 * `queue_piece`: one more that goes with it, or CAR_NO_PIECE. `alive` false: the process is ending
 * or the device is lost, and the driver is not called any more. Where it is stuck, all that kernels
 * may use is lost, here and at its peers, until this process ends.
 */
void car_comm_destroy(car_comm_t *comm, bool alive, size_t queue_piece);

/*
 * Keeps a piece of the arena until peers have left it, as car_retired_t says. Under the lock of
 * car_pending.h.
 */
void car_comm_retire(car_comm_t *comm, int index, size_t offset);

/*
 * The same as car_comm_destroy for one whose set-up failed: the control segment stays the caller's.
 */
void car_comm_abandon(car_comm_t *comm);

/*
 * car_registry_hold for the allocation of a peer within the limits that the user has set. The first
 * that cannot be mapped is told to a user who asks for it: its calls are right, but not the
 * fastest. Under the lock of car_pending.h.
 */
car_import_t *car_comm_hold(car_comm_t *comm, int peer, const car_export_t *told,
                            CUdeviceptr *base);

/* Breaks the communicator: something of the driver's has failed on this rank. */
void car_comm_broken(const car_comm_t *comm, const char *what, CUresult result);

/*
 * After a fault, before the application gets its buffers back and peers' memory is unmapped:
 * whether what `stream` was given has ended, as kernels do by themselves. *since is 0 at first.
 * Where the driver cannot tell, they get the time that it takes.
 */
bool car_comm_drained(const car_comm_t *comm, CUstream stream, uint64_t *since);

/*
 * Exchanges the piece for one of `bytes`, or the largest below that which every rank has to spare.
 * Collective, at the same call on all ranks, with the context current. False if the communicator
 * has broken; that there is nothing larger is no failure.
 */
bool car_comm_grow(car_comm_t *comm, size_t bytes);

/*
 * Clears this rank's flags and packets, with its context current; what peers write meanwhile may be
 * lost, so all ranks exchange something before and after. CUDA_SUCCESS or the driver's result.
 */
CUresult car_comm_clear(car_comm_t *comm);

/* Clears the words that kernels of lanes count in, once, before there are any. */
CUresult car_comm_clear_lanes(car_comm_t *comm);

/* Kernels can use the buffer where it is, if elements have that alignment. */
bool car_comm_usable(const car_comm_t *comm, const car_buffer_t *buffer, size_t alignment);

/*
 * Copies between `buffer`, which is `to` or `from`, and memory that the device's context reaches,
 * and waits for that. Work of ours that was to come before must be complete. CUDA_SUCCESS or the
 * driver's result.
 */
CUresult car_comm_copy(const car_comm_t *comm, CUstream stream, CUdeviceptr to, CUdeviceptr from,
                       size_t bytes, const car_buffer_t *buffer);

/*
 * `elements` of the reduction's, from memory of ours to the output from element `start` on; padding
 * stays the user's.
 */
CUresult car_comm_copy_out(const car_comm_t *comm, CUstream stream, const car_buffer_t *output,
                           uint64_t start, CUdeviceptr from, uint64_t elements,
                           const car_reduction_t *reduction);

/*
 * What the application has copied to its buffers comes before what `stream` is given next, and,
 * where they are to be staged, before copies of ours. CUDA_SUCCESS or why it may not.
 */
CUresult car_comm_settle(const car_comm_t *comm, CUstream stream, const car_buffer_t *input,
                         const car_buffer_t *output, bool stage_input, bool stage_output);

/*
 * The arguments of a launch for the communicator's next exchanges, with buffers that kernels can
 * use.
 */
void car_comm_fill_args(const car_comm_t *comm, const car_plan_t *plan, const car_buffer_t *input,
                        const car_buffer_t *output, uint64_t count,
                        const car_reduction_t *reduction, car_kernel_args_t *args);

/*
 * Launches the plan's kernel on the communicator's stream, and expects that the next launch does
 * the same call with the exchanges behind these. CUDA_SUCCESS or the driver's result.
 */
CUresult car_comm_launch(car_comm_t *comm, car_graph_t *graph, const car_plan_t *plan,
                         car_kernel_t kernel, car_kernel_args_t *args);

/* Counts a call that kernels have served by that plan. */
void car_comm_count(const car_comm_t *comm, const car_plan_t *plan);

/* What kernels need to know of the elements of a call. */
car_elements_t car_elements_of(const car_reduction_t *reduction, uint64_t count);

/*
 * One allreduce of `count` > 0 elements, on all ranks; this rank's line for call number `call` has
 * been posted, and at least one rank's says device memory. `input` is NULL for MPI_IN_PLACE.
 * Returns true when `output` holds the result; false when the communicator is broken, by a fault
 * here or on another rank: then some ranks may have finished the call, and none may start another.
 */
bool car_comm_allreduce(car_comm_t *comm, uint64_t call, const car_buffer_t *input,
                        const car_buffer_t *output, uint64_t count,
                        const car_reduction_t *reduction);

/* Whether calls of so many bytes are small: what kernels that stay are for. */
static inline bool car_comm_is_small(const car_comm_t *comm, uint64_t bytes)
{
    return bytes * (uint64_t) (comm->size - 1) <= comm->stay_max;
}

/*
 * Whether the communicator's call with that number, if it is not done in another way, will be one
 * for a kernel that stays, as far as this rank can tell (car_stay_ready). `input` is not NULL.
 * Afterwards the call is done by car_comm_allreduce, or car_comm_small_ended tells that it has been
 * done otherwise.
 */
bool car_comm_quick(car_comm_t *comm, uint64_t number, const car_buffer_t *input,
                    const car_buffer_t *output, uint64_t count, const car_reduction_t *reduction);
void car_comm_small_ended(car_comm_t *comm);

#endif /* CAR_COMM_H */
