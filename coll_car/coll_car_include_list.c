#include "coll_car_compat.h"

#include "coll_car_include_list.h"

#include <stdio.h>
#include <stdlib.h>

/*
 * basic and libnbc together fill every slot that selection insists on; self, inter and tuned are
 * what such communicators use without a list; cuda or accelerator takes the device buffers that
 * coll/car declines; ftagree belongs to ULFM.
 */
static const char *const wanted[] = {"basic", "libnbc",      "self",   "inter",
                                     "tuned", "accelerator", "cuda",   "ftagree"};
enum { WANTED = sizeof(wanted) / sizeof(wanted[0]) };

/* Whether a list "a,b,c" has the name. */
static bool list_has(const char *list, const char *name)
{
    const size_t length = strlen(name);

    while (NULL != list && '\0' != *list) {
        const size_t item = strcspn(list, ",");

        if (item == length && 0 == strncmp(list, name, length)) {
            return true;
        }
        list += item;
        list += ',' == *list;
    }
    return false;
}

/*
 * Whether this Open MPI has the component at all: naming one that it has not would abort the
 * program.
 */
static bool exists(mca_base_framework_t *framework, const char *name)
{
    const mca_base_component_t **compiled_in = coll_car_static_components(framework);
    opal_list_t *files = NULL;
    mca_base_component_repository_item_t *file;

    for (; NULL != compiled_in && NULL != *compiled_in; ++compiled_in) {
        if (0 == strcmp((*compiled_in)->mca_component_name, name)) {
            return true;
        }
    }
    if (OPAL_SUCCESS != mca_base_component_repository_get_components(framework, &files)
        || NULL == files) {
        return false;
    }
    OPAL_LIST_FOREACH(file, files, mca_base_component_repository_item_t) {
        if (0 == strcmp(file->ri_name, name)) {
            return true;
        }
    }
    return false;
}

/*
 * Whether the framework has loaded it: MPI_T and ompi_info load all that there are, whatever the
 * list.
 */
static bool loaded(mca_base_framework_t *framework, const char *name)
{
    mca_base_component_list_item_t *item;

    OPAL_LIST_FOREACH(item, &framework->framework_components, mca_base_component_list_item_t) {
        if (0 == strcmp(item->cli_component->mca_component_name, name)) {
            return true;
        }
    }
    return false;
}

static void append(char *list, size_t room, const char *name)
{
    const size_t used = strlen(list);

    snprintf(list + used, room - used, "%s%s", 0 == used ? "" : ",", name);
}

/*
 * Loads and registers the named components. A copy of the framework with empty lists does it: on
 * the framework itself the call would append each component compiled into the library once more.
 * What it finds goes to the front of the real list, behind the back of the loop that is registering
 * us: that one has fetched its next item already, and so does not register them twice.
 */
static int load(mca_base_framework_t *framework, char *names)
{
    mca_base_framework_t copy = *framework;
    opal_list_item_t *item;
    int rc;

    OBJ_CONSTRUCT(&copy.framework_components, opal_list_t);
    OBJ_CONSTRUCT(&copy.framework_failed_components, opal_list_t);
    copy.framework_selection = names;
    rc = mca_base_framework_components_register(&copy, MCA_BASE_REGISTER_DEFAULT);
    while (NULL != (item = opal_list_remove_last(&copy.framework_components))) {
        opal_list_prepend(&framework->framework_components, item);
    }
    OPAL_LIST_DESTRUCT(&copy.framework_failed_components);
    OBJ_DESTRUCT(&copy.framework_components);
    return rc;
}

/* Makes the list the framework's, which it looks at again when it opens the components. */
static int set_selection(const char *list)
{
    const int index = mca_base_var_find("ompi", "coll", NULL, NULL);

    if (0 > index) {
        return index;
    }
    return mca_base_var_set_value(index, list, strlen(list) + 1, MCA_BASE_VAR_SOURCE_SET, NULL);
}

int coll_car_extend_include_list(void)
{
    mca_base_framework_t *framework = &ompi_coll_base_framework;
    const char *selection = framework->framework_selection;
    /* Each wanted name is shorter than 16 characters, its comma included. */
    char *list, missing[16 * WANTED] = "";
    int rc;

    if (NULL == selection || '\0' == *selection || '^' == *selection) {
        return OPAL_SUCCESS;
    }
    const size_t room = strlen(selection) + 1 + sizeof(missing);
    list = malloc(room);
    if (NULL == list) {
        return OPAL_ERR_OUT_OF_RESOURCE;
    }
    memcpy(list, selection, strlen(selection) + 1);
    for (int i = 0; i < WANTED; ++i) {
        if (list_has(selection, wanted[i]) || !exists(framework, wanted[i])) {
            continue;
        }
        append(list, room, wanted[i]);
        if (!loaded(framework, wanted[i])) {
            append(missing, sizeof(missing), wanted[i]);
        }
    }
    rc = set_selection(list);
    if (OPAL_SUCCESS == rc && '\0' != *missing) {
        rc = load(framework, missing);
    }
    free(list);
    return rc;
}
