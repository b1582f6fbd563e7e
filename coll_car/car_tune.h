/*
 * Tune files: thresholds that were measured on a site's own machine, as tools/tune writes them.
 * docs/tuning.md has the format.
 */
#ifndef CAR_TUNE_H
#define CAR_TUNE_H

#include "car_thresholds.h"

#define CAR_TUNE_WRONG_BYTES 512

/*
 * Reads a file. False: `wrong` says in a sentence what is wrong with it, and where; nothing of it
 * is to be used.
 */
bool car_tune_read(const char *path, car_tune_t *tune, char wrong[CAR_TUNE_WRONG_BYTES]);

/* The same for its text; `path` is for messages only. */
bool car_tune_parse(const char *path, const char *text, size_t bytes, car_tune_t *tune,
                    char wrong[CAR_TUNE_WRONG_BYTES]);

#endif /* CAR_TUNE_H */
