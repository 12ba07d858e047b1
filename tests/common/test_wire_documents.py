"""Checks of a message before its documents are unpacked."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray
from jina.proto import jina_pb2
from scipy.sparse import coo_matrix

from semscale.common import wire_documents
from semscale.common.wire_documents import check_documents


def content(*docs: Document, change: Callable[[Any], Any] = lambda content: None) -> Any:
    made = jina_pb2.DataRequestProto().data
    made.docs.CopyFrom(DocumentArray(docs).to_protobuf())
    change(made)
    return made


def array(**fields: Any) -> Any:
    """Return the content with a document whose tensor has these fields."""

    def change(content: Any) -> None:
        dense = content.docs.docs[0].tensor.dense
        for name, value in fields.items():
            dense.ClearField(name)
            getattr(dense, name).extend(value) if name == "shape" else setattr(dense, name, value)

    return content(Document(tensor=np.zeros((2, 3), np.float32)), change=change)


def test_documents_of_every_kind_pass() -> None:
    rows = [np.zeros(shape, kind) for shape in [(2, 3, 3), (0, 3), ()] for kind in "?bhiqBHIQefd"]
    docs = [Document(tensor=row, embedding=row) for row in rows]
    check_documents(content(*docs, Document(text="a", chunks=docs[:2], matches=docs[2:4])))
    check_documents(jina_pb2.DataRequestProto().data)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (content(change=lambda content: setattr(content, "docs_bytes", pickle.dumps("code"))), "pickled"),
        (array(shape=[20_000, 20_000], buffer=b""), "do not fit"),
        (array(shape=[2, 4]), "do not fit"),
        (array(shape=[4_000_000_000] * 60_000), "do not fit"),
        (array(dtype="|O"), "unknown kind"),
        (array(dtype="(1000000000)f4"), "unknown kind"),
        (content(Document(embedding=coo_matrix(([1.0], ([0], [0])), shape=(2, 2)))), "no dense array"),
        (content(Document(tensor=[1, 2, 3])), "no dense array"),
        (content(Document(chunks=[Document(matches=[Document(tensor=[1])])])), "no dense array"),
    ],
    ids=range(9),
)
def test_what_runs_code_or_fills_the_memory_is_refused(made: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_documents(made)


def test_documents_are_counted_at_every_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_documents, "MAX_DOCUMENTS", 6)
    check_documents(content(*[Document(chunks=[Document()]) for _ in range(3)]))
    with pytest.raises(ValueError, match="more than 6 documents"):
        check_documents(content(*[Document(chunks=[Document()], matches=[Document()]) for _ in range(3)]))
