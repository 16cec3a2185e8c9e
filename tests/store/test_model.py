"""A model check of the commit protocol: writers, collector and repair in every interleaving, faults at every request.

The real ShardWriter, collector and `verify --repair` run against a store in memory. To stop a program between two
requests, it is run from its beginning with the answers it has had so far, until it makes a request that has no answer
yet. States that come up again by another path are not explored twice, so that the search is exhaustive and short.
"""

import hashlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from nlsim.errors import TransientError
from nlsim.store import artifact, gc, writer
from nlsim.store.artifact import Artifact
from nlsim.store.objects import MissingObjectError, ObjectInfo
from nlsim.store.records import CommitRecord

ROOT = "cache/00"
RECORD = f"{ROOT}/_commit/000000.json"
BAD = "a9"
"""The attempt whose data was altered after its commit."""
Answers = tuple[Any, ...]
Files = tuple[tuple[str, bytes], ...]


class Asked(BaseException):
    """The program has come to a request that has no answer yet."""

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.name, self.arguments = name, arguments


class Replay:
    """Objects that give the answers recorded, then raise Asked."""

    url, is_local = "memory", True

    def __init__(self, answers: Answers) -> None:
        self._answers = iter(answers)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def request(*arguments: Any) -> Any:
            arguments = tuple(list(a) if isinstance(a, Iterator) else a for a in arguments)
            try:
                answer = next(self._answers)
            except StopIteration:
                raise Asked(name, arguments) from None
            if isinstance(answer, Exception):
                raise answer
            return answer

        return request


class State(NamedTuple):
    """Everything: the store's files and, for each program, the answers it has had."""

    files: Files
    answers: tuple[Answers, ...]
    dead: tuple[bool, ...]

    @property
    def key(self) -> object:
        return self.files, tuple(tuple(map(repr, answers)) for answers in self.answers), self.dead


def apply(files: dict[str, bytes], name: str, arguments: tuple[Any, ...]) -> Any:
    """Carry out one request on the store."""
    key = arguments[0] if arguments else ""
    match name:
        case "put":
            files[key] = bytes(arguments[1])
        case "put_if_absent":
            return files.setdefault(key, arguments[1]) == arguments[1]
        case "put_over":
            files[key] = arguments[1]
            return True
        case "info":
            return ObjectInfo(key, len(files[key]), 0.0) if key in files else None
        case "get":
            return files[key] if key in files else MissingObjectError(key)
        case "delete":
            for gone in key:
                files.pop(gone, None)
        case "list":
            # Data of the first writer, and what was damaged, is old; other data is younger than the grace period.
            return [ObjectInfo(k, len(v), 0.0 if "-a0" in k or BAD in k else 9.0) for k, v in sorted(files.items())]
        case _:
            raise AssertionError(name)
    return None


def write_shard(number: int) -> Callable[[Replay], str]:
    """What a runner does for one shard; returns the attempt that the record it got names."""

    def program(objects: Replay) -> str:
        made = Artifact(objects, "cache", "00", 1).begin(0)  # type: ignore[arg-type]
        made.attempt = f"a{number}"
        made._folder = f"data/000000-a{number}"
        try:
            made.json("x", number)
            return made.commit().attempt
        except Exception:
            made.discard()
            raise

    return program


def collect(objects: Replay) -> str:
    objects.delete(info.key for info in gc.garbage(objects, before=5.0))  # type: ignore[arg-type]
    return "collected"


def repair(objects: Replay) -> str:
    Artifact(objects, "cache", "00", 1).verify(repair=True)  # type: ignore[arg-type]
    return "repaired"


def check(state: State, results: dict[int, str]) -> None:
    """What must hold in every state. Of the commit whose data was altered a writer may have been told."""
    told = set(results.values()) - {"collected", "repaired", BAD}
    committed = check_data(dict(state.files))
    if committed:
        assert told <= {committed}, "all committers agree"
    else:
        assert not told, "nobody was told of a commit that is not there"


def check_data(files: dict[str, bytes]) -> str | None:
    """The attempt that the record names, whose data are there and are what it says; None without a record."""
    if RECORD in files:
        record = CommitRecord.from_bytes(files[RECORD], RECORD)
        for entry in record.objects.values():
            data = files[f"{ROOT}/{entry.key}"]
            intact = hashlib.sha256(data).hexdigest() == entry.sha256
            assert intact != (record.attempt == BAD), "a record never names what is not there"
        return record.attempt
    return None


def explore(
    programs: list[Callable[[Replay], str]],
    may_start: Callable[[int, State, dict[int, str]], bool],
    files: Files = (),
) -> list[State]:
    """All states that can be reached from `files`, each checked; the final ones are returned."""
    first = State(files, tuple(() for _ in programs), tuple(False for _ in programs))
    seen, waiting, final = {first.key}, [first], []
    while waiting:
        state = waiting.pop()
        pending: dict[int, Asked] = {}
        results: dict[int, str] = {}
        failed = set()
        for number, program in enumerate(programs):
            if state.dead[number]:
                continue
            try:
                results[number] = program(Replay(state.answers[number]))
            except Asked as asked:
                pending[number] = asked
            except TransientError:
                failed.add(number)
        check(state, results)
        assert len(failed) + len(results) + len(pending) + sum(state.dead) == len(programs)
        runnable = {n: asked for n, asked in pending.items() if state.answers[n] or may_start(n, state, results)}
        if not runnable:
            final.append(state)
        for number, asked in runnable.items():
            for then in successors(state, number, asked):
                if then.key not in seen:
                    seen.add(then.key)
                    waiting.append(then)
    return final


def successors(state: State, number: int, asked: Asked) -> Iterator[State]:
    """The request succeeds, fails before or after it took effect, or the process dies before or after it did."""
    for effect in (False, True):
        files = dict(state.files)
        answer = apply(files, asked.name, asked.arguments) if effect else None
        after = tuple(sorted(files.items()))
        for outcome in (answer, TransientError("lost")) if effect else (TransientError("failed"),):
            answers = [*state.answers]
            answers[number] = (*answers[number], outcome)
            yield State(after, tuple(answers), state.dead)
        yield State(after, state.answers, tuple(d or n == number for n, d in enumerate(state.dead)))


@pytest.fixture(autouse=True)
def _deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "time", SimpleNamespace(time=lambda: 0.0, monotonic=lambda: 0.0))
    monkeypatch.setattr(writer, "secrets", SimpleNamespace(token_hex=lambda _: "0"))
    monkeypatch.setattr(artifact, "_map_ahead", map)


def test_two_writers_in_every_interleaving_with_every_fault() -> None:
    final = explore([write_shard(0), write_shard(1)], lambda *_: True)
    committed = [state for state in final if RECORD in dict(state.files)]
    assert len(final) > 100
    assert committed
    winners = {CommitRecord.from_bytes(dict(state.files)[RECORD], RECORD).attempt for state in committed}
    assert winners == {"a0", "a1"}


def test_three_writers_that_meet_no_faults_leave_one_record_and_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_faults(state: State, number: int, asked: Asked) -> Iterator[State]:
        yield from list(successors(state, number, asked))[2:3]

    def explore_all() -> list[State]:
        monkeypatch.setitem(globals(), "successors", without_faults)
        return explore([write_shard(0), write_shard(1), write_shard(2)], lambda *_: True)

    successors = globals()["successors"]
    final = explore_all()
    assert len(final) >= 3
    assert all(len(state.files) == 2 for state in final)


def test_writers_that_a_store_both_tells_that_they_won(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that looks first and writes after (versitygw over a directory): readers still see whole data only."""
    inner = successors

    def both_may_win(state: State, number: int, asked: Asked) -> Iterator[State]:
        yield from inner(state, number, asked)
        if asked.name == "put_if_absent":
            yield from inner(state, number, Asked("put_over", asked.arguments))

    def whole(state: State, results: dict[int, str]) -> None:
        assert check_data(dict(state.files)) or not results, "nobody was told of a commit that is not there"

    monkeypatch.setitem(globals(), "successors", both_may_win)
    monkeypatch.setitem(globals(), "check", whole)
    final = explore([write_shard(0), write_shard(1)], lambda *_: True)
    assert any(not any(state.dead) and len(state.files) == 3 for state in final), "both have won: one's data is garbage"


def test_a_collector_beside_a_writer_never_takes_what_counts() -> None:
    """The first writer has died or given up, at any point; then a second one and the collector run at once."""

    def may_start(number: int, state: State, results: dict[int, str]) -> bool:
        return number == 0 or state.dead[0] or 0 in results

    final = explore([write_shard(0), write_shard(1), collect], may_start)
    collected = [state for state in final if not any(state.dead) and len(state.files) == 2]
    assert len(final) > 100
    assert collected


def committed_then_altered() -> Files:
    """What a finished attempt left, a byte of its data changed since."""
    state = State((), ((),), (False,))
    while True:
        try:
            write_shard(int(BAD[1:]))(Replay(state.answers[0]))
            break
        except Asked as asked:
            files = dict(state.files)
            answer = apply(files, asked.name, asked.arguments)
            state = State(tuple(sorted(files.items())), ((*state.answers[0], answer),), (False,))
    return tuple((key, b"8" if "/data/" in key else value) for key, value in state.files)


def test_a_repair_beside_a_writer_withdraws_only_what_is_damaged() -> None:
    final = explore([repair, write_shard(1)], lambda *_: True, committed_then_altered())
    left = {CommitRecord.from_bytes(dict(s.files)[RECORD], RECORD).attempt for s in final if RECORD in dict(s.files)}
    assert left == {BAD, "a1"}, "the damaged one where a fault kept it from being withdrawn"
    assert any(RECORD not in dict(state.files) for state in final)


def test_a_repair_a_writer_and_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = successors

    def may_die(state: State, number: int, asked: Asked) -> Iterator[State]:
        """Without faults, but each request may be the last thing that a program does."""
        yield from (then for place, then in enumerate(inner(state, number, asked)) if place in (1, 2, 4))

    monkeypatch.setitem(globals(), "successors", may_die)
    final = explore([repair, write_shard(1), collect], lambda *_: True, committed_then_altered())
    assert len(final) > 20
    assert any(not any(state.dead) and len(state.files) == 2 and "a1" in state.files[1][0] for state in final)
