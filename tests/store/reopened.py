"""An artifact as others see it."""

from nlsim.store.artifact import Artifact


def again(artifact: Artifact) -> Artifact:
    """The same artifact with nothing cached, as another process sees it."""
    return Artifact(artifact.objects, artifact.stage, artifact.fingerprint, artifact.shards)


def keys(artifact: Artifact) -> list[str]:
    """Every object of it, by key below its root."""
    return [info.key.removeprefix(artifact.root + "/") for info in artifact.objects.list()]
