"""What a cluster must have before a run is submitted, each missing thing as one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from argo.api import GROUP, VERSION

if TYPE_CHECKING:
    from argo.api import Api
    from argo.cluster import Cluster
    from argo.template import StageShape

INSTALL = "install charts/nlsim, or apply k8s/"
VERBS = {
    "argo": {
        (GROUP, "workflows"): ("create", "get", "list"),
        (GROUP, "workflowtemplates"): ("create", "get"),
        ("", "pods"): ("list",),
    },
    "job": {("batch", "jobs"): ("create", "get", "delete"), ("", "pods"): ("list",), ("", "events"): ("list",)},
}


def problems(api: Api, cluster: Cluster, engine: str, shapes: list[StageShape]) -> list[str]:
    """What is missing for `engine`; empty when the run can be submitted. What may not be read is not missing."""
    if missing := _absent(partial(api.core.read_namespace, api.namespace)):
        return [f"namespace {api.namespace} {missing}: kubectl apply -k k8s/base"]
    return [*_forbidden(api, engine), *_argo(api, cluster, engine, shapes), *_objects(api, cluster, shapes)]


def _forbidden(api: Api, engine: str) -> Iterator[str]:
    """Verbs that the user of this kubeconfig lacks."""
    reviews = client.AuthorizationV1Api()
    for (group, resource), verbs in VERBS[engine].items():
        for verb in verbs:
            body = {
                "spec": {
                    "resourceAttributes": {
                        "namespace": api.namespace,
                        "verb": verb,
                        "group": group,
                        "resource": resource,
                    }
                }
            }
            answer = api.call("ask for permissions", reviews.create_self_subject_access_review, body)
            if not answer.status.allowed:
                yield f"you may not {verb} {resource} in namespace {api.namespace}: ask for the role nlsim-submitter"


def _argo(api: Api, cluster: Cluster, engine: str, shapes: list[StageShape]) -> Iterator[str]:
    """What only workflows need."""
    if engine != "argo":
        return
    if missing := _absent(partial(api.custom.get_api_resources, GROUP, VERSION)):
        yield f"Argo Workflows ({GROUP}/{VERSION}) {missing} on this cluster: install it, or use --engine job"
    accounts = [cluster.executor_account]
    if any(shape.as_job(cluster) for shape in shapes):
        accounts.append(cluster.jobs_account)
    for account in accounts:
        if missing := _absent(partial(api.core.read_namespaced_service_account, account, api.namespace)):
            yield f"service account {account} {missing}: {INSTALL}"
    token = f"{cluster.executor_account}.service-account-token"
    if missing := _absent(partial(api.core.read_namespaced_secret, token, api.namespace)):
        yield f"secret {token} (the executor's token) {missing}: {INSTALL}"


def _objects(api: Api, cluster: Cluster, shapes: list[StageShape]) -> Iterator[str]:
    """Objects that pods refer to."""
    core, namespace = api.core, api.namespace
    if missing := _absent(partial(core.read_namespaced_service_account, cluster.stage_account, namespace)):
        yield f"service account {cluster.stage_account} {missing}: {INSTALL}"
    if not cluster.workload_identity and (
        missing := _absent(partial(core.read_namespaced_secret, cluster.secret, namespace))
    ):
        yield (
            f"secret {cluster.secret} {missing}: kubectl create secret generic {cluster.secret} -n {namespace} "
            "--from-literal=AWS_ACCESS_KEY_ID=… --from-literal=AWS_SECRET_ACCESS_KEY=…"
        )
    for name in cluster.images.pull_secrets:
        if missing := _absent(partial(core.read_namespaced_secret, name, namespace)):
            yield f"image pull secret {name} {missing}"
    claim = cluster.model_cache
    if claim and (missing := _absent(partial(core.read_namespaced_persistent_volume_claim, claim, namespace))):
        yield f"model cache: persistent volume claim {claim} {missing}"
    if not any(shape.resources.gpus for shape in shapes):
        return
    semaphore, priority = cluster.gpu.semaphore, cluster.gpu.priority_class
    if semaphore and (missing := _absent(partial(core.read_namespaced_config_map, semaphore, namespace))):
        yield f"GPU semaphore: config map {semaphore} {missing}: {INSTALL}"
    if priority and (missing := _absent(partial(client.SchedulingV1Api().read_priority_class, priority))):
        yield f"priority class {priority} {missing}"


def _absent(read: Callable[[], Any]) -> str:
    """`is missing` when `read` finds nothing, else nothing: what may not be read is given the benefit of the doubt."""
    try:
        read()
    except ApiException as error:
        if error.status == 404:
            return "is missing"
    return ""
