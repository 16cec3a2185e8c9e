"""What pods may not do."""

import json

import yaml
from cluster_bed import Bed, kubectl, until

from argo import pod
from argo.cluster import load_cluster
from nlsim.pipeline.stage import Resources

PROBE = """
import pathlib, ssl, urllib.error, urllib.request
assert not pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount").exists(), "a token is mounted"
try:
    context = ssl._create_unverified_context()
    urllib.request.urlopen("https://kubernetes.default/api/v1/secrets", context=context, timeout=20)
except urllib.error.HTTPError as error:
    assert error.code in (401, 403), error.code
else:
    raise SystemExit("the API answered")
try:
    pathlib.Path("/opt/nlsim/x").write_text("x")
except OSError:
    pathlib.Path("/tmp/x").write_text("x")
else:
    raise SystemExit("the root file system can be written")
"""


def can(bed: Bed, account: str, verb: str, resource: str) -> bool:
    who = f"system:serviceaccount:{bed.namespace}:{account}"
    return kubectl("auth", "can-i", verb, resource, "-n", bed.namespace, "--as", who, check=False).strip() == "yes"


def test_accounts_have_least_rights(bed: Bed) -> None:
    for resource in ("secrets", "pods", "configmaps", "workflows.argoproj.io", "jobs.batch"):
        for verb in ("get", "list", "create", "delete"):
            assert not can(bed, "nlsim-stage", verb, resource), f"stage may {verb} {resource}"
            assert not can(bed, "nlsim-executor", verb, resource), f"executor may {verb} {resource}"
    assert can(bed, "nlsim-executor", "create", "workflowtaskresults.argoproj.io")
    assert can(bed, "nlsim-executor", "patch", "workflowtaskresults.argoproj.io")
    assert not can(bed, "nlsim-executor", "list", "workflowtaskresults.argoproj.io")
    assert can(bed, "nlsim-jobs", "create", "jobs.batch")
    assert not can(bed, "nlsim-jobs", "get", "secrets")
    assert not can(bed, "nlsim-jobs", "create", "pods")


def test_a_stage_pod_reaches_no_secret_and_no_api(bed: Bed) -> None:
    spec = pod.pod_spec(load_cluster(bed.settings), Resources("cpu", 1, 1, 0), [])
    spec["containers"][0] |= {"command": ["python", "-c", PROBE]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe", "namespace": bed.namespace}, "spec": spec}
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(body))
    words = ("get", "pod", "probe", "-n", bed.namespace, "-o", "json")
    ended = until(
        "the probe",
        120,
        lambda: (found := json.loads(kubectl(*words)))["status"]["phase"] in {"Succeeded", "Failed"} and found,
    )
    assert ended["status"]["phase"] == "Succeeded", kubectl("logs", "probe", "-n", bed.namespace)


def test_a_privileged_pod_is_refused(bed: Bed) -> None:
    spec = pod.pod_spec(load_cluster(bed.settings), Resources("cpu", 1, 1, 0), [])
    spec["containers"][0]["securityContext"] = {"privileged": True}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad", "namespace": bed.namespace}, "spec": spec}
    said = kubectl("apply", "-f", "-", stdin=yaml.safe_dump(body), check=False)
    assert 'violates PodSecurity "restricted' in said
    assert "privileged" in said
