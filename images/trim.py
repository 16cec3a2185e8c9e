"""Remove from an environment what a container never runs, and record what is left.

    python3 trim.py ENVIRONMENT

Test suites, C headers and static libraries of packages, the descriptions of cloud services that nlsim does not call,
clients of protocols that it does not speak: a third of the cpu image without this.
"""

import json
import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path

SERVICES = {"s3", "sso", "sso-oidc", "sts"}
"""Services of botocore that are kept: the store, and the ways to sign in to it."""
UNUSED = (
    "botocore/data/*/",  # but see SERVICES
    "kubernetes/aio",
    "numpy/**/tests", "pandas/tests", "scipy/**/tests", "sklearn/**/tests", "pyarrow/tests", "networkx/**/tests",
    "joblib/test", "sympy/**/tests", "torch/test", "torch/include", "torch/share", "torch/lib/*.a",
    "pyarrow/include", "pyarrow/src", "pyarrow/*.pyx", "pyarrow/includes",
    "pyarrow/libarrow_flight.so*", "pyarrow/_flight*", "pyarrow/libarrow_s3.so*", "pyarrow/_s3fs*",
    "numpy/distutils",
    "scipy/datasets", "sklearn/datasets/data", "sklearn/datasets/images", "sklearn/datasets/descr",
    "numpy/_core/include", "nvidia/**/include", "**/*.a", "**/*.pxd", "**/*.pyi",
)  # fmt: skip
GENERATED = "kubernetes/client/*/*.py"
"""Generated classes, nine tenths comments and documentation: kept as bytecode without them, 15 MB instead of 60."""


def main(environment: Path) -> None:
    """Trim `environment` and write its list of packages to `packages.json`."""
    (site,) = environment.glob("lib/python3*/site-packages")
    for pattern in UNUSED:
        for path in sorted(site.glob(pattern)):
            if pattern.startswith("botocore") and (path.name in SERVICES or path.is_file()):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.exists() or path.is_symlink():
                path.unlink()
    for source in sorted(site.glob(GENERATED)):
        py_compile.compile(str(source), str(source) + "c", optimize=2, doraise=True)
        source.unlink()
    for cache in sorted(site.glob(str(Path(GENERATED).parent / "__pycache__"))):
        shutil.rmtree(cache)
    slim_libraries(site)
    names = sorted(path.name.removesuffix(".dist-info").rsplit("-", 1) for path in site.glob("*.dist-info"))
    (environment / "packages.json").write_text(json.dumps(dict(names), indent=1) + "\n")


def slim_libraries(site: Path) -> None:
    """Drop symbol tables of large libraries, and make links of copies: wheels cannot hold links."""
    first: dict[bytes, Path] = {}
    for folder in ("pyarrow", "scipy", "yaml", "numpy.libs", "scipy.libs"):
        for library in sorted(site.glob(f"{folder}/**/*.so*")):
            same = first.setdefault(library.read_bytes(), library)
            if same != library:
                library.unlink()
                library.symlink_to(os.path.relpath(same, library.parent))
    plain = [
        library for library in first.values() if library.relative_to(site).parts[0] in ("pyarrow", "scipy", "yaml")
    ]
    if plain and (strip := shutil.which("strip")):
        subprocess.run([strip, "--strip-unneeded", *plain], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
