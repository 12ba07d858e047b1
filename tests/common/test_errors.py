import pickle

from semscale.common.errors import SemscaleError


def test_error_keeps_its_details_across_processes() -> None:
    error = SemscaleError("wrong", where="a.yaml", found="x", expected="y", hint="mend it")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert str(error).splitlines() == [
        "wrong",
        "  where:    a.yaml",
        "  found:    x",
        "  expected: y",
        "  to do:    mend it",
    ]
