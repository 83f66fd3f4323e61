from __future__ import annotations

from streamlab.tasks.glue import GLUE
from streamlab.tasks.metrics import find_metric
from streamlab.tasks.synthetic.generator import RECIPES, generate


def test_all_nine_tasks_are_known_and_have_synthetic_data() -> None:
    assert len(GLUE) == 9
    assert set(RECIPES) == set(GLUE)


def test_only_a_regression_has_no_labels() -> None:
    assert {name for name, entry in GLUE.items() if not entry.labels} == {"glue/stsb"}
    assert GLUE["glue/stsb"].kind == "regression"


def test_every_metric_suits_its_task() -> None:
    assert all(e.kind in find_metric(m).kinds for e in GLUE.values() for m in e.metrics)


def test_wnli_counts_its_labels_the_other_way_round() -> None:
    assert GLUE["glue/rte"].labels.index("entailment") == 0
    assert GLUE["glue/wnli"].labels.index("entailment") == 1


def test_synthetic_data_have_the_shape_and_labels_of_their_task() -> None:
    for dataset, entry in GLUE.items():
        rows, _ = generate(dataset, n_train=40, n_dev=0, seed=0)

        assert {row.text2 is not None for row in rows} == {entry.text2 is not None}
        if entry.labels:
            assert {row.label for row in rows} == set(range(len(entry.labels)))


def test_a_dataset_of_ones_own_has_no_entry() -> None:
    assert GLUE.get("reviews") is None
