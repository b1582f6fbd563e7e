#include "../../kernels/test_kernels.cu"
