"""Crashes: a process killed at every point of a commit, what each leaves behind, what the next run makes of it."""

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nlsim.errors import NlsimError, TransientError, UsageError
from nlsim.store.artifact import Artifact, ShardWriter
from nlsim.store.directory import clear_error
from nlsim.store.gc import collect_garbage
from nlsim.store.objects import MissingObjectError, open_objects

Write = Callable[[ShardWriter], None]
STEPS = {"open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir"}
"""Audit events of what changes a directory; reading is told apart by its flags."""


def die_at(step: int) -> None:
    """Kill this process with SIGKILL just before its `step`-th change to the file system, flushes included."""
    left = [step]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        flags = arguments[2] if event == "open" else os.O_CREAT
        if event in STEPS and isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            count()

    flush = os.fsync

    def counted_flush(handle: int) -> None:
        count()
        flush(handle)

    os.fsync = counted_flush
    sys.addaudithook(audit)


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked process; its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(70)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def content(root: Path) -> list[tuple[str, int]]:
    """Files below `root` without the names of attempts, temporary files included."""
    files = [path for path in root.rglob("*") if path.is_file()]
    return sorted((path.name, path.stat().st_size if path.suffix != ".json" else 0) for path in files)


def attempt(root: Path, write: Write) -> None:
    writer = Artifact(open_objects(root), "cache", "00", 1).begin(0)
    write(writer)
    writer.commit()


def test_a_kill_at_every_write_point_of_a_commit(tmp_path: Path, write: Write) -> None:
    """After each the shard is missing or whole, the next attempt finishes it, and collection leaves no trace."""
    attempt(tmp_path / "undisturbed", write)
    undisturbed = content(tmp_path / "undisturbed")
    committed_before_the_end = step = 0
    while True:
        step += 1
        root = tmp_path / str(step)

        def crash(root: Path = root, step: int = step) -> None:
            die_at(step)
            attempt(root, write)

        status = in_child(crash)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        objects = open_objects(root)
        artifact = Artifact(objects, "cache", "00", 1)
        assert artifact.verify() == []
        committed_before_the_end += artifact.complete
        if artifact.complete:
            assert artifact.read(0, "raw.bin") == b"hello"
        attempt(root, write)
        artifact.refresh()
        assert artifact.complete
        assert artifact.verify() == []
        collect_garbage(objects, grace=-60)
        assert content(root) == undisturbed
    assert step > 25, "four objects and a record, each opened, flushed, renamed or linked, and its folder flushed"
    assert committed_before_the_end >= 2, "after the link: removing the temporary name and flushing the folder remain"


class Crashed(BaseException):
    """Stands for the death of the process."""


def test_a_crash_before_and_after_every_request(
    artifact: Artifact, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same over the store's requests, so that it holds for S3: each one made or not made when the process dies."""
    objects = artifact.objects
    names = ("put", "put_if_absent", "info", "get", "delete")
    point, shard_done = 0, False
    while not shard_done:
        point += 1
        for made in (False, True):
            left = [point]

            def dying(name: str, left: list[int] = left, made: bool = made) -> Callable[..., object]:
                inner = getattr(objects, name)

                def call(*arguments: object) -> object:
                    left[0] -= 1
                    if left[0] == 0 and not made:
                        raise Crashed
                    result = inner(*arguments)
                    if left[0] == 0:
                        raise Crashed
                    return result

                return call

            writer = Artifact(objects, "cache", artifact.fingerprint, 3).begin(0)
            with monkeypatch.context() as patch:
                for name in names:
                    patch.setattr(objects, name, dying(name))
                try:
                    write(writer)
                    writer.commit()
                    shard_done = True
                except Crashed:
                    pass
            reader = Artifact(objects, "cache", artifact.fingerprint, 3)
            assert reader.verify() == []
            if not reader.is_committed(0):
                again = reader.begin(0)
                write(again)
                again.commit()
            winner = reader.record(0)
            collect_garbage(objects, grace=-60)
            left_over = {info.key.removeprefix(reader.root + "/") for info in objects.list()}
            assert left_over == {"_commit/000000.json", *(record.key for record in winner.objects.values())}
            assert reader.verify() == []
            objects.delete([info.key for info in objects.list()])
    assert point == 4 + 4 + 1 + 1, "four puts, four looks, one conditional put, and then none is left to crash at"


def test_a_process_killed_while_it_writes_a_large_object(tmp_path: Path) -> None:
    """Killed by another process with the temporary file half written: the pipe tells when."""
    source = tmp_path / "source"
    os.mkfifo(source)
    child = os.fork()
    if child == 0:
        try:
            open_objects(tmp_path / "store").put("data/big.bin", source)
        finally:
            os._exit(70)
    with source.open("wb") as pipe:
        for _ in range(64):
            pipe.write(b"x" * (1 << 16))  # the pipe holds less than this: by now the child has written most of it
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    objects = open_objects(tmp_path / "store")
    assert list(objects.list()) == []
    assert objects.info("data/big.bin") is None
    (left,) = objects.unfinished(objects.now() + 60)
    assert left.size > 0
    assert list(objects.unfinished(objects.now() - 3600, remove=True)) == [], "too young"
    assert list(objects.unfinished(objects.now() + 60, remove=True)) == [left]
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def test_a_run_on_a_full_disk_ends_with_one_line(on_disk: Callable[[str, str], str]) -> None:
    """By the command line: 75 on a full disk, 2 on a read-only one, and when there is room again it carries on."""
    printed = on_disk(
        "size=72k",
        f"""
import contextlib, io, os, subprocess, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import toy
import nlsim.pipeline.registry as registry
from nlsim.cli.main import main
from nlsim.pipeline.run import Run
registry.pipeline_of = lambda config: toy.toy()
with open("toy.yaml", "w") as file:
    file.write("subject: {{model: nlsim:tiny}}\\ncoder: {{path: nlsim:tiny-skip}}")
for remount in ("", "ro", "rw,size=16m"):
    if remount:
        subprocess.run(["mount", "-o", "remount," + remount, os.getcwd()], check=True)
    sys.argv = ["nlsim", "run", "toy.yaml", "--run", "run", "--until", "total"]
    said, code = io.StringIO(), 0
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            main()
    except SystemExit as end:
        code = end.code
    print(code, said.getvalue().splitlines()[-1])
    print(Run.open("run").artifact("numbers").missing())
print(Run.open("run").artifact("total").json(0, "total"), Run.open("run").artifact("numbers").verify())
""",
    )
    full, missing, read_only, still_missing, again, none, state = printed.splitlines()
    assert full.startswith("75 nlsim: no space left for ")
    assert missing == still_missing != "[0, 1, 2, 3]"
    assert read_only.startswith("2 nlsim: ")
    assert "is on a read-only file system: choose a place that can be written to" in read_only
    assert again.startswith("0 ")
    assert none == "[]"
    assert state == f"{{'total': {sum(n * n for n in range(40))}}} []"


def test_a_full_disk(on_disk: Callable[[str, str], str]) -> None:
    printed = on_disk(
        "size=256k",
        """
from pathlib import Path
from nlsim.errors import NlsimError
from nlsim.store.artifact import Artifact
from nlsim.store.objects import open_objects
artifact = Artifact(open_objects("store"), "cache", "00", 2)
for shard, size in ((0, 1000), (1, 10**6)):
    writer = artifact.begin(shard)
    try:
        writer.bytes("raw.bin", b"x" * size)
        writer.commit()
    except NlsimError as error:
        writer.discard()
        print(error.exit_code, error)
print(artifact.missing(), artifact.verify(), len([p for p in Path("store").rglob("*") if p.is_file()]))
""",
    )
    line, state = printed.splitlines()
    assert line.startswith("75 no space left for ")
    assert line.endswith("free some and run the same command again")
    assert state == "[1] [] 2", "the small shard is there, nothing of the large one is"


def test_a_read_only_disk(on_disk: Callable[[str, str], str]) -> None:
    printed = on_disk(
        "ro",
        """
from nlsim.errors import NlsimError
from nlsim.store.objects import open_objects
objects = open_objects("store")
for write in (lambda: objects.put("a/b", b""), lambda: objects.put_if_absent("a", b""), lambda: objects.now()):
    try:
        write()
    except NlsimError as error:
        print(error.exit_code, error)
print(list(objects.list()), objects.info("a"))
""",
    )
    *lines, state = printed.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert line.startswith("2 ")
        assert "is on a read-only file system: choose a place that can be written to" in line
    assert state == "[] None"


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    def work() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with pytest.raises(UsageError, match="larger than allowed here: raise the limit"):
            open_objects(tmp_path).put("big", b"x" * 2000)
        open_objects(tmp_path).put("small", b"x" * 500)

    assert in_child(work) == 0
    assert [path.name for path in tmp_path.rglob("*")] == ["small"]


def test_a_file_in_the_place_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    objects = open_objects(tmp_path / "file")
    for use in (lambda: objects.put("a", b""), lambda: objects.info("a"), lambda: list(objects.list())):
        with pytest.raises(UsageError, match="a file is in the place of a folder"):
            use()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, TransientError),
        (errno.EDQUOT, TransientError),
        (errno.EIO, TransientError),
        (errno.ESTALE, TransientError),
        (errno.EROFS, UsageError),
        (errno.EACCES, UsageError),
        (errno.ENAMETOOLONG, UsageError),
        (errno.ENOENT, MissingObjectError),
    ],
)
def test_every_system_error_is_one_line(number: int, kind: type[NlsimError]) -> None:
    error = clear_error(OSError(number, os.strerror(number)), Path("/x/y"))
    assert type(error) is kind
    assert "/x/y" in str(error)
    assert "\n" not in str(error)


def test_a_file_system_without_hard_links_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(UsageError, match="has no hard links"):
        open_objects(tmp_path).put_if_absent("a", b"1")
    assert list(tmp_path.rglob("*")) == []


def test_a_link_whose_answer_was_lost_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS repeats a request whose answer was lost, and the repetition finds the name taken."""
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    assert open_objects(tmp_path).put_if_absent("a", b"mine")
    assert not open_objects(tmp_path).put_if_absent("a", b"other")


def test_a_folder_removed_between_making_it_and_writing_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = open_objects(tmp_path)
    open_file, removed = Path.open, []

    def racing(path: Path, mode: str = "r") -> object:
        if mode == "xb" and len(removed) < 3:
            path.parent.rmdir()
            removed.append(path)
        return open_file(path, mode)

    monkeypatch.setattr(Path, "open", racing)
    objects.put("folder/a", b"1")
    assert len(removed) == 3
    assert objects.get("folder/a") == b"1"
