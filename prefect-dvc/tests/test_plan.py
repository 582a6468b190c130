"""A flow's plan is held to the graph in dvc.yaml."""

import pytest

from prefect_dvc.dvc_repo import LedgerError, Plan
from prefect_dvc.plan import check, of_template


def graph(**edges):
    """What DVC says of stages, of which each comes after those named."""
    return {
        name.replace("_", "@"): Plan(frozenset(after), "", {})
        for name, after in edges.items()
    }


GRAPH = graph(first=[], each_a=["first"], each_b=["first"], last=["each@a", "each@b"])


def test_a_plan_that_is_the_graph_passes():
    def plan(run):
        run.step("last", *run.each("each", run.step("first")))

    check(plan, GRAPH)


@pytest.mark.parametrize(
    "key", ["a;touch ran", "$(a)", "a b", "`a`", "a\n", "'a'", "../a"]
)
def test_a_name_that_a_shell_would_read_is_refused(key):
    def plan(run):
        run.each("each", run.step("first"))

    stages = {
        "first": Plan(frozenset(), "", {}),
        f"each@{key}": Plan(frozenset({"first"}), "", {}),
    }
    with pytest.raises(
        LedgerError, match="has a name that a shell would take for more"
    ):
        check(plan, stages)


def test_a_missing_edge_is_found():
    def plan(run):
        run.step("last", *run.each("each", run.step("first"))[:1])

    with pytest.raises(LedgerError) as error:
        check(plan, GRAPH)
    assert str(error.value) == (
        "The flow and dvc.yaml differ in stage 'last': it comes after each@a in the "
        "flow, after each@a, each@b in dvc.yaml; make the two the same."
    )


def test_a_surplus_edge_is_found():
    def plan(run):
        first = run.step("first")
        run.step("last", first, *run.each("each", first))

    with pytest.raises(
        LedgerError, match="'last': it comes after each@a, each@b, first in "
    ):
        check(plan, GRAPH)


def test_a_stage_missing_in_the_flow_is_found():
    def plan(run):
        run.each("each", run.step("first"))

    with pytest.raises(
        LedgerError,
        match=r"'last': it comes after nothing \(it is not there\) in the flow",
    ):
        check(plan, GRAPH)


def test_a_stage_missing_in_dvc_yaml_is_found():
    def plan(run):
        run.step("last", *run.each("each", run.step("first")))
        run.step("extra")

    with pytest.raises(
        LedgerError,
        match=r"'extra': it comes after nothing in the flow, after nothing \(it is not",
    ):
        check(plan, GRAPH)


def test_a_template_stands_for_its_stages_and_for_no_others():
    stages = graph(train_a=[], train_b=[], trainer_a=[], train=[])
    assert of_template("train", stages) == ["train@a", "train@b"]
