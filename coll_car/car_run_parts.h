/*
 * What the files of a blocking call by kernels that wait for peers have of each other: car_run.c
 * launches, and waits; car_small.c does the small calls, for which a kernel may have stayed.
 */
#ifndef CAR_RUN_PARTS_H
#define CAR_RUN_PARTS_H

#include "car_clock.h"
#include "car_comm.h"
#include "car_watch.h"

/* One call, as its waits know it. */
typedef struct {
    car_comm_t *comm;
    uint64_t number;
    car_what_t what;
    uint32_t agreed; /* bit r: rank r has posted its line, and has made the same call */
    bool disagree;   /* one has made another */
    car_watch_t watch;
} car_wait_for_t;

/* What a call is about. */
typedef struct {
    const car_buffer_t *input; /* never NULL: the output if in place */
    const car_buffer_t *output;
    bool stage_input;
    bool stage_output;
    const car_reduction_t *reduction;
    uint64_t count;
} car_data_t;

static inline car_data_t car_run_data(const car_comm_t *comm, const car_buffer_t *input,
                                      const car_buffer_t *output, uint64_t count,
                                      const car_reduction_t *reduction)
{
    return (car_data_t){.input = input,
                        .output = output,
                        .stage_input = !car_comm_usable(comm, input, reduction->alignment),
                        .stage_output = !car_comm_usable(comm, output, reduction->alignment),
                        .reduction = reduction,
                        .count = count};
}

static inline bool car_run_aligned(const void *address)
{
    return 0 == (uintptr_t) address % CAR_PACK_BYTES;
}

/* How a wait for a kernel ended. */
typedef enum {
    CAR_ENDED,
    CAR_MISSED, /* it was rung for, and had gone */
    CAR_FAILED  /* the communicator is broken */
} car_end_t;

/*
 * Reads the lines that have been posted since. False: a rank has made another call, and the
 * communicator is broken.
 */
bool car_run_compare_lines(car_wait_for_t *w);

/*
 * Waits for the end of what `ticket` numbers, so many blocks; *left is how many did not finish.
 * `rung`: the kernel was there before, and may have gone. Meanwhile the others' lines are read, so
 * that there is nothing left to do in the end; what they say is looked at then.
 */
car_end_t car_run_wait(car_wait_for_t *w, uint32_t ticket, uint32_t blocks, bool rung,
                       uint32_t *left);

/*
 * Launches the call, whatever it takes. `small`: the kernel may stay; `left`: one has left it, and
 * this one resumes. False: the communicator is broken.
 */
bool car_run_launched(car_wait_for_t *w, const car_data_t *data, car_plan_t *plan, bool small,
                      bool left);

/*
 * Whether a kernel that stays could do the call: of one exchange and not too many blocks, on memory
 * that is certainly this GPU's own and that nothing is still being copied to. And the call itself,
 * as car_comm_allreduce.
 */
bool car_run_is_small(const car_comm_t *comm, const car_data_t *data, const car_plan_t *plan);
bool car_run_small(car_wait_for_t *w, const car_data_t *data, car_plan_t *plan);

#endif /* CAR_RUN_PARTS_H */
