#include "../../../kernels/one_shot_push_stay.cu"
