"""Who made what the weights have seen."""

from payerseg.config.model_card import Source, joined_sources, single_sources


def test_joined_sources_come_apart_and_are_counted_once_per_item():
    both = Source(joined_sources(["A", "B"]), joined_sources(["CC0", "MIT"]), 3, "synthetic")
    again = Source(joined_sources(["A", "A"]), joined_sources(["CC0", "CC0"]), 2, "synthetic")
    plain = Source("A", "CC0", 5)
    assert single_sources([both, again, plain]) == (
        Source("A", "CC0", 5),
        Source("A", "CC0", 5, "synthetic"),
        Source("B", "MIT", 3, "synthetic"),
    )


def test_one_licence_may_stand_for_several_sources():
    (a, b) = single_sources([Source(joined_sources(["A", "B"]), "CC0", 1)])
    assert (a.licence, b.licence) == ("CC0", "CC0")
