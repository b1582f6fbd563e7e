# CAR_LIBRARY
#
# libcar (lib/), which is for programs and goes to the usual folders below the prefix. Conditional INSTALL_LIBCAR: who may
# write to the component's folder only can install without it. It is built in any case, for the tests.
AC_DEFUN([CAR_LIBRARY], [
    AC_ARG_ENABLE([libcar],
        [AS_HELP_STRING([--disable-libcar], [do not install libcar, the operations on 16-bit floats for programs])],
        [], [enable_libcar=yes])
    AM_CONDITIONAL([INSTALL_LIBCAR], [test "$enable_libcar" != no])
    AS_IF([test "$enable_libcar" != no],
          [car_library_says="installs into "`test "$prefix" = NONE && prefix=$ac_default_prefix
               test "$exec_prefix" = NONE && exec_prefix=$prefix; eval echo "$libdir"`],
          [car_library_says="is not installed (--disable-libcar)"])
])
