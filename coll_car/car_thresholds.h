/*
 * The sizes from which a call is done in another way: rank 0's parameters, else its tune file, else
 * the built-in table of car_thresholds.def, by the generation of its GPU, by whether all ranks are
 * on one GPU, and by their number. docs/tuning.md.
 */
#ifndef CAR_THRESHOLDS_H
#define CAR_THRESHOLDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "car_params.h"

typedef enum {
    CAR_PUSH_MAX,        /* bytes up to which one_shot_push is chosen */
    CAR_PULL_MAX,        /* and above that up to which one_shot_pull is */
    /* bytes up to which zero copy is one rank's, for all; above that each folds a share */
    CAR_ALONE_MAX,
    CAR_ZERO_COPY_MIN,   /* bytes from which the users' own buffers are used, where all ranks can */
    CAR_ZERO_COPY_AGAIN, /* the same for blocking calls with buffers that have come before */
    CAR_THRESHOLDS
} car_threshold_t;

/* A largest message that is none, and a smallest that is never reached. */
#define CAR_ALL_SIZES UINT64_MAX
#define CAR_NEVER UINT64_MAX

typedef enum { CAR_ONE_GPU, CAR_SEVERAL_GPUS, CAR_SHARINGS } car_sharing_t;

typedef enum {
    CAR_FROM_MEASURED, /* an entry of the table that was measured */
    CAR_FROM_DERIVED,  /* one that was not, or between two */
    CAR_FROM_FILE,
    CAR_FROM_PARAMETER
} car_threshold_from_t;

typedef struct {
    uint64_t bytes[CAR_THRESHOLDS];
    uint8_t from[CAR_THRESHOLDS]; /* car_threshold_from_t, for the user */
} car_thresholds_t;

/* One line of a tune file. */
typedef struct {
    int generation;
    car_sharing_t sharing;
    int ranks;
    car_threshold_t which;
    uint64_t bytes;
    int line;
} car_tuned_t;

#define CAR_TUNED_MOST 512

/* A tune file (car_tune.h). */
typedef struct car_tune {
    int count;
    car_tuned_t tuned[CAR_TUNED_MOST];
} car_tune_t;

/* The thresholds of so many ranks, where this rank's parameters and GPU are the ones that count. */
void car_thresholds_find(const car_params_t *params, int generation, car_sharing_t sharing,
                         int ranks, car_thresholds_t *thresholds);

/* As the user knows them: push_max, one_gpu, "built in, measured". */
const char *car_threshold_name(car_threshold_t which);
/* Of the smallest message, which may be none ("never"), and not of the largest ("all"). */
bool car_threshold_is_least(car_threshold_t which);
const char *car_sharing_name(car_sharing_t sharing);
const char *car_threshold_from_name(uint8_t from);

#define CAR_THRESHOLDS_TEXT_BYTES 400

/* All of them in a line. */
void car_thresholds_text(const car_thresholds_t *thresholds, char text[CAR_THRESHOLDS_TEXT_BYTES]);

#endif /* CAR_THRESHOLDS_H */
