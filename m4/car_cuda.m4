# CAR_CUDA
#
# Finds nvcc and the architectures that the kernels are compiled for. Without a toolkit everything but the kernels is
# built, and the component serves simulated GPUs only.
#
# Sets and substitutes NVCC, NVCC_VERSION, CAR_CUDA_ARCH (list), CAR_NVCC_FLAGS; sets car_newest_arch; conditional
# HAVE_NVCC.
AC_DEFUN([CAR_CUDA], [
    AC_ARG_WITH([cuda],
        [AS_HELP_STRING([--with-cuda=DIR],
            [CUDA toolkit, 11.8 to 13 (default: that of the nvcc on PATH, $CUDA_HOME or /usr/local/cuda)])],
        [], [with_cuda=])
    AC_ARG_WITH([cuda-arch],
        [AS_HELP_STRING([--with-cuda-arch=LIST],
            [compute capabilities to compile the kernels for, such as "80 90" (default: 70 75 80 86 89 90 100 103 120
             as far as the toolkit has them); PTX of the newest is added])],
        [], [with_cuda_arch=])

    NVCC=
    NVCC_VERSION=
    CAR_CUDA_ARCH=
    CAR_NVCC_FLAGS=
    AS_CASE([$with_cuda],
        [no], [],
        [''|yes], [AC_PATH_PROG([NVCC], [nvcc], [], [$PATH:${CUDA_HOME:-/usr/local/cuda}/bin:/usr/local/cuda/bin])],
        [AC_PATH_PROG([NVCC], [nvcc], [], [$with_cuda/bin])])
    AS_IF([test -z "$NVCC" && test -n "$with_cuda" && test "$with_cuda" != no],
          [AC_MSG_ERROR([no nvcc found: give the toolkit's folder (--with-cuda=DIR), or build for simulated GPUs only
(--without-cuda). Toolkit: developer.nvidia.com/cuda-downloads, or apt install nvidia-cuda-toolkit])])
    AS_IF([test -n "$NVCC"], [CAR_CUDA_TOOLKIT])

    AM_CONDITIONAL([HAVE_NVCC], [test -n "$NVCC"])
    AC_SUBST([NVCC_VERSION])
    AC_SUBST([CAR_CUDA_ARCH])
    AC_SUBST([CAR_NVCC_FLAGS])
])

AC_DEFUN([CAR_CUDA_TOOLKIT], [
    AC_MSG_CHECKING([for the version of $NVCC])
    NVCC_VERSION=`"$NVCC" --version | sed -n 's/.*release \([[0-9.]]*\).*/\1/p'`
    AC_MSG_RESULT([${NVCC_VERSION:-unknown}])
    AS_VERSION_COMPARE([${NVCC_VERSION:-0}], [11.8],
        [AC_MSG_ERROR([CUDA ${NVCC_VERSION:-of unknown version} is too old: 11.8 or later is needed (--with-cuda=DIR)])])

    AC_MSG_CHECKING([for the GPU architectures to compile for])
    car_have_arch=" `"$NVCC" --list-gpu-code 2>/dev/null | sed -n 's/^sm_//p' | tr '\n' ' '`"
    car_arch_list=`echo "$with_cuda_arch" | tr ',;' '  '`
    for car_arch in ${car_arch_list:-70 75 80 86 89 90 100 103 120}; do
        AS_CASE(["$car_have_arch"],
            [*" $car_arch "*], [AS_VAR_APPEND([CAR_CUDA_ARCH], [" $car_arch"])],
            [AS_IF([test -n "$car_arch_list"],
                   [AC_MSG_ERROR([this toolkit does not know sm_$car_arch; it has:$car_have_arch])])])
    done
    CAR_CUDA_ARCH=`echo "$CAR_CUDA_ARCH" | tr ' ' '\n' | grep . | sort -n | tr '\n' ' ' | sed 's/ $//'`
    AC_MSG_RESULT([$CAR_CUDA_ARCH])

    car_gencode=
    for car_arch in $CAR_CUDA_ARCH; do
        AS_VAR_APPEND([car_gencode], [" -gencode=arch=compute_$car_arch,code=sm_$car_arch"])
        car_newest_arch=$car_arch
    done
    AS_VAR_APPEND([car_gencode], [" -gencode=arch=compute_$car_newest_arch,code=compute_$car_newest_arch"])
    # A product that is added to another is rounded first, as on the host.
    CAR_NVCC_FLAGS="-fatbin -std=c++17 -fmad=false$car_gencode"

    cat >conftest.cu <<'CONFTEST'
#include <stdint.h>
extern "C" __global__ void probe(const __grid_constant__ uint32_t a) {}
CONFTEST
    AC_MSG_CHECKING([whether nvcc compresses for size])
    AS_IF(["$NVCC" $CAR_NVCC_FLAGS --compress-mode=size -o conftest.fatbin conftest.cu >&AS_MESSAGE_LOG_FD 2>&1],
          [AC_MSG_RESULT([yes])
           AS_VAR_APPEND([CAR_NVCC_FLAGS], [" --compress-mode=size"])],
          [AC_MSG_RESULT([no])
           AC_MSG_CHECKING([whether nvcc works])
           AS_IF(["$NVCC" $CAR_NVCC_FLAGS -o conftest.fatbin conftest.cu >&AS_MESSAGE_LOG_FD 2>&1],
                 [AC_MSG_RESULT([yes])],
                 [AC_MSG_RESULT([no])
                  AC_MSG_ERROR([$NVCC cannot compile a kernel, see config.log. If it refuses the host compiler, give it an older
one: NVCC_PREPEND_FLAGS="-ccbin g++-11"; or build for simulated GPUs only: --without-cuda])])])
    rm -f conftest.cu conftest.fatbin
])
