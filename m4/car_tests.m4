# CAR_TESTS
#
# What tests need beyond the component: the simulated GPUs (a C++ compiler), cmocka for the unit tests, Python.
# Conditionals SIMGPU, HAVE_CMOCKA; substitutes CMOCKA_CFLAGS, CMOCKA_LIBS, PYTHON3.
AC_DEFUN([CAR_TESTS], [
    AC_ARG_ENABLE([simgpu],
        [AS_HELP_STRING([--disable-simgpu], [do not build the simulated CUDA driver that the tests run on])],
        [], [enable_simgpu=yes])
    AS_IF([test "$enable_simgpu" = yes],
          [AC_LANG_PUSH([C++])
           AC_MSG_CHECKING([whether $CXX compiles C++17])
           car_save_CXXFLAGS=$CXXFLAGS
           CXXFLAGS="$CXXFLAGS -std=gnu++17"
           AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <cstdint>]], [[if constexpr (true) { return 0; }]])],
               [AC_MSG_RESULT([yes])],
               [AC_MSG_RESULT([no])
                AC_MSG_ERROR([the simulated GPUs need a C++17 compiler (Debian, Ubuntu: apt install g++), or do without
them: --disable-simgpu])])
           CXXFLAGS=$car_save_CXXFLAGS
           AC_LANG_POP([C++])
           car_simgpu_says="built with the tests"],
          [car_simgpu_says="no (--disable-simgpu)"])
    AM_CONDITIONAL([SIMGPU], [test "$enable_simgpu" = yes])

    PKG_CHECK_MODULES([CMOCKA], [cmocka],
        [car_cmocka=yes
         car_cmocka_says="built by make check"],
        [car_cmocka=no
         car_cmocka_says="no: cmocka is missing (Debian, Ubuntu: apt install libcmocka-dev)"])
    AM_CONDITIONAL([HAVE_CMOCKA], [test "$car_cmocka" = yes])

    AC_PATH_PROG([PYTHON3], [python3], [python3])
])
