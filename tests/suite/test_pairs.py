"""The matrix: that what is chosen of it has every pair."""
import pairs

FACTORS = {"a": [1, 2], "b": [1, 2, 3], "c": [1, 2, 3, 4], "d": [1, 2]}


def all_pairs(rows):
    return set().union(*(pairs.pairs_of(row) for row in rows))


def test_every_pair_is_there_and_most_rows_are_not():
    chosen = pairs.covering(FACTORS)
    assert all_pairs(chosen) == all_pairs(pairs.rows(FACTORS))
    assert len(chosen) <= 16 < len(pairs.rows(FACTORS))


def test_pairs_stand_in_useful_rows_where_there_are_any():
    def useful(row):
        return row["a"] == 1 or row["c"] == 1

    chosen = pairs.covering(FACTORS, useful)
    assert all_pairs(chosen) == all_pairs(pairs.rows(FACTORS))
    assert all_pairs(filter(useful, chosen)) == all_pairs(filter(useful, pairs.rows(FACTORS)))
