"""Result files of a labelling: renamed at the end; an unfinished run leaves none."""

from __future__ import annotations

from pathlib import Path

import pytest

from semscale.common.errors import SemscaleError
from semscale.label.labelling import RESULTS, result_files


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def test_files_are_renamed_at_the_end_and_replace_older_ones(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("old")
    with result_files(tmp_path, {RESULTS: ("file", "label")}) as append:
        append(RESULTS, [("a, b.png", "=cat")])
        assert (tmp_path / "results.csv").read_text() == "old"
        with pytest.raises(SemscaleError, match="another process is labelling"), result_files(tmp_path, {}):
            pass
    assert contents(tmp_path) == {"results.csv": b'file,label\n"a, b.png",=cat\n'}


def test_an_unfinished_run_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), result_files(tmp_path, {RESULTS: ("file", "label")}):
        raise KeyboardInterrupt
    assert not contents(tmp_path)


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SemscaleError, match="cannot be written"), result_files(tmp_path / "file" / "out", {}):
        pass
