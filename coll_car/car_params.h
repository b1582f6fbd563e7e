/*
 * What a user can set and what he can count, as plain data: the component registers it with MCA,
 * the engine reads it.
 */
#ifndef CAR_PARAMS_H
#define CAR_PARAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "car_clock.h"

/* The algorithms, in the order of the message sizes that they are for. */
typedef enum {
    CAR_ONE_SHOT_PUSH,
    CAR_TWO_SHOT_PUSH,
    CAR_ONE_SHOT_PULL,
    CAR_TWO_SHOT,
    CAR_ALGORITHMS,
    CAR_ALGORITHM_AUTO = CAR_ALGORITHMS
} car_algorithm_t;

/*
 * The files of kernels: the algorithms, then what lanes use (car_lane.h), then one_shot_push that
 * stays (car_stay.h).
 */
enum { CAR_FOLD = CAR_ALGORITHMS, CAR_STAY, CAR_FILES };

/* Which pairs of GPUs count as connected; the same GPU always does. */
typedef enum {
    CAR_LINKS_AUTO,   /* NVLink; with two ranks also PCIe P2P */
    CAR_LINKS_NVLINK, /* NVLink only */
    CAR_LINKS_P2P     /* whatever the driver lets peers access */
} car_links_t;

/* AUTO: whichever is heard of sooner (car_launch_choose) */
typedef enum { CAR_LAUNCH_GRAPH, CAR_LAUNCH_PLAIN, CAR_LAUNCH_AUTO } car_launch_how_t;

typedef enum {
    CAR_STREAM_ORDER_NONE,  /* buffers are ready when the call is made */
    CAR_STREAM_ORDER_LEGACY /* after what the caller's legacy default stream has been given */
} car_stream_order_t;

/* Whether blocking calls use kernels that wait for peers, or those of lanes, which do not. */
typedef enum {
    CAR_TWO_PHASE_AUTO, /* where ranks share a GPU without MPS */
    CAR_TWO_PHASE_NEVER,
    CAR_TWO_PHASE_ALWAYS
} car_two_phase_t;

/* Whether a kernel stays after a small call for the next one (car_stay.h). */
typedef enum {
    CAR_STAY_OFF,
    CAR_STAY_ADAPTIVE, /* while calls follow each other quickly, and sooner with it */
    CAR_STAY_ALWAYS
} car_stay_when_t;

struct car_tune;

typedef struct {
    int algorithm;         /* car_algorithm_t: forced, or AUTO */
    int links;             /* car_links_t */
    int launch;            /* car_launch_how_t */
    int stream_order;      /* car_stream_order_t */
    int two_phase;         /* car_two_phase_t */
    /* bytes of device memory that a process spends per device on all its communicators */
    size_t memory;
    /* bytes up to which one_shot_push is chosen; -1: from the tune file or the table */
    int push_max;
    int two_shot_push_max; /* bytes up to which two_shot_push is chosen above that; 0: never */
    int pull_max;          /* bytes up to which one_shot_pull is chosen; -1: as push_max */
    int alone_max;         /* bytes up to which zero copy is one rank's, for all; -1: the same */
    /* bytes up to which an allreduce of host buffers is done in the control segment itself */
    unsigned int host_max;
    /* microseconds a kernel waits for a peer before it leaves and is launched again later */
    unsigned int spin_us;
    unsigned int blocks;   /* blocks of a grid; 0: from occupancy and the table */
    unsigned int threads;  /* threads of a block; 0: from the table */
    /*
     * bytes from which the users' own buffers are used, where all ranks can; -1: the same; 0: never
     */
    int zero_copy_min;
    /* the same for blocking calls with buffers that have come before; -1: the same */
    int zero_copy_again;
    char *tune_file;       /* of thresholds for this machine (car_tune.h); NULL or empty: none */
    const struct car_tune *tune; /* what stands in it, or NULL */
    /* allocations of other processes' users that this process keeps mapped, at most */
    unsigned int map_max;
    size_t map_bytes;       /* and their bytes, at most */
    /* library whose events tell of memory that is freed; what cannot be loaded: none do */
    char *ucx;
    unsigned int warn_after; /* seconds that others are waited for before a warning; 0: none */
    unsigned int timeout;    /* and before that is an error; 0: never */
    int stay;                /* car_stay_when_t */
    unsigned int stay_us;    /* microseconds that such a kernel waits for the next call */
    unsigned int stay_total_us; /* microseconds after which it takes no more calls */
    /* bytes of the largest call that it takes, times the peers */
    unsigned int stay_max;
    unsigned int stay_blocks; /* of such a kernel, at most */
    bool timing;            /* count the nanoseconds of the phases of blocking calls */
    /* at which a communicator starts; 1, but for tests of what happens at the last */
    unsigned int first_epoch;
} car_params_t;

/*
 * X(name, sentence): counters of this process, each an MPI_T performance variable coll_car_<name>.
 */
#define CAR_COUNTERS(X)                                                                            \
    X(calls_one_shot_push, "allreduce calls that the one_shot_push kernels served")                \
    X(calls_two_shot_push, "allreduce calls that the two_shot_push kernels served")                \
    X(calls_one_shot_pull, "allreduce calls that the one_shot_pull kernels served")                \
    X(calls_two_shot, "allreduce calls that the two_shot kernels served")                          \
    X(calls_stayed, "of the calls that one_shot_push served: those by a kernel that had stayed, "  \
                    "without a launch")                                                            \
    X(stays, "kernels that were launched to stay after their call for the next one")               \
    X(stays_missed,                                                                                \
      "calls that were launched after all, as the kernel that had stayed was just going")          \
    X(calls_zero_copy, "allreduce calls that kernels served on the users' own buffers")            \
    X(calls_two_phase, "allreduce calls that kernels which do not wait for peers served through "  \
                       "staging: nonblocking ones, "                                               \
                       "and those of ranks that share a GPU without MPS")                          \
    X(calls_nonblocking, "of the calls counted elsewhere: nonblocking ones")                       \
    X(calls_persistent, "of the calls counted elsewhere: starts of persistent requests")           \
    X(calls_host, "allreduce calls left to the saved module because all ranks passed host memory") \
    X(calls_host_small, "allreduce calls that the host did in shared memory")                      \
    X(calls_forwarded, "allreduce calls left to the saved module for their type, operation or "    \
                       "communicator, and persistent requests")                                    \
    X(calls_bounced, "of the calls left to the saved module: those whose device buffers went "     \
                     "through pinned memory")                                                      \
    X(calls_staged, "calls served by kernels through a copy, as a buffer was not memory of the "   \
                    "communicator's GPU")                                                          \
    X(ns_post, "with coll_car_timing: nanoseconds from entering a blocking call to having told "   \
               "the others of it")                                                                 \
    X(ns_launch, "with coll_car_timing: nanoseconds in launching kernels")                         \
    X(ns_wait, "with coll_car_timing: nanoseconds from launches to their completion")              \
    X(ns_other, "with coll_car_timing: nanoseconds of blocking calls besides")                     \
    X(relaunches,                                                                                  \
      "kernel launches beyond the first of a call, because a peer was not there in time")

typedef struct {
#define CAR_COUNTER(name, sentence) unsigned long long name;
    CAR_COUNTERS(CAR_COUNTER)
#undef CAR_COUNTER
} car_counters_t;

/* Threads count at the same time, and MPI_T reads meanwhile. */
#define CAR_COUNT(counter, n) ((void) __atomic_fetch_add(&(counter), (n), __ATOMIC_RELAXED))

/* The time in nanoseconds where it is asked for, else 0. */
static inline uint64_t car_timing_now(const car_params_t *params)
{
    return params->timing ? car_now() : 0;
}

#endif /* CAR_PARAMS_H */
