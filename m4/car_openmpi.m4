# CAR_OPENMPI
#
# Finds the Open MPI to build against: that of the mpicc on PATH, or --with-openmpi=PREFIX. The component needs its
# internal headers; they come with the installation, or from a configured source tree (--with-openmpi-source=DIR).
#
# Sets and substitutes
#   OPENMPI_VERSION, OPENMPI_PREFIX, OPENMPI_PKGLIBDIR (its component folder), MPICC, MPIRUN, OMPI_INFO
#   OPENMPI_CPPFLAGS, OPENMPI_LIBS   for the component: internal headers, libraries with the internals
#   MPI_CPPFLAGS, MPI_LIBS           for programs: what mpicc would add
AC_DEFUN([CAR_OPENMPI], [
    AC_ARG_WITH([openmpi],
        [AS_HELP_STRING([--with-openmpi=PREFIX],
            [the Open MPI to build for (default: that of the mpicc on PATH)])],
        [], [with_openmpi=])
    AC_ARG_WITH([openmpi-source],
        [AS_HELP_STRING([--with-openmpi-source=DIR],
            [source tree of that Open MPI, configured in place, for an installation without internal headers])],
        [], [with_openmpi_source=])

    CAR_OPENMPI_PROGRAMS
    CAR_OPENMPI_HEADERS
    CAR_OPENMPI_LIBRARIES

    AC_SUBST([OPENMPI_VERSION])
    AC_SUBST([OPENMPI_PREFIX])
    AC_SUBST([OPENMPI_PKGLIBDIR])
    AC_SUBST([OPENMPI_CPPFLAGS])
    AC_SUBST([OPENMPI_LIBS])
    AC_SUBST([MPI_CPPFLAGS])
    AC_SUBST([MPI_LIBS])
])

# The programs, all of one installation, and what they say about it.
AC_DEFUN([CAR_OPENMPI_PROGRAMS], [
    AS_CASE([$with_openmpi],
        [no], [AC_MSG_ERROR([coll/car is a part of Open MPI: --without-openmpi makes no sense])],
        [''|yes], [car_mpi_path=$PATH],
        [car_mpi_path=$with_openmpi/bin])
    AC_PATH_PROG([MPICC], [mpicc], [], [$car_mpi_path])
    AS_IF([test -z "$MPICC"], [AC_MSG_ERROR([no mpicc in $car_mpi_path. Install Open MPI with its internal headers
(Debian, Ubuntu: apt install openmpi-bin libopenmpi-dev) or name its prefix: --with-openmpi=PREFIX])])

    AC_MSG_CHECKING([which Open MPI $MPICC is])
    OPENMPI_VERSION=`$MPICC --showme:version 2>/dev/null | sed -n 's/.*Open MPI v\{0,1\}\([[0-9]][[^ ]]*\).*/\1/p'`
    AS_IF([test -z "$OPENMPI_VERSION"], [AC_MSG_ERROR([$MPICC is not Open MPI's: coll/car is a component of Open MPI.
Name the prefix of one: --with-openmpi=PREFIX])])
    AC_MSG_RESULT([$OPENMPI_VERSION])
    AS_CASE([$OPENMPI_VERSION],
        [4.1.*|5.*|6.*], [],
        [AC_MSG_ERROR([Open MPI $OPENMPI_VERSION is not supported: 4.1, 5.0 and 6 are])])

    # mpirun and ompi_info stand beside mpicc; /usr/bin/mpicc may also be one of several, chosen by alternatives.
    car_mpi_bin=`AS_DIRNAME(["$MPICC"])`
    AC_PATH_PROG([OMPI_INFO], [ompi_info], [], [$car_mpi_bin])
    AC_PATH_PROG([MPIRUN], [mpirun], [], [$car_mpi_bin])
    AS_IF([test -z "$OMPI_INFO" || test -z "$MPIRUN"],
          [AC_MSG_ERROR([no ompi_info or mpirun beside $MPICC (Debian, Ubuntu: apt install openmpi-bin)])])
    AC_MSG_CHECKING([for the component folder of Open MPI])
    OPENMPI_PKGLIBDIR=`"$OMPI_INFO" --path pkglibdir --parsable 2>/dev/null | sed -n 's/^path:pkglibdir://p'`
    OPENMPI_PREFIX=`"$OMPI_INFO" --path prefix --parsable 2>/dev/null | sed -n 's/^path:prefix://p'`
    AS_IF([test -z "$OPENMPI_PKGLIBDIR"], [AC_MSG_ERROR([$OMPI_INFO --path pkglibdir --parsable does not say])])
    AC_MSG_RESULT([$OPENMPI_PKGLIBDIR])
])

# CAR_OPENMPI_TRY_HEADERS(IF-OK, IF-NOT): whether all that the component includes compiles. The flags in
# car_mpi_includes end in our own short forms of headers that Open MPI names and does not install.
AC_DEFUN([CAR_OPENMPI_TRY_HEADERS], [
    car_save_CPPFLAGS=$CPPFLAGS
    CPPFLAGS="$CPPFLAGS -I$srcdir/coll_car $car_mpi_includes -idirafter $srcdir/coll_car/compat"
    AC_COMPILE_IFELSE([AC_LANG_SOURCE([[#include "coll_car_compat.h"]])], [$1], [$2])
    CPPFLAGS=$car_save_CPPFLAGS
])

# CAR_OPENMPI_DEPENDENCY(HEADER, PKG-CONFIG MODULES): adds the folder of a header that Open MPI's own headers include,
# where neither the compiler nor mpicc knows it.
AC_DEFUN([CAR_OPENMPI_DEPENDENCY], [
    car_save_CPPFLAGS=$CPPFLAGS
    CPPFLAGS="$CPPFLAGS $car_mpi_includes"
    AC_PREPROC_IFELSE([AC_LANG_SOURCE([[#include <$1>]])], [],
        [for car_module in $2; do
             car_flags=`pkg-config --cflags "$car_module" 2>/dev/null` || continue
             car_mpi_includes="$car_mpi_includes $car_flags"
             break
         done])
    CPPFLAGS=$car_save_CPPFLAGS
])

AC_DEFUN([CAR_OPENMPI_HEADERS], [
    AC_MSG_CHECKING([for the internal headers of Open MPI])
    MPI_CPPFLAGS=
    car_mpi_includes=
    car_mpi_dirs=`"$MPICC" --showme:incdirs`
    for car_dir in $car_mpi_dirs; do
        MPI_CPPFLAGS="$MPI_CPPFLAGS -I$car_dir"
    done
    car_mpi_headers=
    for car_dir in $car_mpi_dirs "$OPENMPI_PREFIX/include"; do
        for car_sub in "$car_dir/openmpi" "$car_dir"; do
            AS_IF([test -z "$car_mpi_headers" && test -f "$car_sub/ompi/mca/coll/coll.h"],
                  [car_mpi_headers=$car_sub])
        done
    done

    AS_IF([test -n "$with_openmpi_source" && test "$with_openmpi_source" != no],
          [CAR_OPENMPI_SOURCE_TREE],
          [test -n "$car_mpi_headers"],
          [car_mpi_includes="$MPI_CPPFLAGS -I$car_mpi_headers"],
          [AC_MSG_RESULT([no])
           AC_MSG_ERROR([this Open MPI came without its internal headers (ompi/mca/coll/coll.h). Debian, Ubuntu: apt install
libopenmpi-dev. Built from source: configure it with --with-devel-headers, or give its configured source tree here:
--with-openmpi-source=DIR])])
    AC_MSG_RESULT([$car_mpi_headers])

    CAR_OPENMPI_DEPENDENCY([hwloc.h], [hwloc])
    AS_CASE([$OPENMPI_VERSION],
        [4.*], [CAR_OPENMPI_DEPENDENCY([event.h], [libevent])],
        [CAR_OPENMPI_DEPENDENCY([pmix.h], [pmix])])

    AC_MSG_CHECKING([whether coll/car's view of Open MPI compiles])
    CAR_OPENMPI_TRY_HEADERS([AC_MSG_RESULT([yes])],
        [AC_MSG_RESULT([no])
         car_missing=`sed -n 's/.*fatal error: \(.*\): No such file.*/\1/p' conftest.err | head -n 1`
         AS_CASE([$car_missing],
             [hwloc*], [car_hint="install hwloc's headers (Debian, Ubuntu: apt install libhwloc-dev)"],
             [event*], [car_hint="install libevent's headers (Debian, Ubuntu: apt install libevent-dev)"],
             [pmix*], [car_hint="install PMIx's headers (Debian, Ubuntu: apt install libpmix-dev)"],
             [''], [car_hint="see the compiler's messages in config.log"],
             [car_hint="the header $car_missing is missing: is $car_mpi_headers complete, and of Open MPI $OPENMPI_VERSION?"])
         AC_MSG_ERROR([Open MPI's internal headers do not compile: $car_hint])])

    AC_MSG_CHECKING([whether the headers are those of Open MPI $OPENMPI_VERSION])
    car_save_CPPFLAGS=$CPPFLAGS
    CPPFLAGS="$CPPFLAGS $car_mpi_includes"
    AC_EGREP_CPP([car_ident.*"$OPENMPI_VERSION"], [#include "ompi_config.h"
car_ident OPAL_IDENT_STRING],
        [AC_MSG_RESULT([yes])],
        [AC_MSG_RESULT([no])
         AC_MSG_ERROR([the headers in $car_mpi_headers are of another version than $MPICC ($OPENMPI_VERSION)])])
    CPPFLAGS=$car_save_CPPFLAGS
    OPENMPI_CPPFLAGS=$car_mpi_includes
])

# The headers of a source tree that was configured in place; mpi.h and opal_config.h are made by its configure.
AC_DEFUN([CAR_OPENMPI_SOURCE_TREE], [
    AS_IF([test ! -f "$with_openmpi_source/ompi/mca/coll/coll.h"],
          [AC_MSG_ERROR([$with_openmpi_source is no source tree of Open MPI])])
    AS_IF([test ! -f "$with_openmpi_source/opal/include/opal_config.h"],
          [AC_MSG_ERROR([$with_openmpi_source is not configured: run its ./configure, in that folder, with the options that
$OPENMPI_PREFIX was built with ($OMPI_INFO --config shows them)])])
    car_mpi_headers=`cd "$with_openmpi_source" && pwd`
    car_mpi_includes="-I$car_mpi_headers"
    for car_dir in "$car_mpi_headers"/opal/include "$car_mpi_headers"/ompi/include "$car_mpi_headers"/orte/include \
                   "$car_mpi_headers"/opal/mca/hwloc/hwloc2*/hwloc/include \
                   "$car_mpi_headers"/opal/mca/event/libevent2*/libevent \
                   "$car_mpi_headers"/opal/mca/event/libevent2*/libevent/include \
                   "$car_mpi_headers"/3rd-party/hwloc-*/include "$car_mpi_headers"/3rd-party/openpmix/include \
                   "$car_mpi_headers"/3rd-party/libevent-*-stable "$car_mpi_headers"/3rd-party/libevent-*-stable/include; do
        AS_IF([test -d "$car_dir"], [car_mpi_includes="$car_mpi_includes -I$car_dir"])
    done
])

# libmpi and libopen-pal by name, as Open MPI's own DSOs have them, for programs that load libmpi privately.
AC_DEFUN([CAR_OPENMPI_LIBRARIES], [
    MPI_LIBS=`"$MPICC" --showme:link`
    car_mpi_libdirs=
    for car_dir in `"$MPICC" --showme:libdirs`; do
        car_mpi_libdirs="$car_mpi_libdirs -L$car_dir"
    done
    AS_CASE([" `"$MPICC" --showme:libs` "],
        [*" open_mpi "*], [OPENMPI_LIBS="$car_mpi_libdirs -lopen_mpi -lopen-pal"],
        [OPENMPI_LIBS="$car_mpi_libdirs -lmpi -lopen-pal"])

    AC_MSG_CHECKING([for the libraries of Open MPI])
    car_save_CPPFLAGS=$CPPFLAGS
    car_save_LIBS=$LIBS
    CPPFLAGS="$CPPFLAGS -I$srcdir/coll_car $OPENMPI_CPPFLAGS -idirafter $srcdir/coll_car/compat"
    LIBS="$LIBS $OPENMPI_LIBS"
    AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include "coll_car_compat.h"]],
            [[coll_car_progress(); return ompi_version_string[0] == opal_class_init_epoch;]])],
        [AC_MSG_RESULT([$OPENMPI_LIBS])],
        [AC_MSG_RESULT([no])
         AC_MSG_ERROR([cannot link with $OPENMPI_LIBS: see config.log (Debian, Ubuntu: apt install libopenmpi-dev)])])
    CPPFLAGS=$car_save_CPPFLAGS
    LIBS=$car_save_LIBS
])
