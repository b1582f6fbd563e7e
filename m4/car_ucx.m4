# CAR_UCX
#
# Whether coll/car asks UCM, a part of UCX, to be told of device memory that is freed: the default of the parameter
# coll_car_ucx. Nothing is linked: the component looks the library up at run time (coll_car/car_free_source.c), and all builds
# have the same code, so here it is only found, and what car_ucm_api.h says of it is compared with its header.
#
# Substitutes CAR_UCX_LIBRARY: a name, a path where the loader would not find that, or none; sets car_ucx_says.
AC_DEFUN([CAR_UCX], [
    AC_ARG_WITH([ucx],
        [AS_HELP_STRING([--with-ucx@<:@=DIR@:>@],
            [tell peers of freed buffers at once, by UCX's memory events (default: if pkg-config finds a UCX with CUDA
             support)])],
        [], [with_ucx=])

    CAR_UCX_LIBRARY=none
    car_ucx_says="not used (--without-ucx)"
    AS_IF([test "$with_ucx" != no], [CAR_UCX_FIND])
    AC_SUBST([CAR_UCX_LIBRARY])
])

AC_DEFUN([CAR_UCX_FIND], [
    AS_CASE([$with_ucx],
        [''|yes],
            [car_ucx_include=`$PKG_CONFIG --variable=includedir ucx 2>/dev/null`
             car_ucx_libdirs=`$PKG_CONFIG --variable=libdir ucx 2>/dev/null`],
        [car_ucx_include=$with_ucx/include
         car_ucx_libdirs="$with_ucx/lib $with_ucx/lib64"])
    car_ucx_lib=
    for car_dir in $car_ucx_libdirs; do
        AS_IF([test -z "$car_ucx_lib" && test -e "$car_dir/libucs.so.0"], [car_ucx_lib=`cd "$car_dir" && pwd`])
    done
    car_ucx_missing=
    AS_IF([test -z "$car_ucx_lib"], [car_ucx_missing="no libucs.so.0 in ${car_ucx_libdirs:-what pkg-config knows as ucx}"],
          [CAR_UCX_TRY_HEADER])
    AC_MSG_CHECKING([whether UCX knows CUDA])
    car_ucx_cuda=no
    for car_file in "$car_ucx_lib"/ucx/libucm_cuda.so.0; do
        AS_IF([test -n "$car_ucx_lib" && test -e "$car_file"], [car_ucx_cuda=yes])
    done
    AC_MSG_RESULT([$car_ucx_cuda])

    AS_IF([test -n "$car_ucx_missing" && test -n "$with_ucx"],
          [AC_MSG_ERROR([--with-ucx: $car_ucx_missing. Name the prefix of a UCX that was built with CUDA (--with-ucx=DIR,
with DIR/include/ucm/api/ucm.h and DIR/lib/libucs.so.0), or do without: freed buffers are then told with the next large call])],
          [test -n "$car_ucx_missing"], [car_ucx_says="not used: $car_ucx_missing"],
          [test $car_ucx_cuda = no && test -z "$with_ucx"], [car_ucx_says="not used: built without CUDA"],
          [AS_CASE([$car_ucx_lib],
               [/lib*|/usr/lib*], [CAR_UCX_LIBRARY=libucs.so.0],
               [CAR_UCX_LIBRARY=$car_ucx_lib/libucs.so.0])
           car_ucx_says="memory events from $CAR_UCX_LIBRARY"
           AS_IF([test $car_ucx_cuda = no],
                 [AC_MSG_WARN([this UCX has no CUDA support (ucx/libucm_cuda.so.0): there are events only where jobs find one that has])])])
])

AC_DEFUN([CAR_UCX_TRY_HEADER], [
    AC_MSG_CHECKING([whether ucm/api/ucm.h is as coll/car knows it])
    car_save_CPPFLAGS=$CPPFLAGS
    CPPFLAGS="$CPPFLAGS -I$srcdir/coll_car -I$car_ucx_include"
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <ucm/api/ucm.h>
#include "car_ucm_api.h"
_Static_assert(CAR_UCM_EVENT_MEM_TYPE_FREE == (int) UCM_EVENT_MEM_TYPE_FREE, "event");
_Static_assert(offsetof(car_ucm_freed_t, address) == offsetof(ucm_event_t, mem_type.address), "address");
_Static_assert(offsetof(car_ucm_freed_t, size) == offsetof(ucm_event_t, mem_type.size), "size");
_Static_assert(sizeof(int) == sizeof(ucm_event_type_t) && 0 == UCS_OK, "arguments, and what is returned");]],
            [[ucs_status_t (*set)(int, int, ucm_event_callback_t, void *) = ucm_set_event_handler; (void) set;]])],
        [AC_MSG_RESULT([yes])],
        [AC_MSG_RESULT([no])
         car_ucx_missing="no usable ucm/api/ucm.h in ${car_ucx_include:-what pkg-config knows as ucx} (see config.log)"])
    CPPFLAGS=$car_save_CPPFLAGS
])
