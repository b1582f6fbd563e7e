#include "../../../kernels/fold.cu"
