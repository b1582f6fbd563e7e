#include "../../../kernels/one_shot_pull.cu"
