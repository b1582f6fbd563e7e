/*
 * The control segment: host memory that all ranks of a communicator share. Five things go through
 * it: the line that a rank posts with every blocking call, the exchanges of set-up, the records and
 * counters of lanes (car_lane.h), ids of memory that has been freed, and the count of those who
 * have gone.
 *
 * Two slots per rank, used in turn, suffice for lines as for exchanges: nobody can end call c + 1
 * before everybody has posted it, and nobody posts it before he is done reading the lines of call c
 * (docs/protocol.md).
 */
#ifndef CAR_CONTROL_H
#define CAR_CONTROL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "car_kernel_args.h"
#include "car_process.h"
#include "car_what.h"

#define CAR_RECORD_BYTES 512

/* Called over and over while a function waits; for MPI this is opal_progress. */
typedef void (*car_progress_fn_t)(void);

/* What a rank says of a call when it enters it. */
typedef struct {
    uint32_t device;  /* its buffers are device memory */
    uint32_t context; /* it has a CUDA context */
    car_what_t what;
} car_line_t;

typedef struct car_control car_control_t;

/*
 * Where those who are to map a segment find it. It may come from anybody: what is found there is
 * looked at.
 */
typedef struct {
    uint64_t key[2];       /* random; stands in the segment, too */
    car_process_t creator; /* has it open, */
    int32_t fd;            /* as this; -1: no more */
    bool named;            /* and it has a name in /dev/shm, made of the key */
} car_control_place_t;

/*
 * Creates a segment for `size` ranks that nobody else can open, if possible without a name, and
 * says where: the other ranks need that. One rank creates; all, it too, attach; then it closes.
 * Returns 0, or an errno value with nothing left behind.
 */
int car_control_create(int size, car_control_place_t *place);

/*
 * Maps the segment. Refuses a file of another kind, owner, mode, size, version or key, or with more
 * names than it should have. Returns 0 or an errno value. Where there is no name the creator must
 * be seen in /proc: if that fails, a name may help.
 */
int car_control_attach(const car_control_place_t *place, int rank, int size,
                       car_control_t **control);

/*
 * The creator's: gives it a name, for those who have not found it without. Returns 0 or an errno
 * value.
 */
int car_control_give_name(car_control_place_t *place);

/*
 * The creator's, once all have tried: removes the name; the memory lives until the last one has
 * unmapped it.
 */
void car_control_close(car_control_place_t *place);

/*
 * Counts this rank as gone; the mapping stays for car_control_all_gone. Those who have died in a
 * communicator that has broken count as gone, too.
 */
void car_control_depart(car_control_t *control);
bool car_control_all_gone(const car_control_t *control);
void car_control_detach(car_control_t *control);

/*
 * A payload may go along with a line: up to car_control_room() bytes. A rank writes its own before
 * it posts the line, and reads the others' once they have posted theirs, until it posts its next
 * line. The room for all ranks together is fixed.
 */
#define CAR_CONTROL_ROOM (128 * 1024)
size_t car_control_room(const car_control_t *control);
void *car_control_payload(const car_control_t *control, uint64_t call, int r);

/* Posts this rank's line for call number `call`, counted from 1 without gaps. */
void car_control_post(car_control_t *control, uint64_t call, car_line_t line);

/* Reads rank r's line for that call; false if it has not been posted yet. */
bool car_control_posted(const car_control_t *control, uint64_t call, int r, car_line_t *line);

/* Why a communicator is broken. */
typedef enum {
    CAR_FAULT_NONE,
    CAR_FAULT_DRIVER,  /* something failed on a rank, which can no longer do its part */
    CAR_FAULT_DIED,    /* a rank */
    CAR_FAULT_LATE,    /* a rank did not come within the time that the user has set */
    CAR_FAULT_DIFFER,  /* the ranks did not make the same call */
    CAR_FAULT_REVOKED  /* by the program */
} car_fault_t;

/* What the owner of a segment adds to it on this rank. All of it may be left out. */
typedef struct {
    void (*say)(void *owner, const char *text); /* tells the user */
    car_fault_t (*look)(void *owner);           /* a fault that MPI knows of */
    void *owner;
    bool verbose;                               /* the user asks for what is by choice, too */
    /* seconds that a rank may be late before a warning, before an error; 0: any number */
    unsigned int warn_after, timeout;
} car_control_hooks_t;

void car_control_set_hooks(car_control_t *control, const car_control_hooks_t *hooks);
const car_control_hooks_t *car_control_hooks(const car_control_t *control);

/*
 * Breaks the communicator. Of all ranks the first to do so tells the user why, and is remembered;
 * only then does anybody see that it is broken, so that nobody ends the job before.
 */
void car_control_break(car_control_t *control, car_fault_t fault, const char *reason);

/* The same, as rank r has told of `what`, which cannot be. Returns false. */
bool car_control_damaged(car_control_t *control, int r, const char *what);

/*
 * Less than that: an operand that a rank has given to MPI for a call which is done without the
 * engine is not the user's. Remembered for good; whoever has that operand sees it. The first tells
 * the user.
 */
void car_control_spoil(car_control_t *control, const char *reason);
bool car_control_spoiled(const car_control_t *control);

/* The rank that broke the communicator, always one of its ranks, or -1; and why. */
int car_control_broken(const car_control_t *control);
car_fault_t car_control_fault(const car_control_t *control);

/* True on the first rank that asks for this wait, by a number of the caller's. */
bool car_control_first_to_warn(car_control_t *control, uint64_t wait);

/* The ranks as processes, known once all have attached. */
int car_control_rank(const car_control_t *control);
int car_control_pid(const car_control_t *control, int r);
car_process_state_t car_control_look(const car_control_t *control, int r);

/*
 * In blocking call `call` this rank has done its part as far as it could and waits for others; and
 * who has not said so.
 */
void car_control_say_waiting(car_control_t *control, uint64_t call);
uint32_t car_control_not_waiting(const car_control_t *control, uint64_t call);

/*
 * All ranks bring `bytes` (at most CAR_RECORD_BYTES) and get everybody's, in rank order, `bytes`
 * apart. Collective, and waits for nobody: after the begin, test returns true once all have come.
 * One exchange at a time. What `all` gets are copies: a peer that writes again changes nothing in
 * them, and this rank's own is what it brought.
 */
void car_control_exchange_begin(car_control_t *control, const void *mine, size_t bytes);
bool car_control_exchange_test(const car_control_t *control, size_t bytes, void *all);

/*
 * Exchanges so far, and which ranks have not come to the last (bit r: rank r). car_watch.h has a
 * wait for that.
 */
uint64_t car_control_exchanges(const car_control_t *control);
uint32_t car_control_exchange_missing(const car_control_t *control);

/*
 * Allocations that this rank has freed, by their ids: a short memory for those who are quick to
 * look. The bell counts what all ranks have told. car_control_freed: the next id of rank r's after
 * *heard, which is a reader's own place, 0 at first; 0: no more. Who tells sees to it that he is
 * alone.
 */
void car_control_tell_freed(car_control_t *control, uint64_t id);
uint64_t car_control_freed_bell(const car_control_t *control);
uint64_t car_control_freed(const car_control_t *control, int r, uint64_t *heard);

/*
 * Lanes: sequences of calls that the host takes from phase to phase. Each lane of each rank has
 * counters, which only its owner writes and which only grow. docs/protocol.md, "Lanes", says what
 * they promise.
 */
typedef struct {
    /* calls begun, of a lane without records */
    _Alignas(64) _Atomic uint64_t entered;
    /* calls whose records this rank has read and decided on */
    _Atomic uint64_t settled;
    _Atomic uint64_t staged;               /* steps whose operands this rank has made available */
    /* steps of which this rank has folded its share and sent it to all */
    _Atomic uint64_t reduced;
    /* steps after which this rank touches nobody's memory any more */
    _Atomic uint64_t done;
    /* lanes of persistent requests: odd while this rank uses the lane */
    _Atomic uint64_t used;
} car_lane_words_t;

/* The first two lanes have records; all others are for persistent requests. */
enum { CAR_LANE_QUEUE, CAR_LANE_CALL, CAR_LANES_WITH_RECORDS, CAR_LANES = CAR_LANES_MAX };

car_lane_words_t *car_control_lane(const car_control_t *control, int lane, int r);

/*
 * What rank r says of a call of a lane, in two parts; calls that are CAR_CONTROL_WINDOW apart have
 * the same place.
 */
#define CAR_CONTROL_WINDOW 16
#define CAR_LANE_RECORD_BYTES 384
void *car_control_lane_record(const car_control_t *control, int lane, uint64_t call, int r);

/*
 * Room for operands of steps in host memory, of the queue's lane only: steps that are two apart
 * have the same place.
 */
#define CAR_CONTROL_CHUNKS 2
#define CAR_CONTROL_CHUNK_ROOM (64 * 1024)
size_t car_control_chunk_bytes(const car_control_t *control);
void *car_control_chunk(const car_control_t *control, uint64_t step, int r);

#endif /* CAR_CONTROL_H */
