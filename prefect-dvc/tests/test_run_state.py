"""How a run ends: its state, and its one sentence."""

from prefect.states import Completed, Failed, Pending

from prefect_dvc import run_state

DONE = Completed(message="train ran in 2.0 s")
CACHED = Completed(name="Cached", message="download: unchanged")
NOT_TRIED = Pending(name="NotReady", message="An upstream task did not complete.")


def said(state):
    return state.type.value, state.name, state.message


def test_stages_that_are_up_to_date_are_counted():
    assert said(run_state.of_stages([CACHED, DONE, CACHED])) == (
        "COMPLETED",
        "Completed",
        "Stages: 1 ran, 2 Cached.",
    )


def test_the_reasons_of_all_that_failed_are_told_and_how_many_wait_for_them():
    states = [
        CACHED,
        Failed(name="TimedOut", message="baseline took longer than 2 s."),
        Failed(message="tasks.train: no."),
        Failed(message="tasks.train: no."),
        NOT_TRIED,
        NOT_TRIED,
    ]
    reasons = "baseline took longer than 2 s. tasks.train: no."
    left = "Not tried, since they need it: 2 stages."
    assert said(run_state.of_stages(states)) == (
        "FAILED",
        "Failed",
        f"{reasons} {left}",
    )


def test_a_refusal_names_the_run_and_does_not_fail_it():
    stages = run_state.of_stages([DONE])
    gate = Completed(name="Refused", message="a was not promoted: it is bad.")
    assert said(run_state.with_gate(stages, gate)) == (
        "COMPLETED",
        "Refused",
        "a was not promoted: it is bad. Stages: 1 ran, 0 Cached.",
    )


def test_a_promotion_and_a_champion_that_stays_are_completed():
    stages = run_state.of_stages([DONE])
    for name in ("Promoted", "Cached"):
        gate = Completed(name=name, message="a is champion.")
        assert said(run_state.with_gate(stages, gate))[:2] == ("COMPLETED", "Completed")


def test_a_gate_that_could_not_decide_fails_the_run():
    gate = Failed(message="The remote can't be used.")
    assert said(run_state.with_gate(run_state.of_stages([DONE]), gate)) == (
        "FAILED",
        "Failed",
        "The remote can't be used. Stages: 1 ran, 0 Cached.",
    )
