#include "../../../kernels/one_shot_push.cu"
