"""The pipeline as a flow, on the small data set."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from checkouts import clone, edit, end, flow, git, locked, run
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings
from samples import TRAIN, VALID

from flows import pipeline

STAGES = 8  # of the small checkout, with two variants


@pytest.fixture
def ran(pipeline_run, tmp_path):
    """A copy of the checkout whose pipeline has run by `dvc repro`."""
    target = tmp_path / "project"
    shutil.copytree(pipeline_run, target, symlinks=True)
    return target


@pytest.fixture
def run_flow(monkeypatch, caplog, prefect_server):
    """Run the flow in this process; return its state and the log of the run."""

    def run_in(project, **parameters):
        caplog.clear()
        monkeypatch.setattr(pipeline, "ROOT", project)
        state = pipeline.pipeline(**parameters, return_state=True)
        return state, caplog.text

    return run_in


def test_flow_reuses_the_results_of_dvc_repro_and_shows_them(
    ran, run_flow, prefect_server
):
    state, log = run_flow(ran)
    assert (state.name, state.is_completed()) == ("Completed", True)
    assert log.count("Finished in state Cached") == STAGES
    assert log.count("Finished in state Promoted") == 1
    assert champion(ran)["replaces"] is None
    name, _, tags = runs(prefect_server, "mnist-sgd")[0]
    assert re.fullmatch(r"by hand \d{4}-\d\d-\d\d \.\d{4}", name)
    assert tags == ["best", "data", "git"]
    shown = latest_artifacts(prefect_server)
    rows = json.loads(shown["metrics"])
    assert [row["model"] for row in rows][:2] == ["baseline", "autograd"]
    assert "data:image/svg+xml;base64," in shown["report"]
    assert shown["model-card"] == card(ran)

    state, log = run_flow(ran)
    assert state.is_completed()
    assert log.count("Finished in state Cached") == STAGES + 1


def test_gate_refuses_a_model_below_the_threshold(ran, run_flow):
    edit(ran / "params.yaml", lambda params: params["promote"].update(min_accuracy=1))
    state, log = run_flow(ran)
    assert state.is_completed()
    assert state.name == "Refused"
    assert log.count("Finished in state Cached") == STAGES
    assert "was not promoted" in state.message
    assert not (ran / "models" / "champion.json").exists()


def test_failed_stage_is_reported_and_changes_nothing(ran, run_flow):
    def add_one(card):
        card["validate"]["counts"]["train"] += 1

    edit(ran / "datasets" / "mnist.yaml", add_one)
    before = locked(ran)
    state, log = run_flow(ran)
    assert state.is_failed()
    assert "tasks.validate: data/raw breaks its dataset card" in log
    assert "Traceback" not in log
    assert locked(ran) == before
    report = json.loads((ran / "reports" / "validation.json").read_text())
    assert report["failures"][0]["value"] == TRAIN + VALID


def test_push_without_a_remote_is_refused_before_anything_runs(small, run_flow):
    state, log = run_flow(small, push="always")
    assert state.is_failed()
    assert "DVC has no default remote" in state.message
    assert "Task run" not in log


@pytest.mark.parametrize("variant", ["x; touch ran", "$(touch ran)", "../a", "a\n"])
def test_variant_name_is_never_run_by_a_shell(small, run_flow, variant):
    project = clone(small, f"named-{abs(hash(variant))}")
    named = {variant: {"layer": "scratch"}}
    edit(project / "params.yaml", lambda params: params["train"].update(variants=named))
    state, log = run_flow(project)
    assert state.is_failed()
    assert "a shell would read as more than one word" in state.message
    assert "Task run" not in log
    assert not (project / "ran").exists()


def test_unknown_target_is_one_sentence(small, run_flow):
    state, log = run_flow(small, targets=["trian"])
    assert state.is_failed()
    assert "trian" in state.message
    assert "Traceback" not in log


@pytest.mark.slow
def test_command_line_ends_with_status_1_and_a_sentence(small, prefect_server):
    ended = end(small, prefect_server, "python", "-m", "flows.pipeline", "trian")
    assert ended.returncode == 1
    assert "trian" in ended.stdout
    assert "Traceback" not in ended.stdout


@pytest.mark.slow
def test_both_engines_make_the_same_bytes_and_reuse_each_others(small, prefect_server):
    by_flow, by_dvc = clone(small, "flow"), clone(small, "dvc")

    log = flow(by_flow, prefect_server)
    assert log.count("Finished in state Completed") == 12, "eleven stages and the flow"
    assert log.count("Finished in state Promoted") == 1
    run(by_dvc, prefect_server, "dvc", "repro")
    assert locked(by_flow) == locked(by_dvc)

    assert run(by_flow, prefect_server, "dvc", "status") == (
        "Data and pipelines are up to date.\n"
    )
    log = run(by_flow, prefect_server, "dvc", "repro")
    assert "Running stage" not in log
    log = flow(by_dvc, prefect_server)
    # `dvc repro` runs no gate.
    assert log.count("Finished in state Cached") == 11
    assert log.count("Finished in state Promoted") == 1
    metrics = json.loads((by_flow / "reports" / "metrics.json").read_text())
    assert list(metrics["models"]) == [
        "baseline",
        "sequential_adam",
        "scratch_adam",
        "scratch_sgd",
        "scratch_manual",
        "analytic",
    ]
    assert metrics["by_hand"]["scratch_manual"]["largest_difference"] == 0
    assert metrics["models"]["baseline"]["valid"]["accuracy"] > 0.85
    ignored = git(by_flow, "status", "--short", "--untracked-files=all").split()
    assert not {name for name in ignored if name.endswith((".npy", ".safetensors"))}


@pytest.mark.slow
def test_clone_pulls_the_results_from_a_remote_and_runs_nothing(
    ran, run_flow, prefect_server
):
    store = str(ran.parent / "store")
    run(ran, prefect_server, "dvc", "remote", "add", "--default", "store", store)
    state, _ = run_flow(ran, push="always")
    assert "push to 'store': " in state.message
    git(ran, "add", "-A")
    git(ran, "commit", "-qm", "made")
    pulled = clone(ran, "pulled")
    run(pulled, prefect_server, "dvc", "pull")
    state, log = run_flow(pulled)
    assert log.count("Finished in state Cached") == STAGES + 1
    assert (pulled / "models" / "champion.safetensors").exists()
    assert "push to 'store': Everything is up to date." in state.message


@pytest.mark.slow
def test_edited_variant_runs_again_with_the_stages_after_it(ran, run_flow):
    def edit_rate(params):
        params["train"]["variants"]["autograd"]["learning_rate"] = 0.002

    edit(ran / "params.yaml", edit_rate)
    state, log = run_flow(ran)
    assert state.is_completed()
    for stage in ("train@autograd", "evaluate", "report"):
        assert f"{stage} ran in" in log
    assert log.count("Finished in state Cached") == STAGES - 3

    # A target runs with what it needs, and nothing else.
    state, log = run_flow(ran, targets=["normalize"])
    assert state.message == "Stages: 0 ran, 3 Cached."
    assert "baseline" not in log


def set_baseline(project: Path, c_images: float) -> None:
    """Leave one network beside the baseline, and make the baseline good or bad."""
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["baseline"]["C_images"] = c_images
    sgd = params["train"]["variants"]["scratch_sgd"]
    params["train"]["variants"] = {"scratch_sgd": sgd}
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def champion(project: Path) -> dict:
    return json.loads((project / "models" / "champion.json").read_text())


def card(project: Path) -> str:
    return (project / "reports" / "model_card.md").read_text()


def runs(env: dict[str, str], name: str) -> list[tuple[str, str, list[str]]]:
    """Return name, final state and tags of the runs of a flow, newest first."""
    chosen = FlowFilter.model_validate({"name": {"any_": [name]}})
    with (
        temporary_settings({PREFECT_API_URL: env["PREFECT_API_URL"]}),
        get_client(sync_client=True) as client,
    ):
        found = client.read_flow_runs(
            flow_filter=chosen, sort=FlowRunSort.EXPECTED_START_TIME_DESC
        )
    return [
        (run.name, run.state_name, sorted(tag.partition(":")[0] for tag in run.tags))
        for run in found
    ]


def latest_artifacts(env: dict[str, str]) -> dict[str, str]:
    """Return the data of the latest artifact of each key."""
    with (
        temporary_settings({PREFECT_API_URL: env["PREFECT_API_URL"]}),
        get_client(sync_client=True) as client,
    ):
        found = client.read_artifacts(sort=ArtifactSort.CREATED_DESC)
    return {artifact.key: artifact.data for artifact in reversed(found)}


@pytest.mark.slow
def test_champion_is_replaced_by_a_better_model_and_can_be_restored(
    small, prefect_server
):
    project = clone(small, "nights")
    rollback = ["python", "-m", "flows.rollback"]

    # The first model that reaches the thresholds is champion.
    set_baseline(project, 0.05)
    flow(project, prefect_server)
    first = champion(project)
    assert (first["replaces"], first["compared"]) == (None, None)

    # A better model replaces it.
    set_baseline(project, 50)
    log = flow(project, prefect_server)
    assert "Finished in state Promoted" in log
    second = champion(project)
    assert second["replaces"] == first["md5"]
    assert second["compared"]["p_value"] < 0.05
    assert second["parameters"]["C_images"] == 50
    assert card(project).startswith("# Model card: baseline\n")
    name, state, tags = runs(prefect_server, "mnist-sgd")[0]
    assert re.fullmatch(r"by hand \d{4}-\d\d-\d\d \.\d{4}", name)
    assert (state, tags) == ("Completed", ["best", "data", "git"])

    # A worse model is refused, and the champion stays.
    set_baseline(project, 0.05)
    log = flow(project, prefect_server)
    assert "was not promoted" in log
    assert runs(prefect_server, "mnist-sgd")[0][1] == "Refused"
    assert champion(project) == second

    # After a rollback to the first, the gate refuses the second.
    run(project, prefect_server, *rollback)
    assert champion(project) == first
    assert second["md5"] not in card(project)
    set_baseline(project, 50)
    log = flow(project, prefect_server)
    assert "was not promoted" in log
    assert champion(project) == first

    # Damaged files of the champion are restored from the history.
    (project / "models" / "champion.json").unlink()
    (project / "models" / "champion.safetensors").write_bytes(b"half of it")
    set_baseline(project, 0.05)
    log = flow(project, prefect_server)
    assert log.count("Finished in state Cached") == 8
    assert champion(project) == first

    # The second can be restored too; its file comes from the cache.
    set_baseline(project, 50)
    flow(project, prefect_server)
    (project / "models" / "champion.safetensors").unlink()
    log = run(project, prefect_server, *rollback, "--to", second["md5"][:8])
    assert "is champion again" in log
    log = flow(project, prefect_server)
    assert log.count("Finished in state Cached") == 8
    assert champion(project) == second
    content = (project / "models" / "champion.safetensors").read_bytes()
    assert hashlib.md5(content).hexdigest() == second["md5"]
    events = (project / "models" / "champions.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in events] == [
        "promoted",
        "promoted",
        "put back",
        "put back",
    ]
    assert "Data and pipelines are up to date." in run(
        project, prefect_server, "dvc", "status"
    )


@pytest.mark.slow
def test_lost_champion_is_compared_by_its_recorded_metrics(small, prefect_server):
    project = clone(small, "lost")
    set_baseline(project, 50)
    flow(project, prefect_server)
    first = champion(project)
    (project / "models" / "champion.safetensors").unlink()
    shutil.rmtree(project / ".dvc" / "cache" / "files" / "md5" / first["md5"][:2])
    (project / "models" / "baseline.safetensors").unlink()
    set_baseline(project, 40)
    log = flow(project, prefect_server)
    assert f"The file {first['md5']} is not in DVC's cache" in log
    assert "The champion is not available" in log
    assert champion(project)["replaces"] == first["md5"]
    ended = end(project, prefect_server, "python", "-m", "flows.rollback")
    assert ended.returncode == 1
    assert f"The file {first['md5']} is not in DVC's cache" in ended.stdout
    assert "Traceback" not in ended.stdout
