"""Objects: what both kinds of store promise, and the URLs that open them."""

import os
import pickle
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlsim.errors import DataError, NlsimError, UsageError
from nlsim.store.cache import file_sha256
from nlsim.store.objects import (
    BufferReader,
    DamagedObjectError,
    MissingObjectError,
    Objects,
    checked_key,
    open_objects,
)


@pytest.fixture
def objects(store_url: str) -> Objects:
    return open_objects(store_url)


def keys(objects: Objects, prefix: str = "") -> list[str]:
    return [info.key for info in objects.list(prefix)]


def test_what_was_put_is_read_back_whole_and_in_ranges(objects: Objects, tmp_path: Path) -> None:
    data = bytes(range(256))
    objects.put("a/b.bin", data)
    assert objects.get("a/b.bin") == data
    assert objects.get("a/b.bin", 10) == data[10:]
    assert objects.get("a/b.bin", 10, 5) == data[10:15]
    assert objects.get("a/b.bin", 250, 50) == data[250:]
    assert objects.get("a/b.bin", 256) == objects.get("a/b.bin", 300, 4) == objects.get("a/b.bin", 3, 0) == b""
    info = objects.info("a/b.bin")
    assert info is not None
    assert info[:2] == ("a/b.bin", 256)
    assert abs(info.modified - objects.now()) < 60
    source = tmp_path / "source"
    source.write_bytes(b"from a file")
    objects.put("a/b.bin", source)
    assert objects.get("a/b.bin") == b"from a file"
    objects.put("a/b.bin", [memoryview(b"two "), memoryview(b""), memoryview(b"buffers")])
    assert objects.get("a/b.bin") == b"two buffers"
    objects.put("empty", b"")
    assert objects.get("empty") == objects.get("empty", 0, 9) == b""


def test_a_missing_object_is_an_error_when_read_and_none_when_asked_about(objects: Objects) -> None:
    assert objects.info("no/such") is None
    for read in (objects.get, objects.local, lambda key: objects.get(key, 5, 5)):
        with pytest.raises(MissingObjectError, match="no/such does not exist"):
            read("no/such")
    objects.delete(["no/such"])


def test_put_if_absent_never_replaces(objects: Objects) -> None:
    assert objects.put_if_absent("x/record", b"first")
    assert not objects.put_if_absent("x/record", b"second")
    assert objects.get("x/record") == b"first"
    assert objects.put_if_absent("x/record", b"first"), "the same bytes again: they are there, whoever wrote them"
    objects.delete(["x/record"])
    assert objects.put_if_absent("x/record", b"second")


def test_of_many_writers_exactly_one_succeeds(objects: Objects) -> None:
    start, won = threading.Barrier(8), []

    def write(number: int) -> None:
        start.wait()
        if objects.put_if_absent("record", b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # versitygw over a directory looks first and writes after, so that it may tell several writers that they have won
    looks_first = not objects.is_local and "NLSIM_TEST_S3_LOOKS_FIRST" in os.environ
    assert len(won) == 1 or (looks_first and won)
    assert objects.get("record") in {b"%d" % number for number in won}
    assert keys(objects) == ["record"]


def test_lists_by_prefix_in_the_order_of_keys(objects: Objects) -> None:
    names = ["a-b/1", "a.json", "a/1", "a/2/x", "a/2y", "a0", "b/é", "_c"]
    for name in names:
        objects.put(name, name.encode())
    assert keys(objects) == sorted(names)
    for prefix in ("a", "a/", "a/2", "a/2/", "a-", "b/", "nothing", "a/2/x/"):
        assert keys(objects, prefix) == sorted(name for name in names if name.startswith(prefix))
    assert [info.size for info in objects.list("a/")] == [3, 5, 4]
    objects.delete(["a/1", "a/2/x", "nothing"])
    assert keys(objects, "a/") == ["a/2y"]


def test_pages_and_batches(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nlsim.store.s3.PER_DELETION", 3)
    names = [f"k/{number:03d}" for number in range(10)]
    for name in names:
        objects.put(name, b"")
    assert keys(objects) == names
    objects.delete(iter(names[1:]))
    assert keys(objects) == names[:1]


def test_a_local_file_is_checked(objects: Objects, tmp_path: Path) -> None:
    objects.put("a/b", b"content")
    (tmp_path / "same").write_bytes(b"content")
    right = file_sha256(tmp_path / "same")
    assert objects.local("a/b").read_bytes() == objects.local("a/b", right).read_bytes() == b"content"
    with pytest.raises(DamagedObjectError, match=r"a/b is damaged .* verify --repair"):
        objects.local("a/b", "0" * 64)
    objects.put("a/b", b"changed")
    assert objects.local("a/b").read_bytes() == b"changed"


def test_survives_pickling(objects: Objects) -> None:
    objects.put("a", b"1")
    assert pickle.loads(pickle.dumps(objects)).get("a") == b"1"  # noqa: S301


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", "./a", "a\nb", "a/\x00"])
def test_no_key_leads_out_of_the_store(objects: Objects, key: str) -> None:
    for use in (
        objects.get,
        objects.info,
        objects.local,
        lambda key: objects.put(key, b""),
        lambda key: objects.delete([key]),
    ):
        with pytest.raises(DataError, match="not an object key"):
            use(key)


@given(st.text(max_size=30))
def test_every_text_is_a_safe_key_or_refused(key: str) -> None:
    try:
        checked_key(key)
    except DataError:
        return
    root = Path("/root/of/store")
    assert (root / key).resolve().is_relative_to(root)
    assert (root / key).resolve() != root


@pytest.mark.parametrize(
    ("url", "root"), [("/x/y", "/x/y"), ("file:///x/y%20z", "/x/y z"), ("file://localhost/x", "/x"), ("/x/../y", "/y")]
)
def test_directory_urls(url: str, root: str) -> None:
    assert open_objects(url).url == root


@pytest.mark.parametrize(("url", "shown"), [("s3://bucket", "s3://bucket"), ("s3://bucket/a/b/", "s3://bucket/a/b")])
def test_s3_urls(url: str, shown: str) -> None:
    assert open_objects(url).url == shown


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("", "empty"),
        ("gs://bucket/x", "not a store URL"),
        ("https://host/x", "not a store URL"),
        ("file://host/x", "not a store URL"),
        ("s3://", "names no bucket"),
        ("s3://bucket/x?y", "not a store URL"),
        ("s3://bucket/../x", "not an object key"),
        ("s3://[x/y", "cannot be parsed"),
        ("~no-such-user/runs", "no such home folder"),
    ],
)
def test_other_urls_are_refused(url: str, error: str) -> None:
    with pytest.raises(NlsimError, match=error):
        open_objects(url)


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        open_objects("s3://AKIDSECRET:hunter2@bucket/x")
    assert "carries credentials" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@given(st.lists(st.binary(max_size=9), max_size=5), st.integers(0, 50), st.integers(0, 50))
def test_buffers_read_as_one_file(parts: list[bytes], start: int, length: int) -> None:
    reader = BufferReader([memoryview(part) for part in parts])
    whole = b"".join(parts)
    assert reader.read() == whole
    reader.seek(start)
    target, got = bytearray(length), 0
    while count := reader.readinto(memoryview(target)[got:]):
        got += count
    assert bytes(target[:got]) == whole[start : start + length]
    assert reader.seek(0, 2) == len(whole)
