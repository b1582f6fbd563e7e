/*
 * The compiled kernels, as they are handed to cuModuleLoadData: one image per file of kernels/.
 */
#ifndef CAR_IMAGES_H
#define CAR_IMAGES_H

#include <stddef.h>

#include "car_params.h"

typedef struct {
    const char *name; /* as in kernels/NAME.cu */
    const void *data; /* a fatbin; without nvcc a short text, which simulated GPUs accept */
    size_t size;      /* 0: built without nvcc, real GPUs cannot be served */
} car_image_t;

extern const car_image_t car_images[CAR_FILES];

#endif /* CAR_IMAGES_H */
