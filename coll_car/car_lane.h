/*
 * Lanes: calls that the host takes from phase to phase, with kernels that wait for nobody.
 * docs/protocol.md, "Lanes", has the rules and why nothing is lost.
 *
 * A communicator's queue is the lane of its nonblocking calls; another lane is for blocking calls
 * that go this way; and a persistent request may have one of its own. A lane takes its calls in
 * order, the same on all ranks, and nothing in it waits: it moves on when it is polled. No two
 * threads may be in one lane at a time.
 */
#ifndef CAR_LANE_H
#define CAR_LANE_H

#include "car_comm.h"
#include "car_registry.h"
#include "car_watch.h"

/*
 * Folds `elements` elements of all operands in their order into `result`, which may be one of them,
 * on the host. `context` is the caller's.
 */
typedef void (*car_host_fold_fn_t)(const void *context, const void *const operand[], int operands,
                                   size_t elements, void *result);

/* How a call is done, once the ranks have agreed. */
typedef enum {
    CAR_PATH_UNDECIDED,
    CAR_PATH_NONE,     /* not by this lane: a blocking call that is no zero copy */
    CAR_PATH_HOST,     /* by the host, through the control segment */
    CAR_PATH_STAGED,   /* through staging in device memory */
    CAR_PATH_ZERO_COPY /* on the users' buffers */
} car_path_t;

/* One call. The caller owns it, and leaves it alone from car_lane_enter() until it has ended. */
typedef struct car_call {
    /* The caller's: */
    car_buffer_t input, output; /* the same for MPI_IN_PLACE */
    uint64_t count;             /* elements, > 0 */
    car_reduction_t reduction;
    car_host_fold_fn_t fold;
    const void *fold_context;
    /*
     * of the lane for blocking calls: its number on the communicator, and CAR_PATH_NONE is an
     * answer; else 0
     */
    uint64_t call;

    /* The lane's: */
    struct car_call *next;
    uint64_t number;
    car_path_t path;
    bool ended;
    bool failed; /* ended, and the result is not there */
    bool second;           /* this rank has said the second part of its record */
    bool growing;          /* the second part is about a larger piece, not about mappings */
    /* where the allocations end that the record says are gone (car_registry_gone) */
    uint64_t gone;
    bool read;             /* all ranks read what the others' records say of those */
    bool device;           /* this rank's are not host memory */
    /* all ranks have a kernel that stays for such calls, or begin one: CAR_PATH_NONE */
    bool quick;
    /* a buffer of this rank's had to be copied, as kernels could not use it where it is */
    bool copied;
    bool settled;          /* what has been copied to the buffers comes before our kernels */
    uint64_t step_elements;
    uint64_t first_step, steps;
    car_export_t in, out;
    car_import_t *held[2 * CAR_MAX_RANKS];
    CUdeviceptr source[CAR_MAX_RANKS], dest[CAR_MAX_RANKS]; /* of zero copy: everybody's buffers */
} car_call_t;

/*
 * Buffers that calls have brought before, as the allocations of all ranks: the same on all, as all
 * read the same records. Those that have been mapped stay mapped, so that a call with them needs no
 * second part of its record.
 */
typedef struct {
    uint64_t id[2 * CAR_MAX_RANKS]; /* rank r's input and output: 2 r, 2 r + 1; id[0] 0: no set */
    uint64_t bytes[2 * CAR_MAX_RANKS]; /* of the allocations */
    uint64_t last;                  /* call that brought it last */
    bool mapped;
    /* on this rank it is not, as memory of it was about to be freed: it should not come again */
    bool let_go;
    /* calls until mapping it is tried again, after that has failed */
    uint32_t pause;
    car_import_t *held[2 * CAR_MAX_RANKS];
    CUdeviceptr base[2 * CAR_MAX_RANKS]; /* of the allocations, as mapped here */
} car_set_t;

#define CAR_LANE_SETS 8

/* What a rank says of a call in the first part of its record. */
typedef struct {
    bool device, context; /* of the rank's buffers, of the rank */
    /* the rank has a kernel that stays for such calls, or would begin one (car_stay.h) */
    bool quick;
    uint64_t gone[CAR_GONE_AT_ONCE];
    /* bytes of device memory that the rank could take for the queue, where the call may want it */
    uint64_t room;
    car_export_t in, out; /* how peers can use the buffers, if they can */
} car_said_t;

/* What stands in a place of this rank's records behind the first line. */
typedef struct {
    uint64_t in, out; /* the allocations that it says how to map */
    uint64_t room;
} car_posted_t;

typedef enum { CAR_ATTACH_WAIT, CAR_ATTACH_DONE, CAR_ATTACH_NEVER } car_attach_t;

/* Two steps of a lane are under way at a time. */
#define CAR_LANE_STEPS 2

/*
 * Staging of a lane: a slot for the operands of each of them, then one for the results, where those
 * need one.
 */
#define CAR_LANE_SLOTS (2 * CAR_LANE_STEPS)

/* How far all ranks have come at least, when this one looked last: counters only grow. */
typedef struct {
    uint64_t settled, staged, reduced, done;
} car_come_t;

typedef struct car_lane {
    int index; /* in the control segment */
    int rank, size;
    bool records; /* calls are agreed on one by one; else once and for all */
    car_control_t *control;
    car_comm_t *comm; /* NULL: no device memory is shared (yet) */

    /*
     * Asked when a call with device memory comes to a lane without comm: sets up, step by step,
     * over several polls. DONE: lane->comm is there; NEVER: it will not be.
     */
    car_attach_t (*attach)(struct car_lane *lane, const car_call_t *op);
    void *owner;

    car_call_t *first, *last, *undecided;
    car_call_t *ended; /* taken out of the lane, for the caller to fetch */
    uint64_t calls, entered;
    /* calls so far; of those, where records say that all ranks have made the same */
    uint64_t decided, compared;
    uint64_t steps;             /* given to calls so far */
    uint64_t stage_next, reduce_next, gather_next;
    uint64_t staged, reduced, done; /* what this rank's counters say: they are not read back */
    uint32_t stage_ticket[CAR_LANE_STEPS], reduce_ticket[CAR_LANE_STEPS],
        gather_ticket[CAR_LANE_STEPS];
    uint32_t grow_pause; /* calls until that is tried again */
    car_set_t sets[CAR_LANE_SETS];
    /* of this rank's allocations that are gone: all ranks have heard up to here */
    uint64_t gone_heard;
    uint64_t settled;    /* as told */
    uint64_t heard;      /* call of which the records have been heard */
    bool handles_heard;  /* all of them; else but for what mapping its buffers takes */
    car_said_t said[CAR_MAX_RANKS];
    car_posted_t posted[CAR_CONTROL_WINDOW];
    car_come_t come;
    car_what_t what[CAR_CONTROL_WINDOW]; /* of this rank's calls that have not been compared yet */
    uint64_t piece_said[CAR_MAX_RANKS]; /* where everybody's piece_new lies */

    /* Device memory for steps: the same layout on all ranks. */
    CUdeviceptr staging[CAR_MAX_RANKS];
    size_t slot_bytes;
    /* each rank folds its share and sends it to all: results lie behind the operands */
    bool shares;
    size_t piece_offset; /* in the arena, of staging that is the lane's own; CAR_NO_PIECE */
    size_t piece_new;    /* taken for an exchange that is under way */

    CUstream stream;
    int word; /* -1: none */
    uint32_t ticket;
    car_graph_t graphs[CAR_KERNELS];
    car_foreseen_t foreseen; /* of their launches */

    /* the device's context is current, until the poll ends; in car_lane_finish, until progress */
    bool inside;
    car_cuda_guard_t guard;
    /* device memory will not be shared: the ranks' later calls are left to the saved module */
    bool off;
    bool broken;
    uint64_t draining_ns; /* since when kernels are waited for that were under way when it broke */
    car_watch_t watch; /* since something has moved */
    uint64_t looked_ns;
    uint32_t polls;
} car_lane_t;

/* A lane of a communicator that has a control segment. `comm` may be NULL. Local; cannot fail. */
void car_lane_init(car_lane_t *lane, int index, bool records, car_control_t *control, int rank,
                   int size, car_comm_t *comm);

/*
 * The lane's part of the communicator's first piece becomes its staging; called once lane->comm is
 * there.
 */
void car_lane_use_home(car_lane_t *lane);

/*
 * The same with the staging of the communicator's present piece, which grows if calls of `bytes`
 * would like that. Collective, at the same call on all ranks, and only for the lane of blocking
 * calls. False if the communicator has broken.
 */
bool car_lane_use_piece(car_lane_t *lane, uint64_t bytes);

/* Puts a call behind all others of the lane. Local; moves nothing. */
void car_lane_enter(car_lane_t *lane, car_call_t *op);

/*
 * Moves on whatever can, in the caller's CUDA state, which stays as it was. Calls that have ended
 * stand in lane->ended afterwards, in order, for the caller to take. True if anything moved.
 */
bool car_lane_poll(car_lane_t *lane);

/*
 * Moves on until a call has ended, and calls progress() now and then meanwhile. In the caller's
 * CUDA state for all that he can see of it.
 */
void car_lane_finish(car_lane_t *lane, const car_call_t *op, void (*progress)(void));

/*
 * Takes the first call out, as ended: for who does the calls of a lane without a control segment
 * himself.
 */
void car_lane_remove_first(car_lane_t *lane);

/* Whether all calls so far have been decided. */
static inline bool car_lane_decided(const car_lane_t *lane)
{
    return NULL == lane->undecided;
}

/*
 * Frees what the lane holds of the driver; `alive` as in car_comm_destroy. Its piece, if any, stays
 * taken: lane->piece_offset.
 */
void car_lane_close(car_lane_t *lane, bool alive);

#endif /* CAR_LANE_H */
