/* The types of MPI 4.1, section 6.9.2, and what is defined on them. */
#include <mpi.h>

#include <mpi-ext.h> /* after mpi.h, which it needs */

#include "data.h"

_Static_assert(8 == sizeof(long) && 16 == sizeof(long double),
               "this table is for 64-bit Linux on x86");

/* Handles that not every Open MPI has. */
#ifndef MPI_INTEGER1
#define MPI_INTEGER1 MPI_DATATYPE_NULL
#endif
#ifndef MPI_INTEGER2
#define MPI_INTEGER2 MPI_DATATYPE_NULL
#endif
#ifndef MPI_INTEGER4
#define MPI_INTEGER4 MPI_DATATYPE_NULL
#endif
#ifndef MPI_INTEGER8
#define MPI_INTEGER8 MPI_DATATYPE_NULL
#endif
#ifndef MPI_REAL2
#define MPI_REAL2 MPI_DATATYPE_NULL
#endif
#ifndef MPI_REAL4
#define MPI_REAL4 MPI_DATATYPE_NULL
#endif
#ifndef MPI_REAL8
#define MPI_REAL8 MPI_DATATYPE_NULL
#endif
#ifndef MPI_REAL16
#define MPI_REAL16 MPI_DATATYPE_NULL
#endif
#ifndef MPI_COMPLEX4
#define MPI_COMPLEX4 MPI_DATATYPE_NULL
#endif
#ifndef MPI_COMPLEX8
#define MPI_COMPLEX8 MPI_DATATYPE_NULL
#endif
#ifndef MPI_COMPLEX16
#define MPI_COMPLEX16 MPI_DATATYPE_NULL
#endif
#ifndef MPI_COMPLEX32
#define MPI_COMPLEX32 MPI_DATATYPE_NULL
#endif
#ifndef MPIX_SHORT_FLOAT
#define MPIX_SHORT_FLOAT MPI_DATATYPE_NULL
#endif
#ifndef MPIX_C_SHORT_FLOAT_COMPLEX
#define MPIX_C_SHORT_FLOAT_COMPLEX MPI_DATATYPE_NULL
#endif

#define DATA_ELEMENT(name, T) enum { BYTES_##name = sizeof(T), ALIGN_##name = _Alignof(T) };
DATA_ELEMENTS_OF(DATA_ELEMENT)
#undef DATA_ELEMENT

#define TYPE(word, handle, element, group)                                                         \
    {                                                                                              \
        word, #handle, handle, DATA_##element, BYTES_##element, ALIGN_##element, DATA_##group      \
    }

/*
 * Fortran's kinds have the sizes that compilers give them without options. MPI_OFFSET is signed,
 * but Open MPI reduces it as an unsigned integer (seen in 4.1.4 and 5.0.7): MPI_MIN and MPI_MAX of
 * negative ones are not what one would think. MPI_REAL16 and MPI_COMPLEX32 are quadruple precision
 * to Fortran, but Open MPI 4.1.4 reduces them as x87 floats.
 */
const data_type_t data_types[DATA_TYPES] = {
    TYPE("int32", MPI_INT32_T, I32, C_INTEGER),
    TYPE("uint32", MPI_UINT32_T, U32, C_INTEGER),
    TYPE("int64", MPI_INT64_T, I64, C_INTEGER),
    TYPE("uint64", MPI_UINT64_T, U64, C_INTEGER),
    TYPE("float", MPI_FLOAT, F32, FLOATING_POINT),
    TYPE("double", MPI_DOUBLE, F64, FLOATING_POINT),
    TYPE("int", MPI_INT, I32, C_INTEGER),
    TYPE("unsigned", MPI_UNSIGNED, U32, C_INTEGER),
    TYPE("long", MPI_LONG, I64, C_INTEGER),
    TYPE("unsigned_long", MPI_UNSIGNED_LONG, U64, C_INTEGER),
    TYPE("long_long", MPI_LONG_LONG, I64, C_INTEGER),
    TYPE("unsigned_long_long", MPI_UNSIGNED_LONG_LONG, U64, C_INTEGER),
    TYPE("signed_char", MPI_SIGNED_CHAR, I8, C_INTEGER),
    TYPE("unsigned_char", MPI_UNSIGNED_CHAR, U8, C_INTEGER),
    TYPE("short", MPI_SHORT, I16, C_INTEGER),
    TYPE("unsigned_short", MPI_UNSIGNED_SHORT, U16, C_INTEGER),
    TYPE("int8", MPI_INT8_T, I8, C_INTEGER),
    TYPE("uint8", MPI_UINT8_T, U8, C_INTEGER),
    TYPE("int16", MPI_INT16_T, I16, C_INTEGER),
    TYPE("uint16", MPI_UINT16_T, U16, C_INTEGER),
    TYPE("aint", MPI_AINT, I64, MULTI_LANGUAGE),
    TYPE("offset", MPI_OFFSET, U64, MULTI_LANGUAGE),
    TYPE("count", MPI_COUNT, I64, MULTI_LANGUAGE),
    TYPE("integer", MPI_INTEGER, I32, FORTRAN_INTEGER),
    TYPE("integer1", MPI_INTEGER1, I8, FORTRAN_INTEGER),
    TYPE("integer2", MPI_INTEGER2, I16, FORTRAN_INTEGER),
    TYPE("integer4", MPI_INTEGER4, I32, FORTRAN_INTEGER),
    TYPE("integer8", MPI_INTEGER8, I64, FORTRAN_INTEGER),
    TYPE("byte", MPI_BYTE, U8, RAW_BYTE),
    TYPE("c_bool", MPI_C_BOOL, BOOL, LOGICAL),
    TYPE("cxx_bool", MPI_CXX_BOOL, BOOL, LOGICAL),
    TYPE("logical", MPI_LOGICAL, I32, LOGICAL),
    TYPE("short_float", MPIX_SHORT_FLOAT, F16, FLOATING_POINT),
    TYPE("real2", MPI_REAL2, F16, FLOATING_POINT),
    TYPE("real", MPI_REAL, F32, FLOATING_POINT),
    TYPE("real4", MPI_REAL4, F32, FLOATING_POINT),
    TYPE("real8", MPI_REAL8, F64, FLOATING_POINT),
    TYPE("double_precision", MPI_DOUBLE_PRECISION, F64, FLOATING_POINT),
    TYPE("long_double", MPI_LONG_DOUBLE, F80, FLOATING_POINT),
    TYPE("real16", MPI_REAL16, F80, FLOATING_POINT),
    TYPE("c_short_float_complex", MPIX_C_SHORT_FLOAT_COMPLEX, C16, COMPLEX_NUMBER),
    TYPE("complex4", MPI_COMPLEX4, C16, COMPLEX_NUMBER),
    TYPE("c_complex", MPI_C_COMPLEX, C32, COMPLEX_NUMBER),
    TYPE("c_float_complex", MPI_C_FLOAT_COMPLEX, C32, COMPLEX_NUMBER),
    TYPE("c_double_complex", MPI_C_DOUBLE_COMPLEX, C64, COMPLEX_NUMBER),
    TYPE("c_long_double_complex", MPI_C_LONG_DOUBLE_COMPLEX, C80, COMPLEX_NUMBER),
    TYPE("cxx_float_complex", MPI_CXX_FLOAT_COMPLEX, C32, COMPLEX_NUMBER),
    TYPE("cxx_double_complex", MPI_CXX_DOUBLE_COMPLEX, C64, COMPLEX_NUMBER),
    TYPE("cxx_long_double_complex", MPI_CXX_LONG_DOUBLE_COMPLEX, C80, COMPLEX_NUMBER),
    TYPE("complex", MPI_COMPLEX, C32, COMPLEX_NUMBER),
    TYPE("complex8", MPI_COMPLEX8, C32, COMPLEX_NUMBER),
    TYPE("complex16", MPI_COMPLEX16, C64, COMPLEX_NUMBER),
    TYPE("double_complex", MPI_DOUBLE_COMPLEX, C64, COMPLEX_NUMBER),
    TYPE("complex32", MPI_COMPLEX32, C80, COMPLEX_NUMBER),
    TYPE("float_int", MPI_FLOAT_INT, F32_I32, LOCATED),
    TYPE("double_int", MPI_DOUBLE_INT, F64_I32, LOCATED),
    TYPE("long_int", MPI_LONG_INT, I64_I32, LOCATED),
    TYPE("2int", MPI_2INT, I32_I32, LOCATED),
    TYPE("short_int", MPI_SHORT_INT, I16_I32, LOCATED),
    TYPE("long_double_int", MPI_LONG_DOUBLE_INT, F80_I32, LOCATED),
    TYPE("2real", MPI_2REAL, F32_F32, LOCATED),
    TYPE("2double_precision", MPI_2DOUBLE_PRECISION, F64_F64, LOCATED),
    TYPE("2integer", MPI_2INTEGER, I32_I32, LOCATED),
};

/* --- operations ------------------------------------------------------------------------------- */

MPI_Op data_mpi_op(data_op_t op)
{
    const MPI_Op ops[DATA_OPS] = {MPI_SUM,  MPI_PROD, MPI_MIN, MPI_MAX,  MPI_LAND,   MPI_LOR,
                                  MPI_LXOR, MPI_BAND, MPI_BOR, MPI_BXOR, MPI_MINLOC, MPI_MAXLOC};
    return ops[op];
}

const char *data_op_name(data_op_t op)
{
    static const char *const names[DATA_OPS] = {"sum",  "prod", "min", "max",  "land",   "lor",
                                                "lxor", "band", "bor", "bxor", "minloc", "maxloc"};
    return names[op];
}

bool data_allowed(const data_type_t *type, data_op_t op)
{
    const data_group_t group = type->group;
    const bool integer =
        DATA_C_INTEGER == group || DATA_FORTRAN_INTEGER == group || DATA_MULTI_LANGUAGE == group;

    switch (op) {
    case DATA_SUM:
    case DATA_PROD:
        return integer || DATA_FLOATING_POINT == group || DATA_COMPLEX_NUMBER == group;
    case DATA_MIN:
    case DATA_MAX:
        return integer || DATA_FLOATING_POINT == group;
    case DATA_LAND:
    case DATA_LOR:
    case DATA_LXOR:
        return DATA_C_INTEGER == group || DATA_LOGICAL == group;
    case DATA_BAND:
    case DATA_BOR:
    case DATA_BXOR:
        return integer || DATA_RAW_BYTE == group;
    default:
        return DATA_LOCATED == group;
    }
}

bool data_has(const data_type_t *type)
{
    int size = 0;
    MPI_Aint low = 0, extent = 0;

    if (MPI_DATATYPE_NULL == type->type) {
        return false;
    }
    MPI_Type_size(type->type, &size);
    MPI_Type_get_extent(type->type, &low, &extent);
    return 0 != size && (size_t) extent == type->bytes;
}

bool data_offered(const data_type_t *type, data_op_t op)
{
    char zeros[2][64] = {{0}};
    /* 4.1 raises errors of no communicator on the one, 5.0 the other */
    MPI_Comm comms[] = {MPI_COMM_WORLD, MPI_COMM_SELF};
    MPI_Errhandler handlers[2];

    if (!data_has(type) || !data_allowed(type, op)) {
        return false;
    }
    for (int i = 0; i < 2; ++i) {
        MPI_Comm_get_errhandler(comms[i], &handlers[i]);
        MPI_Comm_set_errhandler(comms[i], MPI_ERRORS_RETURN);
    }
    const int rc = MPI_Reduce_local(zeros[0], zeros[1], 1, type->type, data_mpi_op(op));
    for (int i = 0; i < 2; ++i) {
        MPI_Comm_set_errhandler(comms[i], handlers[i]);
        MPI_Errhandler_free(&handlers[i]);
    }
    return MPI_SUCCESS == rc;
}

bool data_for_gpu(const data_type_t *type)
{
    return DATA_F80 != type->element && DATA_C80 != type->element && DATA_F80_I32 != type->element;
}
