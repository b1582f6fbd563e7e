/*
 * What makes `mpirun --mca coll car` work.
 */
#ifndef COLL_CAR_INCLUDE_LIST_H
#define COLL_CAR_INCLUDE_LIST_H

/*
 * An include list ("car", "car,tuned") loads nothing else, and no communicator could be made of the
 * one function that coll/car has. Adds the components that every communicator needs, and those that
 * coll/car leaves calls to, to such a list. Does nothing without a list or with an exclude list
 * ("^...").
 *
 * To be called while coll/car registers its parameters: later the framework's list is settled.
 * Returns an OPAL error code; nothing is changed unless it is OPAL_SUCCESS.
 */
int coll_car_extend_include_list(void);

#endif /* COLL_CAR_INCLUDE_LIST_H */
