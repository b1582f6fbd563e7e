/*
 * A communicator in the engine: the memory that its ranks share, its stream, and one allreduce after the other.
 *
 * Setting up is collective and all-or-nothing: on every rank it succeeds, or on every rank it fails with the same
 * reason. docs/protocol.md has the rules; car_run.c does the calls.
 */
#ifndef CAR_COMM_H
#define CAR_COMM_H

#include "car_buffer.h"
#include "car_control.h"
#include "car_device.h"
#include "car_kernel_args.h"
#include "car_params.h"
#include "car_plan.h"
#include "car_reduction.h"
#include "car_topology.h"

/* A launchable kernel: a graph of one node whose parameters are set before each launch; NULL until first used. */
typedef struct {
    CUgraph graph;
    CUgraphNode node;
    CUgraphExec exec;
} car_graph_t;

typedef struct {
    CUdeviceptr memory; /* the arena, as mapped here; 0: not mapped */
    CUdeviceptr piece;  /* the part of it that is this communicator's */
    car_id_t arena;
    int pid;
} car_peer_t;

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
    uint32_t grow_wait;  /* calls that would like a larger piece until the next attempt; 0: try */
    uint32_t grow_pause; /* grow_wait after the next attempt that falls short */
    car_limits_t limits;
    car_link_t worst_link;
    int gpus; /* different ones among the ranks */
    car_peer_t peer[CAR_MAX_RANKS];

    CUstream stream;
    CUevent event; /* orders the stream after the caller's legacy default stream */
    int word;      /* index of the completion word */
    car_graph_t graphs[CAR_ALGORITHMS][CAR_KERNELS];

    uint32_t epoch;  /* of the next exchange; never 0, which fresh memory holds */
    uint32_t ticket; /* of the last launch */
} car_comm_t;

/* What a rank brings to the set-up. */
typedef struct {
    int rank;
    int size;
    int node_processes; /* processes of the job on this node: they may share the GPUs with this communicator */
    CUdeviceptr buffer; /* a device buffer of the call that started the set-up; 0 if this rank's are host memory */
    car_control_t *control;
    const car_params_t *params;
    car_counters_t *counters;
    car_progress_fn_t progress;
} car_comm_config_t;

/* Why a set-up failed: the same on all ranks. */
typedef struct {
    int rank;       /* the first that could not do its part */
    bool by_choice; /* nothing is wrong: coll/car is not meant for these GPUs */
    char reason[CAR_REASON_BYTES];
} car_failure_t;

/*
 * Collective over the ranks of config->control, which becomes the communicator's. Returns the communicator; or NULL on
 * all ranks, with the failure, and what each had set up for it is undone, the control segment left. What belongs to the
 * process (kernels, the arena) stays for communicators to come.
 */
car_comm_t *car_comm_create(const car_comm_config_t *config, car_failure_t *failure);

/*
 * Frees it on this rank: local, sends nothing, waits for nobody. The control segment goes along: it and the piece are
 * kept until all ranks have left, and are looked at when a piece is next needed. `alive` false: the process is ending
 * or the device is lost, and the driver is not called any more.
 */
void car_comm_destroy(car_comm_t *comm, bool alive);

/*
 * Exchanges the piece for one of `bytes`, or the largest below that which every rank has to spare. Collective, at the same
 * call on all ranks, with the context current. False with the reason if a rank has failed; that there is nothing larger
 * is no failure.
 */
bool car_comm_grow(car_comm_t *comm, size_t bytes, char reason[CAR_REASON_BYTES]);

/*
 * Clears this rank's flags and packets, with its context current; what peers write meanwhile may be lost, so all ranks
 * exchange something before and after. CUDA_SUCCESS or the driver's result.
 */
CUresult car_comm_clear(car_comm_t *comm);

/*
 * One allreduce of `count` > 0 elements, on all ranks; this rank's line for call number `call` has been posted, and
 * at least one rank's says device memory. `input` is NULL for MPI_IN_PLACE. Returns true when `output` holds the result;
 * false with the reason when the communicator is broken, by a fault here or on another rank: then some ranks may have
 * finished the call, and none may start another.
 */
bool car_comm_allreduce(car_comm_t *comm, uint64_t call, const car_buffer_t *input, const car_buffer_t *output,
                        uint64_t count, const car_reduction_t *reduction, char reason[CAR_REASON_BYTES]);

#endif /* CAR_COMM_H */
