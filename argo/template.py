"""A pipeline as an Argo WorkflowTemplate.

    plan ─► for each stage a fan-out over the indices of its missing shards ─► report;  exit hook: the run's status

Only indices travel through Argo: a pod finds everything else in the run. Shard counts follow from the configuration, so
the template is made for one configuration; the step `plan` compares, and leaves out the shards that are committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hera.workflows import (
    DAG,
    Container,
    Counter,
    Gauge,
    Label,
    Parameter,
    Resource,
    RetryPolicy,
    RetryStrategy,
    Task,
    WorkflowTemplate,
)
from hera.workflows import models as m

from argo import job, pod
from argo.strict import checked
from nlsim import __version__

if TYPE_CHECKING:
    from argo.cluster import Cluster
    from argo.pod import Json
    from nlsim.config import Config
    from nlsim.pipeline.pipeline import Pipeline
    from nlsim.pipeline.stage import Resources

RUN = "{{workflow.parameters.run}}"
FAN_OUT = "/tmp/fan-out"  # noqa: S108 - in the container
HELPER_QUANTITIES = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}}
"""For the containers that Argo adds: a quota counts them too."""
MEMORY_GROWTH = 2
"""A shard's memory grows with its attempts up to this many times its own: enough after an out-of-memory kill, and not
so much that a shard that was merely preempted fits nowhere any more."""


class StageShape(NamedTuple):
    """What the template needs to know of a stage."""

    name: str
    inputs: tuple[str, ...]
    shards: int
    resources: Resources

    def as_job(self, cluster: Cluster) -> bool:
        """Whether it is one Indexed Job behind one node."""
        return self.shards > cluster.max_pods


def shapes_of(pipeline: Pipeline, config: Config) -> list[StageShape]:
    """The stages of `pipeline` under `config`, in order."""
    return [
        StageShape(stage.name, tuple(stage.inputs), stage.shards(config), stage.resources(config))
        for stage in pipeline.stages
    ]


def workflow_template(name: str, shapes: list[StageShape], cluster: Cluster) -> WorkflowTemplate:
    """The WorkflowTemplate called `name`. Its one parameter is the URL of a run that was created before."""
    with WorkflowTemplate(
        name=name,
        namespace=cluster.namespace,
        labels={"app.kubernetes.io/name": "nlsim", "app.kubernetes.io/version": __version__},
        annotations={
            "workflows.argoproj.io/title": name,
            "workflows.argoproj.io/description": " → ".join(shape.name for shape in shapes),
        },
        workflow_metadata=checked(
            m.WorkflowMetadata, {"labels": {"app.kubernetes.io/name": "nlsim", "nlsim/template": name}}
        ),
        pod_metadata=checked(m.Metadata, {"labels": {"app.kubernetes.io/name": "nlsim"}}),
        entrypoint="run",
        arguments=Parameter(
            name="run", description="URL of the run, e.g. s3://bucket/prefix (`nlsim submit` makes it)"
        ),
        service_account_name=cluster.stage_account,
        automount_service_account_token=False,
        executor=checked(m.ExecutorConfig, {"serviceAccountName": cluster.executor_account}),
        security_context=checked(m.PodSecurityContext, pod.pod_security()),
        image_pull_secrets=[checked(m.LocalObjectReference, {"name": n}) for n in cluster.images.pull_secrets] or None,
        parallelism=cluster.parallelism,
        hooks={"exit": m.LifecycleHook(template="finish")},
        pod_gc=checked(m.PodGC, {"strategy": "OnPodSuccess", "deleteDelayDuration": "60s"}),
        ttl_strategy=checked(m.TTLStrategy, {"secondsAfterCompletion": int(cluster.keep_days * 86_400)}),
        metrics=[
            Counter(name="nlsim_runs_total", help="Finished runs", labels=[status_label()], value="1"),
            Gauge(name="nlsim_run_seconds", help="Age of a run", realtime=True, value="{{workflow.duration}}"),
        ],
    ) as template:
        plan = plan_template(shapes, cluster)
        finish_template(shapes, cluster)
        carriers = {
            shape.name: job_template(shape, cluster) if shape.as_job(cluster) else fan_out_template(shape, cluster)
            for shape in shapes
        }
        with DAG(name="run", fail_fast=cluster.on_failure == "stop"):
            Task(name="plan", template=plan)
            for shape in shapes:
                left = f"{{{{tasks.plan.outputs.parameters.{shape.name}}}}}"
                Task(
                    name=shape.name,
                    template=carriers[shape.name],
                    dependencies=["plan", *shape.inputs],
                    arguments=None if shape.as_job(cluster) else Parameter(name="shards", value=left),
                    when=f"{left} != 0" if shape.as_job(cluster) else None,
                )
    return template


def plan_template(shapes: list[StageShape], cluster: Cluster) -> Container:
    """Writes plan.json and, per stage, what is left: the missing indices, or how many for a stage that is a Job."""
    args = ["fan-out", "--run", RUN, "--to", FAN_OUT, "--max-pods", str(cluster.max_pods)]
    for shape in shapes:
        if shape.as_job(cluster):
            args += ["--job", f"{shape.name}={shape.shards}"]
    outputs = [Parameter(name=shape.name, value_from=m.ValueFrom(path=f"{FAN_OUT}/{shape.name}")) for shape in shapes]
    return container("plan", args, pod.planning(cluster), cluster, outputs=outputs)


def finish_template(shapes: list[StageShape], cluster: Cluster) -> None:
    """The exit hook `finish`: writes the run's status, and first stops Jobs that a stopped workflow left running."""
    args = ["record", "--run", RUN, "--state", "{{workflow.status}}", "--by", "{{workflow.name}}"]
    if not any(shape.as_job(cluster) for shape in shapes):
        container("finish", args, pod.planning(cluster), cluster)
        return
    record = container("record", args, pod.planning(cluster), cluster)
    stop = Resource(
        name="stop-jobs",
        action="delete",
        flags=["jobs", "--selector", "nlsim/workflow={{workflow.name}}", "--ignore-not-found"],
        **resource_pod(cluster),
    )
    with DAG(name="finish"):
        stopped = Task(name="stop-jobs", template=stop, when="{{workflow.status}} != Succeeded")
        stopped >> Task(name="record", template=record)


def fan_out_template(shape: StageShape, cluster: Cluster) -> DAG:
    """One pod for each index of the JSON list `shards`."""
    shard = container(
        f"{shape.name}-shard",
        ["stage", shape.name, "--run", RUN, "--shard-index", "{{inputs.parameters.index}}"],
        shape.resources,
        cluster,
        inputs=[Parameter(name="index")],
    )
    with DAG(
        name=shape.name,
        inputs=Parameter(name="shards"),
        parallelism=cluster.parallelism,
        fail_fast=cluster.on_failure == "stop",
        metrics=[
            Gauge(
                name="nlsim_stage_seconds",
                help="Duration of a stage",
                labels=[Label(key="stage", value=shape.name), status_label("{{status}}")],
                realtime=False,
                value="{{duration}}",
            )
        ],
    ) as dag:
        Task(
            name=shape.name,
            template=shard,
            with_param="{{inputs.parameters.shards}}",
            arguments=Parameter(name="index", value="{{item}}"),
        )
    return dag


def job_template(shape: StageShape, cluster: Cluster) -> Resource:
    """One Indexed Job behind one node."""
    stage_job = job.stage_job(
        cluster, shape.resources, ["stage", shape.name, "--run", RUN], shape.shards, "", "", shape.name
    )
    stage_job["metadata"]["generateName"] = f"{{{{workflow.name}}}}-{shape.name}-"
    for place in (stage_job["metadata"], stage_job["spec"]["template"]["metadata"]):
        place.pop("name", None)
        place["labels"] |= {"nlsim/workflow": "{{workflow.name}}"}
        place["labels"].pop("nlsim/run")
    return Resource(
        name=shape.name,
        action="create",
        manifest=pod.compact(stage_job),
        set_owner_reference=True,
        success_condition=f"status.succeeded == {shape.shards}",
        # A failed Job has the conditions FailureTarget and Failed; one that Kueue held back before, Suspended first.
        failure_condition="status.conditions.1.type in (FailureTarget, Failed)",
        **resource_pod(cluster),
    )


def container(
    name: str,
    args: list[str],
    resources: Resources,
    cluster: Cluster,
    inputs: list[Parameter] | None = None,
    outputs: list[Parameter] | None = None,
) -> Container:
    """A template that runs `nlsim ARGS` in one pod."""
    main = pod.stage_container(cluster, resources, args)
    place = pod.placement(cluster, resources)
    semaphore = cluster.gpu.semaphore if resources.gpus else None
    lock = {"semaphores": [{"configMapKeyRef": {"name": semaphore, "key": "gpu"}}]}
    return Container(
        name=name,
        image=main["image"],
        image_pull_policy=main["imagePullPolicy"],
        command=main["command"],
        args=main["args"],
        env=[checked(m.EnvVar, variable) for variable in main["env"]],
        env_from=[checked(m.EnvFromSource, source) for source in main["envFrom"]],
        resources=checked(m.ResourceRequirements, main["resources"]),
        volumes=[checked(m.Volume, volume) for volume in pod.volumes(cluster, resources)],
        volume_mounts=[checked(m.VolumeMount, mount) for mount in main["volumeMounts"]],
        security_context=checked(m.SecurityContext, main["securityContext"]),
        node_selector=place.get("nodeSelector"),
        tolerations=[checked(m.Toleration, taint) for taint in place.get("tolerations", [])] or None,
        priority_class_name=place.get("priorityClassName"),
        synchronization=checked(m.Synchronization, lock) if semaphore is not None else None,
        active_deadline_seconds=int(cluster.shard_hours * 3600),
        retry_strategy=retry(cluster),
        pod_spec_patch=pod.compact(container_patch(cluster, resources)),
        inputs=inputs,
        outputs=outputs,
    )


def container_patch(cluster: Cluster, resources: Resources) -> Json:
    """What a pod needs beyond Argo's fields: the containers that Argo adds must fit `restricted` too."""
    memory = pod.memory_mi(resources)
    grown = f"{{{{=string({memory} * min(1 + asInt(retries), {MEMORY_GROWTH}))}}}}Mi"
    helper = {"securityContext": pod.container_security(), "resources": HELPER_QUANTITIES}
    patch: Json = {
        "terminationGracePeriodSeconds": cluster.grace_seconds,
        "enableServiceLinks": False,
        "initContainers": [{"name": "init", **helper}],
        "containers": [
            {"name": "wait", **helper},
            {"name": "main", "resources": {"requests": {"memory": grown}, "limits": {"memory": grown}}},
        ],
    }
    runtime = pod.placement(cluster, resources).get("runtimeClassName")
    return patch | ({"runtimeClassName": runtime} if runtime is not None else {})


def resource_pod(cluster: Cluster) -> Json:
    """Fields of a template that calls the API server: its pod has a token and no `wait` container."""
    helper = {"securityContext": pod.container_security(read_only=False), "resources": HELPER_QUANTITIES}
    patch = {"initContainers": [{"name": "init", **helper}], "containers": [{"name": "main", **helper}]}
    return {
        "service_account_name": cluster.jobs_account,
        "automount_service_account_token": True,
        "executor": checked(m.ExecutorConfig, {"serviceAccountName": cluster.jobs_account}),
        "archive_location": checked(m.ArtifactLocation, {"archiveLogs": False}),
        "retry_strategy": retry(cluster),
        "pod_spec_patch": pod.compact(patch),
    }


def retry(cluster: Cluster) -> RetryStrategy:
    """Try again what may pass by itself: pods that vanished, were evicted or killed, and exit code 75."""
    codes = ", ".join(map(str, pod.RETRIED_EXIT_CODES))
    return RetryStrategy(
        limit=str(cluster.retries),
        retry_policy=RetryPolicy.always,
        expression=f"lastRetry.status == 'Error' || asInt(lastRetry.exitCode) in [{codes}] "
        "|| lastRetry.message matches '(?i)evict|preempt|shutdown|pod deleted'",
        backoff=checked(m.Backoff, {"duration": "10s", "factor": 2, "cap": "10m"}),
        affinity=checked(m.RetryAffinity, {"nodeAntiAffinity": {}}) if cluster.spread_retries else None,
    )


def status_label(value: str = "{{workflow.status}}") -> Label:
    """The metric label that tells success from failure."""
    return Label(key="status", value=value)
