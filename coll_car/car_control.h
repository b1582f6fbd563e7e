/*
 * The control segment: host memory that all ranks of a communicator share. Three things go through it: the line that a
 * rank posts with every call, the exchanges of set-up, and the count of those who have gone.
 *
 * Two slots per rank, used in turn, suffice for lines as for exchanges: nobody can end call c + 1 before everybody has
 * posted it, and nobody posts it before he is done reading the lines of call c (docs/protocol.md).
 */
#ifndef CAR_CONTROL_H
#define CAR_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
 * other ranks need. One rank creates; all, it too, attach. Returns 0 or an errno value.
 */
int car_control_create(int size, char name[CAR_CONTROL_NAME_BYTES]);

/* Maps the segment. Refuses one of another owner, size or version. Returns 0 or an errno value. */
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

/* The rank that broke the communicator, or -1. */
int car_control_broken(const car_control_t *control);

/*
 * All ranks bring `bytes` (at most CAR_RECORD_BYTES) and get everybody's, in rank order, `bytes` apart. Collective;
 * returns true when all have come, false once the communicator is broken while somebody is missing.
 */
bool car_control_exchange(car_control_t *control, const void *mine, size_t bytes, void *all, car_progress_fn_t progress);

#endif /* CAR_CONTROL_H */
