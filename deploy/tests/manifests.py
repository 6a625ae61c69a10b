#!/usr/bin/env python3
"""Whether the manifests for Kubernetes are what the schemas say, and whether their parts fit each other. No cluster is needed.

usage: manifests.py [-v]

Needs kubernetes-validate and the models of kserve: `python3 tools/fetch_test_clients.py kubernetes` brings them.

| kind | checked by |
| --- | --- |
| Service, StatefulSet, PodDisruptionBudget | the published schemas of every Kubernetes from 1.30 on, strictly |
| ServingRuntime, InferenceService | names and types of the models in KServe's SDK; containers as those of a Pod |
| InferencePool | its fields, written down below after its API reference: no package has its schema |

This checks neither what an admission webhook says, nor that anything runs.
"""
import copy
import importlib
import importlib.util
import pathlib
import re
import sys
import types
import unittest
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "kubernetes"
VERSIONS = [f"1.{minor}" for minor in range(30, 38)]

NAME = {"type": "string", "minLength": 1, "maxLength": 253}
LABEL = {"type": "string", "maxLength": 63}
PORT = {
    "type": "object",
    "properties": {"number": {"type": "integer", "minimum": 1, "maximum": 65535}},
    "required": ["number"],
    "additionalProperties": False,
}
POOL = {
    "type": "object",
    "properties": {
        "apiVersion": {"const": "inference.networking.k8s.io/v1"},
        "kind": {"const": "InferencePool"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "properties": {
                "selector": {
                    "type": "object",
                    "properties": {"matchLabels": {"type": "object", "additionalProperties": LABEL}},
                    "required": ["matchLabels"],
                    "additionalProperties": False,
                },
                "targetPorts": {"type": "array", "items": PORT, "minItems": 1, "maxItems": 8},
                "appProtocol": {"type": "string"},
                "endpointPickerRef": {
                    "type": "object",
                    "properties": {
                        "group": {"type": "string"},
                        "kind": NAME,
                        "name": NAME,
                        "port": PORT,
                        "failureMode": {"enum": ["FailOpen", "FailClose"]},
                    },
                    # A Service has many ports.
                    "required": ["name", "port"],
                    "additionalProperties": False,
                },
            },
            "required": ["selector", "targetPorts", "endpointPickerRef"],
            "additionalProperties": False,
        },
    },
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
}


class Wrong(Exception):
    """What is wrong with a manifest, and where."""


def kserve_model(name: str) -> type | None:
    """A model of KServe's SDK. The package itself is not imported: it would want a server's packages."""
    if "kserve" not in sys.modules:
        found = importlib.util.find_spec("kserve")
        package = types.ModuleType("kserve")
        package.__path__ = list(found.submodule_search_locations)
        models = types.ModuleType("kserve.models")
        models.__path__ = [f"{package.__path__[0]}/models"]
        sys.modules |= {"kserve": package, "kserve.models": models}
    module = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("v1_alpha", "v1alpha").replace("v1_beta", "v1beta")
    if importlib.util.find_spec(f"kserve.models.{module}") is None:
        return None
    return getattr(importlib.import_module(f"kserve.models.{module}"), name)


def check_kserve(value: Any, kind: str, place: str) -> None:
    """Checks a value against a type of the SDK, with all that is in it."""
    plain = {"str": str, "int": int, "bool": bool, "float": (int, float)}
    if kind in plain:
        if not isinstance(value, plain[kind]):
            raise Wrong(f"{place} is {value!r}, and no {kind}")
    elif listed := re.fullmatch(r"list\[(.*)\]", kind):
        if not isinstance(value, list):
            raise Wrong(f"{place} is no list")
        for index, item in enumerate(value):
            check_kserve(item, listed[1], f"{place}[{index}]")
    elif mapped := re.fullmatch(r"dict\(str, (.*)\)", kind):
        for name, item in value.items():
            check_kserve(item, mapped[1], f"{place}.{name}")
    elif kind == "V1ObjectMeta":
        check_core({"apiVersion": "v1", "kind": "ConfigMap", "metadata": value}, place)
    elif kind in ("V1Container", "V1Volume"):
        has = {"containers": [value]} if kind == "V1Container" else {"containers": [], "volumes": [value]}
        check_core({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": has}, place)
    elif model := kserve_model(kind):
        of_name = {field: name for name, field in model.attribute_map.items()}
        for field, item in value.items():
            if field not in of_name:
                raise Wrong(f"{place}.{field} is no field of {kind}")
            check_kserve(item, model.openapi_types[of_name[field]], f"{place}.{field}")
    else:
        raise Wrong(f"{place} is a {kind}, for which there is no check here")


def check_core(manifest: dict, place: str) -> None:
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.InvalidSchemaError) as error:
            raise Wrong(f"{place}, Kubernetes {version}: {error}") from None


def check(manifest: dict) -> None:
    """One manifest by its schema.

    # Errors
    It is none; the error names the place.
    """
    kind, place = manifest["kind"], f"{manifest['kind']} {manifest['metadata']['name']}"
    match manifest["apiVersion"]:
        case "serving.kserve.io/v1alpha1":
            check_kserve(manifest, f"V1alpha1{kind}", place)
        case "serving.kserve.io/v1beta1":
            check_kserve(manifest, f"V1beta1{kind}", place)
        case "inference.networking.k8s.io/v1":
            try:
                jsonschema.validate(manifest, POOL)
            except jsonschema.ValidationError as error:
                raise Wrong(f"{place}: {error.json_path}: {error.message}") from None
        case _:
            check_core(manifest, place)


def read(name: str) -> list[dict]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


FILES = ("server.yaml", "pool.yaml", "kserve.yaml")
MANIFESTS = {(one["kind"], one["metadata"]["name"]): one for name in FILES for one in read(name)}


def option(container: dict, name: str) -> str:
    return next(word.partition("=")[2] for word in container["args"] if word.startswith(f"--{name}="))


def n_gib(size: str) -> int:
    return int(re.fullmatch(r"(\d+)Gi?B?", size)[1])


class Schemas(unittest.TestCase):
    def test_every_manifest_is_what_its_schema_says(self):
        for (kind, name), manifest in MANIFESTS.items():
            with self.subTest(kind=kind, name=name):
                check(manifest)

    def test_a_wrong_manifest_is_found(self):
        def broken(kind, name, *path, value):
            one = copy.deepcopy(MANIFESTS[kind, name])
            *folders, last = path
            inner = one
            for step in folders:
                inner = inner[step]
            inner[last] = value
            with self.assertRaises(Wrong, msg=f"{kind} {path}"):
                check(one)

        container = ("spec", "template", "spec", "containers", 0)
        broken("StatefulSet", "lossy", *container, "readynessProbe", value={})
        broken("StatefulSet", "lossy", *container, "ports", 0, "containerPort", value="http")
        broken("Service", "lossy", "spec", "selectors", value={})
        broken("PodDisruptionBudget", "lossy", "spec", "minimum", value=1)
        broken("InferencePool", "lossy", "spec", "endpointPickerRef", "portNumber", value=9002)
        broken("InferencePool", "lossy", "spec", "targetPorts", value=[8080])
        broken("ServingRuntime", "lossy", "spec", "modelFormats", value=[])
        broken("ServingRuntime", "lossy", "spec", "supportedModelFormats", 0, "autoSelect", value="yes")
        broken("ServingRuntime", "lossy", "spec", "containers", 0, "readynessProbe", value={})
        broken("InferenceService", "model", "spec", "predictor", "model", "storageURI", value="pvc://models")


class Parts(unittest.TestCase):
    """What no schema says: that the parts fit each other and the program."""

    def setUp(self):
        self.pods = MANIFESTS["StatefulSet", "lossy"]["spec"]["template"]
        self.container = self.pods["spec"]["containers"][0]
        self.runtime = MANIFESTS["ServingRuntime", "lossy"]["spec"]["containers"][0]

    def test_all_that_select_pods_select_these(self):
        labels = self.pods["metadata"]["labels"].items()
        server = MANIFESTS["StatefulSet", "lossy"]["spec"]
        selectors = [MANIFESTS["Service", name]["spec"]["selector"] for name in ("lossy", "lossy-servers")]
        selectors += [server["selector"]["matchLabels"]]
        others = [MANIFESTS[kind, "lossy"]["spec"] for kind in ("PodDisruptionBudget", "InferencePool")]
        selectors += [other["selector"]["matchLabels"] for other in others]
        for selector in selectors:
            self.assertLessEqual(selector.items(), labels)
        self.assertIn(("Service", server["serviceName"]), MANIFESTS)

    def test_ports_are_the_one_that_it_listens_at(self):
        for container in (self.container, self.runtime):
            port = container["ports"][0]["containerPort"]
            self.assertIn({"name": "LOSSY_PORT", "value": str(port)}, container["env"])
            self.assertIn({"name": "LOSSY_HOST", "value": "0.0.0.0"}, container["env"])
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                self.assertEqual(container[probe]["httpGet"]["path"], "/health")
                self.assertIn(container[probe]["httpGet"]["port"], (port, container["ports"][0]["name"]))
            self.assertEqual(MANIFESTS["InferencePool", "lossy"]["spec"]["targetPorts"], [{"number": port}])

    def test_a_pod_may_drain_before_it_is_killed(self):
        grace = self.pods["spec"]["terminationGracePeriodSeconds"]
        pause = self.container["lifecycle"]["preStop"]["sleep"]["seconds"]
        self.assertGreater(grace, pause + int(option(self.container, "drain-timeout")))
        # Others hear that it goes before it stops listening.
        readiness = self.container["readinessProbe"]
        self.assertGreater(pause, readiness["periodSeconds"] * readiness["failureThreshold"])
        predictor = MANIFESTS["InferenceService", "model"]["spec"]["predictor"]
        self.assertGreater(predictor["terminationGracePeriodSeconds"], int(option(self.runtime, "drain-timeout")))

    def test_caches_fit_into_their_memory_and_disk(self):
        memory = n_gib(self.container["resources"]["limits"]["memory"])
        self.assertLess(n_gib(option(self.container, "kv-budget")), memory)
        self.assertLessEqual(n_gib(option(self.container, "cache-ram")), n_gib(option(self.container, "kv-budget")))
        disk = MANIFESTS["StatefulSet", "lossy"]["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
        self.assertLess(n_gib(option(self.container, "cache-disk")), n_gib(disk))

    def test_nothing_runs_as_root_or_writes_to_its_image(self):
        for container in (self.container, self.runtime):
            rights = container["securityContext"]
            self.assertEqual((rights["readOnlyRootFilesystem"], rights["allowPrivilegeEscalation"]), (True, False))
            self.assertEqual(rights["capabilities"], {"drop": ["ALL"]})
        self.assertTrue(self.pods["spec"]["securityContext"]["runAsNonRoot"] and self.runtime["securityContext"]["runAsNonRoot"])
        runtime = MANIFESTS["ServingRuntime", "lossy"]["spec"]
        for container in (self.container, self.runtime):
            # What it learns about a model needs a place.
            self.assertIn({"name": "HOME", "value": "/cache"}, container["env"])
            self.assertIn({"name": "cache", "mountPath": "/cache"}, container["volumeMounts"])
        self.assertEqual([volume["name"] for volume in runtime["volumes"]], ["cache"])
        user = re.search(r"^USER (\d+)", (FOLDER.parent / "Containerfile").read_text(), re.MULTILINE)[1]
        self.assertEqual(self.pods["spec"]["securityContext"]["runAsUser"], int(user))

    def test_the_router_of_llm_d_knows_whose_metrics_it_reads(self):
        self.assertEqual(self.pods["metadata"]["labels"]["llm-d.ai/engine-type"], "vllm")


if __name__ == "__main__":
    unittest.main()
