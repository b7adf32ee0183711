"""Judges objects of Kubernetes by the schemas of its releases: reads one as JSON from each line of standard input,
and prints a line for each of them that a release would refuse.

    python validate.py 1.37.0 1.36.0
    python validate.py --newest 3     prints the newest releases whose schemas are there, and reads nothing
"""
import functools
import json
import sys

from kubernetes_validate import utils

# The definitions of a release are read and compiled for each object otherwise.
utils.schema_contents = functools.cache(utils.schema_contents)


def refusals(thing, release):
    try:
        utils.validate(thing, release, strict=True)
    except utils.ValidationError as error:
        yield f"{'.'.join(map(str, error.path))}: {error.message}"
    except utils.SchemaNotFoundError:
        yield "has no schema"


if sys.argv[1] == "--newest":
    # Each release is there twice, once for each strictness.
    releases = list(dict.fromkeys(reversed(utils.all_versions())))
    print("\n".join(releases[: int(sys.argv[2])]))
    sys.exit()
for line in sys.stdin:
    thing = json.loads(line)
    for release in sys.argv[1:]:
        for refusal in refusals(thing, release):
            print(f"{thing['kind']} {thing['metadata']['name']} on {release}: {refusal[:500]}")
