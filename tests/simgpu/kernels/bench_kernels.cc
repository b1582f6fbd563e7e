#include "../../../bench/bench_kernels.cu"
