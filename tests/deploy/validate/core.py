"""Validates objects against the schemas of Kubernetes, and of the custom resources in tests/deploy/schemas.

Reads a JSON list of objects from standard input, and writes a JSON list with null or the problem of each.
"""

import json
import pathlib
import sys

import jsonschema
import kubernetes_validate

KUBERNETES = "1.37.0"
SCHEMAS = pathlib.Path(__file__).parent.parent / "schemas"


def problem(thing):
    custom = SCHEMAS / f"{thing['kind']}.json"
    if "." in thing["apiVersion"] and custom.exists():
        error = jsonschema.exceptions.best_match(
            jsonschema.Draft7Validator(json.loads(custom.read_text())).iter_errors(thing)
        )
        return error and f"{error.json_path}: {error.message}"
    try:
        kubernetes_validate.validate(thing, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        return f"no schema: {error}"
    return None


json.dump([problem(thing) for thing in json.load(sys.stdin)], sys.stdout)
