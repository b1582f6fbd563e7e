/* The kernels of bench_kernels.cu as the driver loads them. */
#ifndef BENCH_IMAGE_H
#define BENCH_IMAGE_H

/* Without nvcc a placeholder, which simulated GPUs take and real ones refuse. */
const void *bench_kernels_image(void);

#endif /* BENCH_IMAGE_H */
