/*
 * The control segment: host memory that all ranks of a communicator share. Five things go through it: the line that a
 * rank posts with every blocking call, the exchanges of set-up, the records and counters of lanes (car_lane.h), ids of
 * memory that has been freed, and the count of those who have gone.
 *
 * Two slots per rank, used in turn, suffice for lines as for exchanges: nobody can end call c + 1 before everybody has
 * posted it, and nobody posts it before he is done reading the lines of call c (docs/protocol.md).
 */
#ifndef CAR_CONTROL_H
#define CAR_CONTROL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "car_kernel_args.h"

#define CAR_RECORD_BYTES 512
#define CAR_CONTROL_NAME_BYTES 48

/* Called over and over while a function waits; for MPI this is opal_progress. */
typedef void (*car_progress_fn_t)(void);

/* What a rank says of a call when it enters it. */
typedef struct {
    uint32_t device;  /* its buffers are device memory */
    uint32_t context; /* it has a CUDA context */
} car_line_t;

typedef struct car_control car_control_t;

/*
 * Creates a segment for `size` ranks under a name that cannot be guessed, mode 0600, and writes the name, which the
 * other ranks need. One rank creates; all, it too, attach. Returns 0 or an errno value, and an empty name with that.
 */
int car_control_create(int size, char name[CAR_CONTROL_NAME_BYTES]);

/*
 * Maps the segment. Refuses a name that is none of ours, and a file of another kind, owner, mode, size, version or name, or
 * one that has two. Returns 0 or an errno value.
 */
int car_control_attach(const char *name, int rank, int size, car_control_t **control);

/* Removes the name; the memory lives until the last one has unmapped it. */
void car_control_unlink(const char *name);

/* Counts this rank as gone; the mapping stays for car_control_all_gone. */
void car_control_depart(car_control_t *control);
bool car_control_all_gone(const car_control_t *control);
void car_control_detach(car_control_t *control);

/*
 * A payload may go along with a line: up to car_control_room() bytes. A rank writes its own before it posts the line, and
 * reads the others' once they have posted theirs, until it posts its next line. The room for all ranks together is fixed.
 */
#define CAR_CONTROL_ROOM (128 * 1024)
size_t car_control_room(const car_control_t *control);
void *car_control_payload(const car_control_t *control, uint64_t call, int r);

/* Posts this rank's line for call number `call`, counted from 1 without gaps. */
void car_control_post(car_control_t *control, uint64_t call, car_line_t line);

/* Reads rank r's line for that call; false if it has not been posted yet. */
bool car_control_posted(const car_control_t *control, uint64_t call, int r, car_line_t *line);

/* Says that the communicator is broken: this rank can no longer do its part. The first to say so is remembered. */
void car_control_break(car_control_t *control);

/* The rank that broke the communicator, always one of its ranks, or -1. */
int car_control_broken(const car_control_t *control);

/*
 * All ranks bring `bytes` (at most CAR_RECORD_BYTES) and get everybody's, in rank order, `bytes` apart. Collective, and
 * waits for nobody: after the begin, test returns true once all have come. One exchange at a time. What `all` gets are
 * copies: a peer that writes again changes nothing in them, and this rank's own is what it brought.
 */
void car_control_exchange_begin(car_control_t *control, const void *mine, size_t bytes);
bool car_control_exchange_test(const car_control_t *control, size_t bytes, void *all);

/* The same, and waits: true when all have come, false once the communicator is broken while somebody is missing. */
bool car_control_exchange(car_control_t *control, const void *mine, size_t bytes, void *all, car_progress_fn_t progress);

/*
 * Allocations that this rank has freed, by their ids: a short memory for those who are quick to look. The bell counts what all
 * ranks have told. car_control_freed: the next id of rank r's after *heard, which is a reader's own place, 0 at first; 0: no more.
 * Who tells sees to it that he is alone.
 */
void car_control_tell_freed(car_control_t *control, uint64_t id);
uint64_t car_control_freed_bell(const car_control_t *control);
uint64_t car_control_freed(const car_control_t *control, int r, uint64_t *heard);

/*
 * Lanes: sequences of calls that the host takes from phase to phase. Each lane of each rank has counters, which only its
 * owner writes and which only grow. docs/protocol.md, "Lanes", says what they promise.
 */
typedef struct {
    _Alignas(64) _Atomic uint64_t entered; /* calls whose record this rank has posted; of a lane without records: calls begun */
    _Atomic uint64_t settled;              /* calls whose records this rank has read and decided on */
    _Atomic uint64_t staged;               /* steps whose operands this rank has made available */
    _Atomic uint64_t reduced;              /* steps of which this rank has folded its share and sent it to all */
    _Atomic uint64_t done;                 /* steps after which this rank touches nobody's memory any more */
    _Atomic uint64_t used;                 /* lanes of persistent requests: odd while this rank uses the lane */
} car_lane_words_t;

/* The first two lanes have records; all others are for persistent requests. */
enum { CAR_LANE_QUEUE, CAR_LANE_CALL, CAR_LANES_WITH_RECORDS, CAR_LANES = CAR_LANES_MAX };

car_lane_words_t *car_control_lane(const car_control_t *control, int lane, int r);

/* What rank r says of a call of a lane, in two parts; calls that are CAR_CONTROL_WINDOW apart have the same place. */
#define CAR_CONTROL_WINDOW 16
#define CAR_LANE_RECORD_BYTES 320
void *car_control_lane_record(const car_control_t *control, int lane, uint64_t call, int r);

/* Room for operands of steps in host memory, of the queue's lane only: steps that are two apart have the same place. */
#define CAR_CONTROL_CHUNKS 2
#define CAR_CONTROL_CHUNK_ROOM (64 * 1024)
size_t car_control_chunk_bytes(const car_control_t *control);
void *car_control_chunk(const car_control_t *control, uint64_t step, int r);

#endif /* CAR_CONTROL_H */
