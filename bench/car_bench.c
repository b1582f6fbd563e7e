/* car_bench: how long MPI_Allreduce on CUDA buffers takes, and how far that is from what the machine gives. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>

#include <mpi-ext.h>

/* Why the Open MPI without coll/car cannot be asked to reduce device memory, or NULL if it can. */
static const char *baseline_impossible(const bench_options_t *o)
{
    if (gpu_kind_is_host(o->memory) || GPU_MANAGED == o->memory) {
        return NULL;
    }
#if defined(MPIX_CUDA_AWARE_SUPPORT)
    if (1 == MPIX_Query_cuda_support()) {
        return NULL;
    }
#endif
    return "this Open MPI is built without CUDA and would read device memory with the CPU";
}

int main(int argc, char **argv)
{
    bench_options_t options;
    bench_machine_t machine;
    MPI_Comm other = MPI_COMM_NULL;
    bench_row_t rows[64];
    int n = 0;
    long wrong = 0;

    test_begin(&argc, &argv, "car_bench");
    bench_read_options(argc, argv, &options);
    test_use_gpu();
    bench_measure_machine(&machine);
    const char *no_baseline = options.baseline ? baseline_impossible(&options) : NULL;
    if (options.baseline && NULL == no_baseline) {
        other = test_without_car(MPI_COMM_WORLD);
    }
    if (0 == test.rank) {
        bench_report_head(&options, &machine, argc, argv, no_baseline);
    }
    for (size_t bytes = options.min; bytes <= options.max && n < 64; bytes *= options.step) {
        bench_measure_size(&options, other, bytes, &rows[n]);
        wrong += rows[n].wrong;
        if (0 == test.rank) {
            bench_report_row(&machine, &rows[n]);
        }
        ++n;
    }
    bool written = true;
    if (0 == test.rank) {
        written = bench_report_files(&options, &machine, rows, n);
        if (wrong > 0) {
            printf("# %ld elements were WRONG\n", wrong);
        }
    }
    if (MPI_COMM_NULL != other) {
        MPI_Comm_free(&other);
    }
    MPI_Finalize();
    return 0 == wrong && written ? 0 : 1;
}
