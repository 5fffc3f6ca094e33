"""Holds Kubernetes files against the API's schemas, and tries whether that would see a misspelt field.

    python validate.py FILE...

Each document has to be right. Then each of its fields in turn gets another name; each time the schema has to refuse
it, or the field is one of a map whose keys are anybody's. Prints how much it looked at; exits 1 with what was wrong.
"""

import copy
import sys

import kubernetes_validate
import yaml

# What maps hold names that the API does not choose.
FREE = {"labels", "annotations", "matchLabels", "selector", "stringData", "requests", "limits"}
# An old one that is still in use, and the newest one that is known.
VERSIONS = ["1.30", "1.37"]


def fails(document, version=VERSIONS[-1]):
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        return str(error.message if hasattr(error, "message") else error)
    return None


def fields(value, path=()):
    """The path of each field that the API names."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not path or path[-1] not in FREE or "Expressions" in key:
                yield (*path, key)
            yield from fields(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from fields(inner, (*path, index))


def misspelt(document, path):
    document = copy.deepcopy(document)
    holder = document
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1] + "x"] = holder.pop(path[-1])
    return document


wrong, documents, tried = [], 0, 0
for name in sys.argv[1:]:
    with open(name, encoding="utf-8") as file:
        for document in yaml.safe_load_all(file):
            documents += 1
            for version in VERSIONS:
                error = fails(document, version)
                if error:
                    wrong.append(f"{name}: {document.get('kind')} of {version}: {error}")
            for path in fields(document):
                # Which schema is meant is said by these two.
                if path in (("apiVersion",), ("kind",)):
                    continue
                tried += 1
                if not fails(misspelt(document, path)):
                    wrong.append(f"{name}: {document.get('kind')}: not seen: {path}")
print(f"{documents} documents of Kubernetes {' and '.join(VERSIONS)}, {tried} misspelt fields")
for line in wrong:
    print(line)
sys.exit(bool(wrong))
