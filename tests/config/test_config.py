from pathlib import Path

import pytest
import yaml

from semscale.common.errors import SemscaleError
from semscale.config import load_study, study_from
from semscale.scoring import AGGREGATIONS


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_the_quickstart_study() -> None:
    study = study_from({})
    assert [dataset.spec for dataset in study.datasets] == ["digits", "shapes"]
    assert study.models == ("semscale-mini",)
    assert (study.steps, [entry.label for entry in study.strategies]) == (12, ["templates", "templates-fixed"])
    assert (study.controls, study.orders) == (("duplicates", "random-words"), (0,))


def test_resolved_study_reads_back_as_the_same_study(tmp_path: Path) -> None:
    study = study_from({"datasets": ["folder:photos"], "steps": 3, "server": {"urls": ["grpc://gpu:51000"]}})
    again = load_study(write(tmp_path, study.to_yaml()))
    assert again == study
    assert again.digest() == study.digest()


def test_all_mistakes_come_in_one_message_with_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "dataset: [digits]\nsteps: twelve\nserver:\n  replica: 3\n  urls: [grpc://localhost]\n")
    with pytest.raises(SemscaleError) as caught:
        load_study(path)
    message = str(caught.value)
    assert "4 mistakes" in message
    assert "line 1: unknown key 'dataset'; did you mean 'datasets'?" in message
    assert "line 2: steps:" in message
    assert "line 4: unknown key 'server.replica'; did you mean 'replicas'?" in message
    assert "line 5: server.urls: 'grpc://localhost' is not of the form grpc://host:port" in message
    assert str(path) in message


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"datasets": []}, "the grid of trials is empty"),
        ({"strategies": ["templates", "templates"]}, "more than once"),
        ({"models": ["a::b", "c::d"], "server": {"urls": ["grpc://h:1"]}}, "serve one model"),
        ({"server": {"urls": ["http://h:1"]}}, "not of the form"),
        ({"name": "../escape"}, "name"),
        ({"orders": [1, 1]}, "more than once"),
        ({"strategies": ["custom", {"strategy": "custom", "options": {}}]}, "custom is listed more than once"),
        ({"aggregation": ["max", "min"]}, "top-k-mean"),
        ({"aggregation": ["max", "max"]}, "more than once"),
        ({"aggregation": []}, "at least one"),
        ({"aggregation": ["max", 3]}, "valid string .found 3."),
        ({"aggregation": "top-0-mean"}, "or top-k-mean such as top-3-mean"),
        ({"encoder": "local", "server": {"urls": ["grpc://gpu:51000"]}}, "names servers"),
        ({"encoder": "gpu"}, "'server' or 'local'"),
    ],
)
def test_contradictions_are_refused(tree: dict[str, object], words: str) -> None:
    with pytest.raises(SemscaleError, match=words):
        study_from(tree)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1, 2", "just text"])
def test_files_other_than_studies_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SemscaleError, match="study file"):
        load_study(write(tmp_path, text))


def test_digest_changes_with_results_and_not_with_machines() -> None:
    study = study_from({})
    assert study_from({"steps": 3}).digest() != study.digest()
    assert study_from({"encoding": {"actors": 7}, "server": {"replicas": 5}}).digest() == study.digest()
    assert study_from({"encoding": {"draft": True}}).digest() != study.digest()
    assert study_from({"encoder": "local"}).digest() == study.digest()


def test_every_aggregation_of_the_kernel_is_valid() -> None:
    for name in (*AGGREGATIONS, "top-10-mean"):
        assert study_from({"aggregation": name}).aggregation == name


def test_several_aggregations_are_another_study_and_one_in_a_list_is_not(tmp_path: Path) -> None:
    one = study_from({"aggregation": "logsumexp"})
    assert study_from({"aggregation": ["logsumexp"]}) == one
    assert one.aggregations == ("logsumexp",)
    several = study_from({"aggregation": ["logsumexp", "max"]})
    assert several.aggregations == ("logsumexp", "max")
    assert len({study.digest() for study in (one, several, study_from({}))}) == 3
    assert load_study(write(tmp_path, several.to_yaml())) == several


def test_the_quickstart_study_keeps_its_name() -> None:
    # runs of earlier versions are found by it
    assert study_from({}).digest() == "1bfe32d8"


def test_passwords_and_signatures_reach_no_study_file_and_no_message() -> None:
    dataset = {"spec": "table:table.csv", "images": "https://ann:pw@host/a.zip?X-Signature=abc"}
    tree = {"datasets": [dataset], "tracking": {"uri": "postgresql://ann:secret@db:5432/mlflow"}}
    text = study_from(tree).to_yaml()
    assert not [word for word in ("pw", "abc", "secret") if word in text]
    assert "https://***@host/a.zip?***" in text
    assert yaml.safe_load(text)["tracking"]["uri"] == "postgresql://***@db:5432/mlflow"
    with pytest.raises(SemscaleError) as caught:
        study_from({"server": {"urls": ["http://ann:secret@gpu:51000"]}})
    assert "secret" not in str(caught.value)


def test_a_dataset_entry_has_the_options_of_its_loader() -> None:
    entry = {
        "spec": "zip:a.zip",
        "class_from": "{class}_{number}.jpg",
        "classes": {3: "cat", "x": None},
        "per_class": 5,
    }
    (dataset,) = study_from({"datasets": [entry]}).datasets
    assert dataset.classes == {"3": "cat", "x": None}
    assert study_from({"datasets": [entry]}).digest() != study_from({"datasets": [entry | {"seed": 1}]}).digest()
    assert study_from({"max_bad_fraction": 0.5}).digest() == study_from({}).digest()
