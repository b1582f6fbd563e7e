#include "../../../kernels/two_shot_push.cu"
