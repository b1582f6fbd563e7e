#include "test_images.h"

#if CAR_HAVE_FATBINS

#include "car_embed.h"

CAR_EMBED(test_kernels, "tests/kernels/test_kernels.fatbin");

const void *test_kernels_image(void)
{
    return test_kernels;
}

#else

const void *test_kernels_image(void)
{
    return "built without nvcc";
}

#endif
