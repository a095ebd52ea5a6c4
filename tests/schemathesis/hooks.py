"""What Schemathesis takes for another thing than the control plane does, each with its reason."""

import schemathesis


@schemathesis.hook
def map_body(context, body):
    """To JSON Schema 60.0 is an integer. The control plane takes only what is written as one."""
    return written_as_integers(body)


def written_as_integers(value):
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: written_as_integers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [written_as_integers(item) for item in value]
    return value
