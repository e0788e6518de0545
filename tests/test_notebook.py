from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import aupipe
from aupipe.fer_data.shards import Store

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOK = DOCS / "inspect_store.ipynb"
PHOTOS = DOCS / "photos_to_attention.ipynb"


def imports(cells: list[nbformat.NotebookNode]) -> set[str]:
    return set(re.findall(r"^\s*(?:import|from) (\w+)", "\n".join(cell.source for cell in cells), re.M))


def test_the_notebook_is_committed_clean_and_needs_aupipe_only_in_its_last_part() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    (last,) = (cell for cell in notebook.cells if cell.source.startswith("## With aupipe"))
    first = [cell for cell in code if notebook.cells.index(cell) < notebook.cells.index(last)]
    assert imports(first) == {"json", "os", "pathlib", "h5py", "matplotlib", "numpy"}
    assert imports(code) - imports(first) == {"aupipe"}


@pytest.mark.parametrize("path", [NOTEBOOK, PHOTOS], ids=lambda path: path.stem)
def test_notebooks_use_public_names_only(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert set(re.findall(r"\baupipe\.([A-Za-z]\w*)", text)) - {"fer_demo"} <= set(aupipe.__all__)
    assert set(re.findall(r"from (aupipe\S*) import", text)) <= {"aupipe.fer_demo.portrait"}


def test_the_second_notebook_is_short_and_committed_clean() -> None:
    notebook = nbformat.read(PHOTOS, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(notebook.cells) <= 18 and len(code) <= 10
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.slow
@pytest.mark.usefixtures("model")
def test_the_second_notebook_goes_from_photos_to_attention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUPIPE_NOTEBOOK", str(tmp_path / "notebook"))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")  # the kernel's own; errors in cells still fail
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(PHOTOS, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = "".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs)
    assert "no_face" in shown and "trained 6 epochs" in shown and "surprise" in shown
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    assert any("Triplet store" in output.get("data", {}).get("text/html", "") for output in outputs)
    # Detectors and kernels write their own lines to stderr; ours are results and nothing else.
    assert "warning" not in "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stderr").lower()


def test_the_notebook_runs_on_a_store(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUPIPE_STORE", str(store.folder))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")  # the kernel's own; errors in cells still fail
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "84 of 84 samples" in text and "train-00001.h5" in text
    assert "codebook_digest" in text and "au_map" in text
    figures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(figures) == 3
    tables = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert ["Triplet store" in table for table in tables] == [True, False]
    assert "Split <b>test</b>" in tables[1] and all(table.count("data:image/png") == 7 for table in tables)
    assert not [output for output in outputs if output.output_type == "stream" and output.name == "stderr"]
