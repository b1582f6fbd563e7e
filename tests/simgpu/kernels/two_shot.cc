#include "../../../kernels/two_shot.cu"
