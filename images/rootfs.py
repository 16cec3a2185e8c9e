"""Copy what a Python program needs at run time from this system into a folder: the root of the cpu and model images.

    python3 rootfs.py FOLDER

It takes the interpreter and its standard library, every shared library that these load (and the C++ runtime, which
wheels expect from the system), the CA certificates, and an unprivileged user. No shell, no package manager.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

USER = 10001
ALWAYS = ("libc.so.6", "libdl.so.2", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "libresolv.so.2", "librt.so.1",
          "libnss_dns.so.2", "libnss_files.so.2", "libstdc++.so.6", "libutil.so.1", "libz.so.1")  # fmt: skip
FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/nsswitch.conf", "/etc/os-release", "/etc/debian_version")


def main(root: Path) -> None:
    """Fill `root`."""
    # A merged /usr: /lib and friends are links, as in the system the files come from.
    for name in ("bin", "lib", "lib64", "sbin"):
        link = Path("/") / name
        if link.is_symlink():
            root.mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(link.readlink())
    for path in [*interpreter(), *(Path(name) for name in FILES)]:
        copy(path, root)
    stdlib = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(stdlib, root / stdlib.relative_to("/"), symlinks=True, ignore=not_needed, dirs_exist_ok=True)
    programs = [Path(os.path.realpath(sys.executable)), *stdlib.glob("lib-dynload/*.so")]
    for library in sorted({*shared_libraries(programs), *system_libraries()}):
        copy(library, root)
    write_users(root)
    (root / "tmp").mkdir(mode=0o1777)
    (root / "tmp").chmod(0o1777)
    subprocess.run([sys.executable, "-m", "compileall", "-q", "-j", "1", "--invalidation-mode", "unchecked-hash",
                    "-s", str(root), str(root / stdlib.relative_to("/"))], check=False)  # fmt: skip


def interpreter() -> list[Path]:
    """The names under which the interpreter is known, in its own folder."""
    folder = Path(os.path.realpath(sys.executable)).parent
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"python3?(\.\d+)?", path.name))


def not_needed(_folder: str, names: list[str]) -> set[str]:
    """Parts of the standard library that only building and testing Python need; bytecode is made anew."""
    return {name for name in names if name in {"test", "__pycache__", "site-packages", "dist-packages"}
            or name.startswith("config-3")}  # fmt: skip


def shared_libraries(programs: list[Path]) -> set[Path]:
    """What the loader would load for `programs`, the loader included."""
    output = subprocess.run(["ldd", *map(str, programs)], check=True, capture_output=True, text=True).stdout
    return {Path(name) for name in re.findall(r"(/\S+\.so\S*) \(0x", output)}


def system_libraries() -> set[Path]:
    """The libraries that binary wheels expect from every system."""
    cache = subprocess.run(["/sbin/ldconfig", "-p"], check=True, capture_output=True, text=True).stdout
    found = dict(reversed(re.findall(r"^\s+(\S+) .*=> (/\S+)$", cache, re.MULTILINE)))
    return {Path(found[name]) for name in ALWAYS if name in found}


def copy(path: Path, root: Path) -> None:
    """Copy a file, and the files that its chain of links leads to, to the same places below `root`."""
    real_folder = Path(os.path.realpath(path.parent))
    target = root / real_folder.relative_to("/") / path.name
    source = real_folder / path.name
    if target.is_symlink() or target.exists() or not source.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        link = source.readlink()
        target.symlink_to(link)
        copy(real_folder / link, root)
    else:
        shutil.copy2(source, target)


def write_users(root: Path) -> None:
    """One user besides root. Images run as its number, so the name is for people."""
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/passwd").write_text(
        f"root:x:0:0:root:/root:/sbin/nologin\nnlsim:x:{USER}:{USER}:nlsim:/tmp:/sbin/nologin\n"
    )
    (root / "etc/group").write_text(f"root:x:0:\nnlsim:x:{USER}:\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
