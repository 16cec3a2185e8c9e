"""S3 that misbehaves: every fault is either overcome or one clear line; no wrong byte is ever accepted."""

from collections.abc import Callable
from typing import Any

import fault_soak
import numpy as np
import pytest

from nlsim.errors import NlsimError, TransientError, UsageError
from nlsim.store import s3_errors
from nlsim.store.artifact import Artifact, ShardWriter
from nlsim.store.objects import DamagedObjectError, MissingObjectError, open_objects
from nlsim.store.s3 import S3Objects, make_client

Write = Callable[[ShardWriter], None]
SEPARATE = make_client
"""Makes a client for the environment as it is now; tests that change the environment put it back in place."""


def test_a_lost_answer_to_the_conditional_put_is_recognised_as_success(proxy: Any, s3_url: str) -> None:
    objects = open_objects(s3_url)
    proxy.fail("lost", "PUT", "record")
    assert objects.put_if_absent("record", b"mine"), "the repeated request finds what the first one wrote"
    assert [method for method, _ in proxy.requests] == ["PUT", "PUT", "GET"]
    proxy.fail("lost", "PUT", "record")
    assert not objects.put_if_absent("record", b"other")
    assert objects.get("record") == b"mine"


def test_a_conflict_of_two_conditional_puts_is_tried_again(proxy: Any, s3_url: str) -> None:
    objects = open_objects(s3_url)
    proxy.fail("409", "PUT", "record", times=3)
    assert objects.put_if_absent("record", b"mine")


def test_a_commit_that_loses_its_answer_commits_once(proxy: Any, s3_url: str, write: Write) -> None:
    artifact = Artifact(open_objects(s3_url), "cache", "00", 1)
    writer = artifact.begin(0)
    write(writer)
    proxy.fail("lost", "PUT", "_commit")
    assert writer.commit().attempt == writer.attempt
    assert artifact.verify() == []


def test_a_commit_that_never_gets_an_answer_keeps_its_data(proxy: Any, s3_url: str, write: Write) -> None:
    artifact = Artifact(open_objects(s3_url), "cache", "00", 1)
    writer = artifact.begin(0)
    write(writer)
    proxy.fail("lost", "PUT", "_commit", times=1000)
    with pytest.raises(TransientError, match="connection failed"):
        writer.commit()
    writer.discard()
    proxy.fault = lambda _method, _path: None
    assert artifact.is_committed(0)
    assert artifact.verify() == []


def test_an_object_that_appears_after_it_was_asked_for_was_not_there(proxy: Any, s3_url: str) -> None:
    """Another runner writes it between two requests: it must not pass for an empty one."""
    objects = open_objects(s3_url)
    objects.put("lineage.json", b"{}")
    proxy.fail("404", "GET", "lineage.json")
    with pytest.raises(MissingObjectError):
        objects.get("lineage.json")
    assert objects.get("lineage.json") == b"{}"
    assert objects.get("lineage.json", 2, 5) == b"", "what begins at the end is empty"


def test_a_checksum_of_the_store_that_stays_wrong_is_damage(proxy: Any, s3_url: str) -> None:
    objects = open_objects(s3_url)
    objects.put("a", b"hello")
    proxy.fail("checksum", "GET", "a", times=100)
    for read in (lambda: objects.get("a"), lambda: objects.local("a")):
        with pytest.raises(DamagedObjectError, match=r"/a is damaged \(the store's own checksum does not match\)"):
            read()


@pytest.mark.parametrize("fault", ["reset", "truncated", "short", "flipped", "checksum", "slow", "500", "503"])
def test_a_read_that_fails_once_is_made_again(proxy: Any, s3_url: str, write: Write, fault: str) -> None:
    artifact = Artifact(open_objects(s3_url), "cache", "00", 1)
    writer = artifact.begin(0)
    write(writer)
    writer.commit()
    expected = Artifact(artifact.objects, "cache", "00", 1).array(0, "codes", "index").copy()
    for path, read in {
        "_commit": lambda a: a.record(0),
        "codes": lambda a: np.testing.assert_array_equal(a.array(0, "codes", "index"), expected),
        "stats": lambda a: a.table(0, "stats"),
        "facts": lambda a: a.json(0, "facts"),
        "raw": lambda a: a.path(0, "raw.bin"),
    }.items():
        proxy.fail(fault, "GET", path)
        read(Artifact(artifact.objects, "cache", "00", 1))


@pytest.mark.parametrize("fault", ["flipped", "short"])
def test_bytes_that_stay_wrong_are_refused(proxy: Any, s3_url: str, write: Write, fault: str) -> None:
    artifact = Artifact(open_objects(s3_url), "cache", "00", 1)
    writer = artifact.begin(0)
    write(writer)
    writer.commit()
    proxy.fail(fault, "GET", "/data/", times=10**6)
    for read in (
        lambda: artifact.arrays(0, "codes"),
        lambda: artifact.array(0, "codes", "index"),
        lambda: artifact.table(0, "stats"),
        lambda: artifact.path(0, "raw.bin"),
    ):
        artifact.refresh()
        with pytest.raises((DamagedObjectError, TransientError)):
            read()


def test_many_faults_lose_nothing_and_no_wrong_byte_is_accepted(proxy: Any, s3_url: str) -> None:
    """One request of three fails, each in a way drawn at random; `bench/soak.py --faults` does it for longer."""
    soaked = fault_soak.soak(proxy, s3_url, wanted=100, seed=3)
    assert set(fault_soak.ANY_REQUEST) <= set(soaked.faults)
    assert len(soaked.faults) >= 9
    assert soaked.shards >= 3
    assert soaked.attempts > soaked.shards
    assert soaked.reads


def test_uploads_that_never_finished_are_found_and_removed(s3_url: str) -> None:
    objects = open_objects(s3_url)
    assert isinstance(objects, S3Objects)
    make_client().create_multipart_upload(Bucket=objects.bucket, Key=objects.prefix + "cache/00/data/000000-aa/big.bin")
    assert list(objects.unfinished(0.0, remove=True)) == []
    (found,) = objects.unfinished(objects.now() + 3600)
    assert found.key == "cache/00/data/000000-aa/big.bin"
    assert len(list(objects.unfinished(objects.now() + 3600, remove=True))) == 1
    assert list(objects.unfinished(objects.now() + 3600)) == []
    assert list(objects.list()) == []


def test_without_conditional_puts_a_check_comes_first(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLSIM_S3_CONDITIONAL_PUT", "0")
    objects = open_objects(s3_url)
    assert objects.put_if_absent("record", b"mine")
    assert not objects.put_if_absent("record", b"other")
    assert objects.get("record") == b"mine"


def use(url: str) -> list[Callable[[], object]]:
    return [
        lambda: open_objects(url).put("a", b"1"),
        lambda: open_objects(url).put_if_absent("a", b"1"),
        lambda: open_objects(url).get("a"),
        lambda: open_objects(url).info("a"),
        lambda: list(open_objects(url).list()),
        lambda: open_objects(url).local("a"),
        lambda: open_objects(url).delete(["a"]),
        lambda: list(open_objects(url).unfinished(0)),
        lambda: open_objects(url).now(),
    ]


@pytest.mark.usefixtures("s3_url")
def test_no_bucket_is_one_clear_line_for_every_operation() -> None:
    for operation in use("s3://nlsim-no-such-bucket/x"):
        with pytest.raises(UsageError, match="there is no bucket nlsim-no-such-bucket at http://"):
            operation()


@pytest.mark.usefixtures("s3_url")
def test_an_endpoint_where_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("nlsim.store.s3.make_client", SEPARATE)
    with pytest.raises(TransientError, match=r"nothing answers at http://127\.0\.0\.1:9: check AWS_ENDPOINT_URL"):
        open_objects("s3://bucket/x").info("a")


def test_an_endpoint_that_is_not_s3(proxy: Any, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "no url")
    monkeypatch.setattr("nlsim.store.s3.make_client", SEPARATE)
    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL='no url' is not a URL"):
        open_objects(s3_url).info("a")
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    open_objects(s3_url).put("a", b"1")
    for page, line in {"html": "keeps failing", "xhtml": "is not S3: check AWS_ENDPOINT_URL"}.items():
        proxy.fail(page, "GET", "list-type", times=1000)
        with pytest.raises(NlsimError, match=f"at http://.* {line}"):
            list(open_objects(s3_url).list("nothing"))


def test_no_credentials(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setattr("nlsim.store.s3.make_client", SEPARATE)
    with pytest.raises(UsageError, match="no credentials for S3: set AWS_ACCESS_KEY_ID"):
        open_objects(s3_url).info("a")


@pytest.mark.parametrize(
    ("code", "status", "kind", "line"),
    [
        ("AccessDenied", 403, UsageError, "access denied"),
        ("403", 403, UsageError, "access denied"),
        ("InvalidAccessKeyId", 403, UsageError, "does not accept the credentials"),
        ("SignatureDoesNotMatch", 403, UsageError, "does not accept the credentials"),
        ("ExpiredToken", 400, UsageError, "credentials have expired"),
        ("RequestTimeTooSkewed", 403, UsageError, "clock"),
        ("NoSuchBucket", 404, UsageError, "no bucket"),
        ("PermanentRedirect", 301, UsageError, "another region"),
        ("NotImplemented", 501, UsageError, "NLSIM_S3_CONDITIONAL_PUT=0"),
        ("XMinioStorageFull", 507, TransientError, "is full"),
        ("SlowDown", 503, TransientError, "keeps failing"),
        ("InternalError", 500, TransientError, "keeps failing"),
        ("ConditionalRequestConflict", 409, TransientError, "keeps failing"),
        ("EntityTooLarge", 400, UsageError, r"refuses the request \(EntityTooLarge\)"),
    ],
)
def test_every_answer_has_its_line_and_exit_code(code: str, status: int, kind: type[NlsimError], line: str) -> None:
    error = s3_errors.response_error(code, status, "s3://bucket/x")
    assert type(error) is kind
    assert "\n" not in str(error)
    assert str(error).startswith("s3://bucket/x: ")
    with pytest.raises(kind, match=line):
        raise error


def test_denied_for_real(s3_url: str, s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that checks signatures answers wrong credentials; moto does not check, so its answer is given for it."""
    from botocore.awsrequest import AWSResponse

    class Raw:
        def stream(self, **_: object) -> list[bytes]:
            return [b"<Error><Code>AccessDenied</Code><Message>secret detail</Message></Error>"]

    objects = open_objects(s3_url)
    assert isinstance(objects, S3Objects)
    client = SEPARATE()
    client.meta.events.register(
        "before-send.s3", lambda request, **_: AWSResponse(request.url, 403, {"content-type": "application/xml"}, Raw())
    )
    monkeypatch.setattr("nlsim.store.s3.make_client", lambda: client)
    for operation in use(s3_url):
        with pytest.raises(UsageError, match=r"access denied at http://.*s3:GetObject") as caught:
            operation()
        assert "secret detail" not in str(caught.value)


def test_a_forked_process_makes_its_own_connections(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = open_objects(s3_url)
    assert isinstance(objects, S3Objects)
    made: list[int] = []
    inner = make_client

    def make() -> object:
        made.append(1)
        return inner()

    objects.info("a")
    monkeypatch.setattr("nlsim.store.s3.make_client", make)
    objects.info("a")
    assert made == []
    monkeypatch.setattr("os.getpid", lambda: -1)
    objects.info("a")
    assert made == [1]


def test_times_of_listings_are_utc(s3_url: str) -> None:
    objects = open_objects(s3_url)
    objects.put("a", b"1")
    (listed,) = objects.list()
    looked_at = objects.info("a")
    assert looked_at is not None
    assert abs(listed.modified - looked_at.modified) <= 1.0, "one is ISO 8601, the other a date of HTTP"
    assert abs(listed.modified - objects.now()) < 60
