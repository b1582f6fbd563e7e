"""Few rows of a large matrix that contain every pair of values of any two of its factors."""
import itertools


def rows(factors):
    """All rows of the matrix: {name: values} gives dictionaries {name: value}."""
    return [dict(zip(factors, values)) for values in itertools.product(*factors.values())]


def pairs_of(row):
    return set(itertools.combinations(sorted(row.items(), key=lambda item: item[0]), 2))


def covering(factors, useful=lambda row: True):
    """
    A list of rows with every pair that occurs. A row is useful if it shows something: a pair that stands in any useful
    row is covered by one of those. Greedy and deterministic; not the smallest list there is.
    """
    matrix = [(row, pairs_of(row), useful(row)) for row in rows(factors)]
    by_useful = set().union(*(pairs for _, pairs, good in matrix if good), set())
    missing = set().union(*(pairs for _, pairs, _ in matrix))
    chosen = []

    def gain(entry):
        _, pairs, good = entry
        return len(pairs & missing if good else pairs & missing - by_useful)

    while missing:
        best = max(matrix, key=gain)
        chosen.append(best[0])
        missing -= best[1] if best[2] else best[1] - by_useful
    return chosen
