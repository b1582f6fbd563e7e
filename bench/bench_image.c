#include "bench_image.h"

#if CAR_HAVE_FATBINS
#include "car_embed.h"
CAR_EMBED(bench_kernels, "bench/bench_kernels.fatbin");
#else
static const char bench_kernels[] = "built without nvcc";
#endif

const void *bench_kernels_image(void)
{
    return bench_kernels;
}
