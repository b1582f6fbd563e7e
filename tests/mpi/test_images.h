/* The test kernels as the driver loads them. */
#ifndef TEST_IMAGES_H
#define TEST_IMAGES_H

/* Without nvcc a placeholder, which simulated GPUs take and real ones refuse. */
const void *test_kernels_image(void);

#endif /* TEST_IMAGES_H */
