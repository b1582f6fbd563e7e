#include "car_what.h"

#include <stdio.h>

static const char *type_name(uint32_t type)
{
    static const char *const names[CAR_TYPES] = {
#define CAR_TYPE(name, type, bytes, alignment, data, class_) [CAR_TYPE_##name] = #name,
#define CAR_COMMON(type, op)
#include "car_types.def"
    };
    return type < CAR_TYPES ? names[type] : "unknown type";
}

static const char *op_name(uint32_t op)
{
    static const char *const names[CAR_OPS] = {
#define CAR_OP_NAME(number, name) [CAR_OP_##number] = #number,
        CAR_OPS_LIST(CAR_OP_NAME)
#undef CAR_OP_NAME
    };
    return op < CAR_OPS ? names[op] : "unknown operation";
}

const char *car_what_text(const car_what_t *what, char text[CAR_WHAT_TEXT])
{
    snprintf(text, CAR_WHAT_TEXT, "%llu x %s, %s", (unsigned long long) what->count,
             type_name(what->type), op_name(what->op));
    return text;
}
