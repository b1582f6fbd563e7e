#include "car_images.h"

#if CAR_HAVE_FATBINS

#include "car_embed.h"
#include "car_image_sizes.h" /* made by the build: bytes of each fatbin */

CAR_EMBED(car_image_one_shot_push, "kernels/one_shot_push.fatbin");
CAR_EMBED(car_image_two_shot_push, "kernels/two_shot_push.fatbin");
CAR_EMBED(car_image_one_shot_pull, "kernels/one_shot_pull.fatbin");
CAR_EMBED(car_image_two_shot, "kernels/two_shot.fatbin");
CAR_EMBED(car_image_fold, "kernels/fold.fatbin");
CAR_EMBED(car_image_one_shot_push_stay, "kernels/one_shot_push_stay.fatbin");

#define CAR_IMAGE(algorithm) {#algorithm, car_image_##algorithm, CAR_IMAGE_SIZE_##algorithm}

#else

static const char car_no_image[] = "coll/car was built without nvcc";
#define CAR_IMAGE(algorithm) {#algorithm, car_no_image, 0}

#endif

const car_image_t car_images[CAR_FILES] = {
    [CAR_ONE_SHOT_PUSH] = CAR_IMAGE(one_shot_push),
    [CAR_TWO_SHOT_PUSH] = CAR_IMAGE(two_shot_push),
    [CAR_ONE_SHOT_PULL] = CAR_IMAGE(one_shot_pull),
    [CAR_TWO_SHOT] = CAR_IMAGE(two_shot),
    [CAR_FOLD] = CAR_IMAGE(fold),
    [CAR_STAY] = CAR_IMAGE(one_shot_push_stay),
};
