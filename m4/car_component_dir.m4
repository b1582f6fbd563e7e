# CAR_COMPONENT_DIR
#
# Where make install puts the component: Open MPI's own folder, unless a prefix (then PREFIX/lib/openmpi) or a folder was
# asked for. Substitutes component_dir.
AC_DEFUN([CAR_COMPONENT_DIR], [
    AC_ARG_WITH([component-dir],
        [AS_HELP_STRING([--with-component-dir=DIR],
            [folder to install the component into (default: Open MPI's own; with --prefix: PREFIX/lib/openmpi)])],
        [], [with_component_dir=])

    car_component_dir_is_openmpis=no
    AS_CASE([$with_component_dir],
        [''|yes|no],
            [AS_IF([test "$prefix" = NONE],
                   [component_dir=$OPENMPI_PKGLIBDIR
                    car_component_dir_is_openmpis=yes],
                   [component_dir='${libdir}/openmpi'])],
        [component_dir=$with_component_dir])
    AC_SUBST([component_dir])
    car_component_dir_says=`test "$prefix" = NONE || exec_prefix=$prefix; eval libdir=$libdir; eval echo "$component_dir"`
])
