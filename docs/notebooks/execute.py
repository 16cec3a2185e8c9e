"""Run the notebooks of this folder on a run of configs/tiny.yaml, and keep what they print. `make notebooks`."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
CONFIG = HERE.parents[1] / "configs" / "tiny.yaml"


def execute(notebook: Path, run: str) -> nbformat.NotebookNode:
    """The notebook with fresh outputs; raises nbclient's CellExecutionError where a cell fails.

    What differs from one machine or day to the next (times, progress on standard error) is left out.
    """
    found = nbformat.read(notebook, as_version=4)
    os.environ.update(NLSIM_RUN=run, NLSIM_CONFIG=str(CONFIG), OMP_NUM_THREADS="1")
    NotebookClient(found, timeout=600, kernel_name="python3", record_timing=False).execute()
    for cell in found.cells:
        if cell.cell_type == "code":
            cell.metadata = {}
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    found.metadata.pop("widgets", None)
    return found


def main() -> None:
    """Make the run in a temporary folder called runs/tiny, then all notebooks in turn."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        words = ["run", str(CONFIG), "--run", "runs/tiny"]
        subprocess.run([sys.executable, "-m", "nlsim.cli.main", *words], check=True, stdout=subprocess.DEVNULL)
        for notebook in sorted(HERE.glob("*.ipynb")):
            nbformat.write(execute(notebook, "runs/tiny"), notebook)
            print(notebook.name)


if __name__ == "__main__":
    main()
