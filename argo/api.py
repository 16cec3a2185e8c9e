"""The cluster's API through the `kubernetes` package alone, with its refusals as one clear line each."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from nlsim.errors import TransientError, UsageError

if TYPE_CHECKING:
    from argo.pod import Json

GROUP = "argoproj.io"
VERSION = "v1alpha1"


class Api(NamedTuple):
    """Clients of one cluster."""

    context: str
    """Name of the context in use, or `in-cluster`."""
    namespace: str
    core: client.CoreV1Api
    batch: client.BatchV1Api
    custom: client.CustomObjectsApi

    def workflow(self, name: str) -> Json:
        """A Workflow. Raises UsageError when it is gone."""
        found: Json = self.call(
            f"read workflow {name}",
            self.custom.get_namespaced_custom_object, GROUP, VERSION, self.namespace, "workflows", name,
        )  # fmt: skip
        return found

    def workflows(self, selector: str) -> list[Json]:
        """Workflows with the labels of `selector`."""
        found = self.call(
            "list workflows",
            self.custom.list_namespaced_custom_object, GROUP, VERSION, self.namespace, "workflows",
            label_selector=selector,
        )  # fmt: skip
        return list(found["items"])

    def create(self, plural: str, body: Json) -> Json:
        """Create a Workflow or WorkflowTemplate; an existing one of the same name is returned as it is."""
        what = f"create {body['kind']} {body['metadata'].get('name', '')}".rstrip()
        create, arguments = self.custom.create_namespaced_custom_object, (GROUP, VERSION, self.namespace, plural)
        try:
            return cast("Json", create(*arguments, body, field_validation="Strict"))
        except ApiException as error:
            if error.status == 409:
                there: Json = self.call(
                    what, self.custom.get_namespaced_custom_object,
                    GROUP, VERSION, self.namespace, plural, body["metadata"]["name"],
                )  # fmt: skip
                return there
            raise explained(what, error) from error

    def call(self, what: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """`function(...)`, its refusal as a UsageError that starts with `what`, a lost connection as TransientError."""
        try:
            return function(*args, **options)
        except ApiException as error:
            raise explained(what, error) from error
        except HTTPError as error:
            raise unanswered(what, error) from error

    def find(self, what: str, function: Callable[..., Any], *args: Any) -> Any | None:
        """`call`, or None for what is not there."""
        try:
            return function(*args)
        except ApiException as error:
            if error.status == 404:
                return None
            raise explained(what, error) from error
        except HTTPError as error:
            raise unanswered(what, error) from error


def connect(namespace: str, context: str | None = None, confirmed: bool = False) -> Api:
    """Connect to the kubeconfig's cluster, or to the one this runs in.

    Raises UsageError without a kubeconfig, for an unknown context, for a cluster that does not answer, and for a
    context that looks like production unless `confirmed`.
    """
    try:
        if context is None and "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            config.load_incluster_config()
            name = "in-cluster"
        else:
            config.load_kube_config(context=context)
            name = context or str(config.list_kube_config_contexts()[1]["name"])
    except (ConfigException, OSError) as error:
        wanted = f"context {context}" if context is not None else "a cluster"
        raise UsageError(f"no configuration for {wanted}", f"set KUBECONFIG or ~/.kube/config ({error})") from error
    if re.search(r"prod", f"{name} {namespace}", re.IGNORECASE) and not confirmed:
        raise UsageError(
            f"context {name}, namespace {namespace} looks like production", "set CONFIRM=1 (--confirm) if you mean it"
        )
    api = Api(name, namespace, client.CoreV1Api(), client.BatchV1Api(), client.CustomObjectsApi())
    try:
        client.VersionApi().get_code(_request_timeout=10)
    except (ApiException, HTTPError) as error:
        host = client.Configuration.get_default_copy().host
        raise UsageError(f"the cluster of context {name} does not answer at {host}", reason_of(error)) from error
    return api


def explained(what: str, error: ApiException) -> UsageError:
    """The API server's refusal, in its own words."""
    try:
        message = str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        message = error.reason or str(error.status)
    todo = "ask for that permission (docs/cluster.md, Permissions)" if error.status == 403 else ""
    return UsageError(f"cannot {what}: {message}", todo)


def unanswered(what: str, error: HTTPError) -> TransientError:
    """The API server was not reached."""
    return TransientError(f"cannot {what}", f"the API server does not answer ({reason_of(error)})")


def reason_of(error: Exception) -> str:
    """The innermost cause of a failed connection, on one line."""
    return " ".join(str(getattr(error, "reason", None) or error).split())
